//! A node dials its verifiers.

use std::{sync::Arc, time::Duration};

use bootkeep_protocol::{
    link::{NodeFrame, ServerFrame},
    Role, EXPORTER_LABEL, EXPORTER_LEN,
};
use futures_util::{stream::FuturesUnordered, StreamExt};
use http::Request;
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{error::Error as WsError, handshake::client::generate_key},
    WebSocketStream,
};

use crate::{
    channel::{websocket_config, End, Receiver, Sender},
    connect::{connect, ATTEMPT},
    target::Target,
    watched::Watched,
    ClientTls, LinkError,
};

/// The node's end of a link.
pub type NodeEnd = End<NodeFrame, ServerFrame>;
/// The sending half of a [`NodeEnd`].
pub type LinkSender = Sender<NodeFrame>;
/// The receiving half of a [`NodeEnd`].
pub type LinkReceiver = Receiver<ServerFrame>;

/// Between the starts of the attempts at two URLs.
const STAGGER: Duration = Duration::from_millis(100);

type Socket = WebSocketStream<Watched<TlsStream<TcpStream>>>;

/// Opens a link to the first of these verifiers (`https://HOST:PORT`) that answers.
///
/// All URLs are tried at once, a little apart, each at all its addresses; every attempt has a deadline. Losers are dropped.
///
/// # Errors
/// [`LinkError::NoUrl`], or [`LinkError::Unreachable`] with the reason for each URL.
pub async fn dial(tls: &ClientTls, urls: &[String]) -> Result<NodeEnd, LinkError> {
    if urls.is_empty() {
        return Err(LinkError::NoUrl);
    }
    let config = tls.config(Role::Verifier)?;
    let mut attempts: FuturesUnordered<_> = urls
        .iter()
        .zip(0u32..)
        .map(|(url, place)| attempt(url, place, &config))
        .collect();
    let mut failures = Vec::new();
    while let Some(result) = attempts.next().await {
        match result {
            Ok(end) => return Ok(end),
            Err(failure) => failures.push(failure),
        }
    }
    Err(LinkError::Unreachable(failures))
}

async fn attempt(url: &str, place: u32, tls: &Arc<ClientConfig>) -> Result<NodeEnd, String> {
    sleep(STAGGER * place).await;
    let target = Target::parse(url)?;
    let stream = connect(&target, tls).await?;
    let exporter = exporter_of(&stream)?;
    let socket = timeout(ATTEMPT, upgrade(stream, &target))
        .await
        .map_err(|_| format!("{}: no answer to the upgrade", target.authority))??;
    tracing::debug!(verifier = %target.authority, "link connected");
    Ok(End::over(socket, exporter))
}

fn exporter_of(stream: &TlsStream<TcpStream>) -> Result<[u8; EXPORTER_LEN], String> {
    let (_, connection) = stream.get_ref();
    connection
        .export_keying_material([0; EXPORTER_LEN], EXPORTER_LABEL, None)
        .map_err(|error| format!("no TLS exporter: {error}"))
}

async fn upgrade(stream: TlsStream<TcpStream>, target: &Target) -> Result<Socket, String> {
    let base = target.path.trim_end_matches('/');
    let request = Request::builder()
        .uri(format!("wss://{}{base}/v1/link", target.authority))
        .header("Host", &target.authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .body(())
        .map_err(|error| error.to_string())?;
    let stream = Watched::new(stream, None);
    client_async_with_config(request, stream, Some(websocket_config()))
        .await
        .map(|(socket, _)| socket)
        .map_err(|error| format!("{}: {}", target.authority, explain(&error)))
}

fn explain(error: &WsError) -> String {
    match error {
        WsError::Http(response) => {
            format!("the verifier answered with status {}", response.status())
        }
        other => other.to_string(),
    }
}
