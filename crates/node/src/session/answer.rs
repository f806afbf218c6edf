//! The answer to one call.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bootkeep_protocol::{
    kept::KeepCall,
    link::{Call, Outcome, QuoteCall, Reply, ShareCall},
    revocation::RevocationsCall,
    Nonce, Problem, ProblemKind, Role, EXPORTER_LEN,
};
use tokio::sync::{mpsc, oneshot};

use super::{KeepRequest, RevocationsRequest, ShareRequest};
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

    /// Whether the tenant was given the quote with this nonce. Asked once for each quote: what was sent after it cannot be
    /// sent a second time by whoever relays it.
    fn used_by_tenant(&self, nonce: &Nonce) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = given
            .iter()
            .position(|(asker, of)| *asker == Role::Tenant && of == nonce);
        found.and_then(|index| given.remove(index)).is_some()
    }
}

/// Who takes what the session itself does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takers<'a> {
    pub(super) shares: Option<&'a mpsc::Sender<ShareRequest>>,
    pub(super) revocations: Option<&'a mpsc::Sender<RevocationsRequest>>,
    pub(super) keeps: Option<&'a mpsc::Sender<KeepRequest>>,
}

pub(super) async fn answer(
    attester: &Attester,
    exporter: &[u8; EXPORTER_LEN],
    given: &Given,
    takers: Takers<'_>,
    call: Call,
) -> Outcome {
    let answered = match call {
        Call::Quote(call) => attester.evidence(&call, exporter).await.map(|evidence| {
            given.remember(&call);
            Reply::Quote(Box::new(evidence))
        }),
        Call::Activate(call) => attester.activate(&call).await,
        Call::Revocations(call) => relay(takers.revocations, call).await,
        Call::Share(call) => pass_on(takers.shares, exporter, given.covers(&call), call).await,
        Call::Keep(call) => keep(takers.keeps, given, call).await,
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

async fn keep(
    keeps: Option<&mpsc::Sender<KeepRequest>>,
    given: &Given,
    call: KeepCall,
) -> Result<Reply, Problem> {
    let keeps = keeps.ok_or_else(no_shares)?;
    if !given.used_by_tenant(&call.nonce) {
        return Err(Problem::new(
            ProblemKind::Untrusted,
            "no-such-quote",
            "this link has given the tenant no quote with this nonce, or a share came after it already",
        ));
    }
    let (done, outcome) = oneshot::channel();
    let request = KeepRequest { call, done };
    keeps.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => {
            Problem::new(ProblemKind::Busy, "busy", "another share is being kept")
        }
        mpsc::error::TrySendError::Closed(_) => no_shares(),
    })?;
    outcome.await.map_err(|_| no_shares())??;
    Ok(Reply::Keep {})
}

async fn relay(
    revocations: Option<&mpsc::Sender<RevocationsRequest>>,
    call: RevocationsCall,
) -> Result<Reply, Problem> {
    let revocations = revocations.ok_or_else(no_revocations)?;
    let (done, outcome) = oneshot::channel();
    let request = RevocationsRequest { call, done };
    revocations.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => Problem::new(
            ProblemKind::Busy,
            "busy",
            "other revocations are being taken",
        ),
        mpsc::error::TrySendError::Closed(_) => no_revocations(),
    })?;
    let reply = outcome.await.map_err(|_| no_revocations())??;
    Ok(Reply::Revocations(reply))
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
