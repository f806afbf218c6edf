//! The enforcer's socket: for root on this machine only, bounded in everything.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use bootkeep_protocol::{
    link::{Outcome, Reply},
    Problem, ProblemKind,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};

use super::{
    enforcer::Enforcer,
    wire::{read_line, write_line, Told, MAX_LINE, PATIENCE},
};

/// Connections at the same time; more wait in the listener's queue.
const AT_ONCE: usize = 8;
/// Messages over one connection.
const MAX_MESSAGES: usize = 1024;

/// Listens at `path`, for the owner of this process only. What an enforcer before left there is replaced.
///
/// # Errors
/// When something else than a socket is there, or the folder cannot be written.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other(format!("{} is no socket", path.display()))),
        Err(_) => {}
    }
    // Its folder is root's alone (RuntimeDirectoryMode=0700): nobody comes in before the mode is set.
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves whoever connects, for ever.
pub(super) async fn serve(listener: UnixListener, enforcer: Arc<Enforcer>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_ours(&stream) => {
                let enforcer = Arc::clone(&enforcer);
                clients.spawn(async move {
                    if let Err(error) = client(stream, &enforcer).await {
                        tracing::warn!(%error, "a client is left");
                    }
                    drop(permit);
                });
            }
            Ok(_) => tracing::warn!("a client that is not root is left"),
            Err(error) => {
                tracing::warn!(%error, "a client could not be taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// The mode of socket and folder says it already; this holds when somebody has changed them.
fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Messages of one client, one after the other, until it hangs up or does not keep to the rules.
async fn client(stream: UnixStream, enforcer: &Enforcer) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    for _ in 0..MAX_MESSAGES {
        let line = match read_line(&mut reader, PATIENCE).await {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => line,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                write_line(&mut writer, &Outcome::Refused(too_large())).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let outcome = answer(enforcer, line).await;
        write_line(&mut writer, &outcome).await?;
    }
    writer.shutdown().await
}

async fn answer(enforcer: &Enforcer, line: Vec<u8>) -> Outcome {
    let told: Told = match serde_json::from_slice(&line) {
        Ok(told) => told,
        Err(error) => return Outcome::Refused(malformed(&error)),
    };
    drop(line);
    match enforcer.take(told).await {
        Ok(reply) => Outcome::Ok(Reply::Revocations(reply)),
        Err(problem) => Outcome::Refused(problem),
    }
}

fn too_large() -> Problem {
    let detail = format!("a message is over {MAX_LINE} bytes");
    Problem::new(ProblemKind::TooLarge, "too-large", detail)
}

fn malformed(error: &serde_json::Error) -> Problem {
    // Of the error only the place: its text may repeat what came.
    let detail = format!(
        "not a message about revocations: line {}, column {}",
        error.line(),
        error.column()
    );
    Problem::new(ProblemKind::Malformed, "malformed", detail)
}
