//! What the daemon and the enforcer say to each other: one JSON line each way, for one message of the verifier.

use std::{future::Future, io, time::Duration};

use bootkeep_protocol::{revocation::RevocationsCall, NodeId};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Where the enforcer listens.
pub const SOCKET: &str = "/run/bootkeep-enforce/socket";
/// Largest line (bytes): entries and a revocation list, in base64.
pub(crate) const MAX_LINE: u64 = 4 * 1024 * 1024;
/// How long a line may take to come, and to go out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// From the daemon. It is believed in nothing: the call is signed, and the node's certificate names the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Which node this is. Counts only on a node without a certificate.
    pub node_id: NodeId,
    /// As the verifier sent it.
    pub call: RevocationsCall,
}

/// The next line without its end; none at the end of the stream.
///
/// # Errors
/// When it is over the limit, is not whole or does not come in time.
pub(crate) async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    patience: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = reader.take(MAX_LINE + 1);
    in_time(patience, bounded.read_until(b'\n', &mut line)).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= MAX_LINE => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is over {MAX_LINE} bytes"),
        )),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one line.
///
/// # Errors
/// When the other side does not take it in time.
pub(crate) async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    in_time(PATIENCE, writer.write_all(&line)).await
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
