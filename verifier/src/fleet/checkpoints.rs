//! Checkpoints on their way to the store: written behind, in batches.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bootkeep_protocol::NodeId;

use crate::{
    service::Verifier,
    store::{Database, NewCheckpoint},
};

/// Time between two writes; what a crash in it loses is appraised again.
const PAUSE: Duration = Duration::from_secs(1);
/// Checkpoints of one transaction.
const BATCH: usize = 256;

/// The newest checkpoint of each node that is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<NodeId, NewCheckpoint>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, NewCheckpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, new: NewCheckpoint) {
        self.lock().insert(new.node.clone(), new);
    }

    fn take(&self) -> Vec<NewCheckpoint> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    /// Stores what waits. A checkpoint that cannot be stored is dropped: it is a cache.
    pub(crate) async fn flush(&self, database: &Database) {
        for batch in self.take().chunks(BATCH) {
            if let Err(error) = database.save_checkpoints(batch).await {
                tracing::warn!(%error, checkpoints = batch.len(), "checkpoints could not be stored");
            }
        }
    }
}

/// Writes for as long as the verifier lives.
pub(crate) fn spawn_writer(verifier: &Arc<Verifier>) {
    let verifier: Weak<Verifier> = Arc::downgrade(verifier);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PAUSE).await;
            let Some(verifier) = verifier.upgrade() else {
                return;
            };
            verifier.fleet.flush().await;
        }
    });
}
