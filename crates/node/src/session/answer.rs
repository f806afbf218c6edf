//! The answer to one call.

use bootkeep_protocol::{
    link::{Call, Outcome, Reply, ShareCall},
    Problem, ProblemKind, EXPORTER_LEN,
};
use tokio::sync::{mpsc, oneshot};

use super::ShareRequest;
use crate::Attester;

pub(super) async fn answer(
    attester: &Attester,
    exporter: &[u8; EXPORTER_LEN],
    shares: Option<&mpsc::Sender<ShareRequest>>,
    call: Call,
) -> Outcome {
    let answered = match call {
        Call::Quote(call) => attester
            .evidence(&call, exporter)
            .await
            .map(|evidence| Reply::Quote(Box::new(evidence))),
        Call::Activate(call) => attester.activate(&call).await,
        Call::Share(call) => pass_on(shares, exporter, call).await,
    };
    answered.map_or_else(Outcome::Refused, Outcome::Ok)
}

async fn pass_on(
    shares: Option<&mpsc::Sender<ShareRequest>>,
    exporter: &[u8; EXPORTER_LEN],
    call: ShareCall,
) -> Result<Reply, Problem> {
    let shares = shares.ok_or_else(no_shares)?;
    let (done, outcome) = oneshot::channel();
    let request = ShareRequest {
        call,
        exporter: *exporter,
        done,
    };
    shares.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => {
            Problem::new(ProblemKind::Busy, "busy", "another share is being taken")
        }
        mpsc::error::TrySendError::Closed(_) => no_shares(),
    })?;
    let confirmation = outcome.await.map_err(|_| no_shares())??;
    Ok(Reply::Share { confirmation })
}

fn no_shares() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "no-shares-here",
        "this node takes no share now",
    )
}
