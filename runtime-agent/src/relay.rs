//! Relays what the verifier says of revocations to the enforcer. Nothing of it is looked at here.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bootkeep_node::session::RevocationsRequest;
use bootkeep_protocol::{
    limits::CALL_SECONDS,
    link::{Outcome, Reply},
    revocation::RevocationsReply,
    NodeId, Problem, ProblemKind,
};
use tokio::{
    io::BufReader,
    net::UnixStream,
    sync::{mpsc, Semaphore},
    task::JoinSet,
    time::timeout,
};

use crate::enforce::wire::{read_line, write_line, Told};

/// Messages the enforcer may have in hand.
const AT_ONCE: usize = 4;
/// How long the enforcer may take to accept and read.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long the answer may take: the session gives up then.
const ANSWER: Duration = Duration::from_secs(CALL_SECONDS);

/// Relays until nobody sends any more. Messages are handed over in order; a later one does not wait for the answer to an
/// earlier one, whose actions may take their time.
pub(crate) async fn run(
    socket: PathBuf,
    node_id: NodeId,
    mut requests: mpsc::Receiver<RevocationsRequest>,
) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut answers = JoinSet::new();
    while let Some(request) = requests.recv().await {
        while answers.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let told = Told {
            node_id: node_id.clone(),
            call: request.call.clone(),
        };
        match timeout(HAND_OVER, hand_over(&socket, &told)).await {
            Ok(Ok(stream)) => {
                answers.spawn(async move {
                    request.answer(answer(stream).await);
                    drop(permit);
                });
            }
            Ok(Err(error)) => request.answer(Err(away(&error))),
            Err(_) => request.answer(Err(away(&io::ErrorKind::TimedOut.into()))),
        }
    }
}

async fn hand_over(socket: &Path, told: &Told) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    write_line(&mut stream, told).await?;
    Ok(stream)
}

async fn answer(stream: UnixStream) -> Result<RevocationsReply, Problem> {
    let line = read_line(&mut BufReader::new(stream), ANSWER).await;
    let line = line.map_err(|error| away(&error))?;
    let line = line.ok_or_else(|| away(&io::ErrorKind::UnexpectedEof.into()))?;
    match serde_json::from_slice(&line) {
        Ok(Outcome::Ok(Reply::Revocations(reply))) => Ok(reply),
        Ok(Outcome::Refused(problem)) => Err(problem),
        Ok(Outcome::Ok(_)) | Err(_) => Err(away(&io::ErrorKind::InvalidData.into())),
    }
}

fn away(error: &io::Error) -> Problem {
    let detail = format!(
        "the enforcer of this node does not answer: {error}; is bootkeep-enforce.service up?"
    );
    Problem::new(ProblemKind::Unavailable, "enforcer-away", detail)
}
