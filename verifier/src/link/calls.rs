//! Questions to a node, each with one answer.

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicU64, Ordering},
        Mutex, MutexGuard, PoisonError,
    },
    time::Duration,
};

use bootkeep_link::channel::Sender;
use bootkeep_protocol::{
    limits::CALL_SECONDS,
    link::{Call, Outcome, Reply, ServerFrame},
    Problem, ProblemKind,
};
use tokio::{sync::oneshot, time::timeout};

/// Calls that may wait for their answers on one link.
const MAX_WAITING: usize = 16;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The link is gone.
    #[error("the link to the node ended")]
    Ended,
    /// No answer in time.
    #[error("the node did not answer in {CALL_SECONDS} s")]
    Late,
    /// Too many calls wait.
    #[error("too many calls wait for this node")]
    Busy,
    /// The node refused.
    #[error("the node refused: {0}")]
    Refused(Problem),
    /// The node answered another question.
    #[error("the node's answer is of another kind than the question")]
    OtherReply,
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let (kind, code) = match error {
            CallError::Refused(problem) => return problem,
            CallError::Ended => (ProblemKind::Unavailable, "link-ended"),
            CallError::Late => (ProblemKind::Unavailable, "node-late"),
            CallError::Busy => (ProblemKind::Busy, "node-busy"),
            CallError::OtherReply => (ProblemKind::Untrusted, "other-reply"),
        };
        Self::new(kind, code, error.to_string())
    }
}

/// Puts calls to one node and hands each answer to who asked.
#[derive(Debug)]
pub(crate) struct Calls {
    sender: Sender<ServerFrame>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
}

/// Takes a call off the list, also when its asker went away.
struct Place<'a>(&'a Calls, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Calls {
    pub(crate) fn new(sender: Sender<ServerFrame>) -> Self {
        Self {
            sender,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks and waits for the answer, [`CALL_SECONDS`] at most. An answer that comes later is dropped.
    pub(crate) async fn ask(&self, call: Call) -> Result<Reply, CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MAX_WAITING {
                return Err(CallError::Busy);
            }
            waiting.insert(id, answer);
        }
        let _place = Place(self, id);
        let exchange = async {
            let request = ServerFrame::Request { id, call };
            let sent = self.sender.send(&request).await;
            sent.map_err(|_| CallError::Ended)?;
            answered.await.map_err(|_| CallError::Ended)
        };
        match timeout(Duration::from_secs(CALL_SECONDS), exchange).await {
            Err(_) => Err(CallError::Late),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Outcome::Refused(problem))) => Err(CallError::Refused(problem)),
            Ok(Ok(Outcome::Ok(reply))) => Ok(reply),
        }
    }

    /// Hands an answer on; false when nobody waits for it.
    pub(crate) fn answer(&self, id: u64, outcome: Outcome) -> bool {
        let asker = self.waiting().remove(&id);
        asker.is_some_and(|asker| asker.send(outcome).is_ok())
    }

    /// The link is gone: nobody waits in vain.
    pub(crate) fn abandon(&self) {
        self.waiting().clear();
    }
}
