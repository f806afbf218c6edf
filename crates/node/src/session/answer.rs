//! The answer to one call.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bootkeep_protocol::{
    link::{Call, Outcome, QuoteCall, Reply, ShareCall},
    Nonce, Problem, ProblemKind, Role, EXPORTER_LEN,
};
use tokio::sync::{mpsc, oneshot};

use super::ShareRequest;
use crate::Attester;

/// Quotes of one link that are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 64;

/// The quotes this link has given: who asked, with which nonce.
#[derive(Debug, Default)]
pub(super) struct Given(Mutex<VecDeque<(Role, Nonce)>>);

impl Given {
    fn remember(&self, call: &QuoteCall) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() == REMEMBERED {
            given.pop_front();
        }
        given.push_back((call.asker, call.nonce));
    }

    /// Whether the holder of this share was given the quote it names.
    fn covers(&self, call: &ShareCall) -> bool {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.contains(&(call.part.holder(), call.nonce))
    }
}

pub(super) async fn answer(
    attester: &Attester,
    exporter: &[u8; EXPORTER_LEN],
    given: &Given,
    shares: Option<&mpsc::Sender<ShareRequest>>,
    call: Call,
) -> Outcome {
    let answered = match call {
        Call::Quote(call) => attester.evidence(&call, exporter).await.map(|evidence| {
            given.remember(&call);
            Reply::Quote(Box::new(evidence))
        }),
        Call::Activate(call) => attester.activate(&call).await,
        Call::Revocations(_) => Err(no_revocations()),
        Call::Share(call) => pass_on(shares, exporter, given.covers(&call), call).await,
    };
    answered.map_or_else(Outcome::Refused, Outcome::Ok)
}

async fn pass_on(
    shares: Option<&mpsc::Sender<ShareRequest>>,
    exporter: &[u8; EXPORTER_LEN],
    quoted: bool,
    call: ShareCall,
) -> Result<Reply, Problem> {
    let shares = shares.ok_or_else(no_shares)?;
    let (done, outcome) = oneshot::channel();
    let request = ShareRequest {
        call,
        exporter: *exporter,
        quoted,
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

fn no_revocations() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "no-revocations-here",
        "this node takes no revocations now",
    )
}

fn no_shares() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "no-shares-here",
        "this node takes no share now",
    )
}
