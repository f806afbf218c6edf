//! Acknowledgements on their way to the database: many in one transaction, so that a thousand nodes that acknowledge at
//! once do not stand before the next entry.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bootkeep_protocol::{
    limits::{clean_text, MAX_REVOCATIONS},
    revocation::{Done, RevocationsReply},
    NodeId,
};
use tokio::sync::mpsc;

use super::Revocations;
use crate::{clock::now_ms, service::Verifier};

/// Acknowledgements that may wait; then the links that bring them wait.
const WAITING: usize = 1024;
/// Acknowledgements of one transaction.
const BATCH: usize = 256;
/// Pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One acknowledgement: everything after `from` up to `to`.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    pub(super) node: NodeId,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) at_ms: u64,
    pub(super) done: Vec<Done>,
}

/// How far each node has followed, and the way to the database.
#[derive(Debug)]
pub(super) struct Acks {
    reached: Mutex<HashMap<NodeId, u64>>,
    queue: mpsc::Sender<Ack>,
}

impl Acks {
    pub(super) fn new(reached: Vec<(NodeId, u64)>) -> (Self, mpsc::Receiver<Ack>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        let acks = Self {
            reached: Mutex::new(reached.into_iter().collect()),
            queue,
        };
        (acks, waiting)
    }

    fn reached(&self) -> MutexGuard<'_, HashMap<NodeId, u64>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the node has followed.
    pub(super) fn of(&self, node: &NodeId) -> u64 {
        self.reached().get(node).copied().unwrap_or(0)
    }

    /// Takes an acknowledgement that was checked. Nothing is written when it says nothing new.
    pub(super) async fn take(&self, node: &NodeId, reply: RevocationsReply) {
        let to = reply.sequence;
        let from = self.reached().insert(node.clone(), to);
        let mut done = reply.done;
        done.retain(|done| (1..=to).contains(&done.sequence));
        done.truncate(MAX_REVOCATIONS);
        for done in &mut done {
            done.detail = clean_text(&done.detail);
        }
        if from == Some(to) && done.is_empty() {
            return;
        }
        let ack = Ack {
            node: node.clone(),
            from: from.unwrap_or(0),
            to,
            at_ms: now_ms(),
            done,
        };
        // The writer ends with the verifier.
        let _ = self.queue.send(ack).await;
    }
}

/// Writes acknowledgements until the verifier is gone.
pub(super) async fn write(verifier: Weak<Verifier>, mut waiting: mpsc::Receiver<Ack>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        while let Err(error) = keep(&verifier, &batch).await {
            tracing::error!(%error, "acknowledgements could not be stored; trying again");
            tokio::time::sleep(RETRY).await;
        }
        batch.clear();
    }
}

async fn keep(verifier: &Weak<Verifier>, batch: &[Ack]) -> Result<(), crate::VerifierError> {
    let Some(verifier) = verifier.upgrade() else {
        return Ok(());
    };
    let Some(on) = verifier.revocations.on() else {
        return Ok(());
    };
    on.log.table.keep(batch).await?;
    Revocations::told(on);
    Ok(())
}
