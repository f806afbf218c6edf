//! Checkpoints at rest: a cache of how far each IMA list was appraised.

use bootkeep_policy::ImaState;
use bootkeep_protocol::NodeId;
use sqlx::Row;

use super::Database;
use crate::{error::VerifierError, fleet::Enrolled};

/// A checkpoint that is to be stored.
#[derive(Debug)]
pub(crate) struct NewCheckpoint {
    pub(crate) node: NodeId,
    /// What it belongs to.
    pub(crate) context: String,
    pub(crate) bytes: Vec<u8>,
}

/// A checkpoint holds for one boot of one AK under one enrolment: it opens for nothing else.
pub(crate) fn context(enrolled: &Enrolled, reset_count: u32) -> String {
    let terms = &enrolled.terms;
    let ak = hex::encode(terms.ak_digest.as_slice());
    format!("checkpoint {ak} {reset_count} {}", terms.digest)
}

impl Database {
    /// Stores a batch in one transaction. A node that was forgotten meanwhile gets no row.
    pub(crate) async fn save_checkpoints(
        &self,
        batch: &[NewCheckpoint],
    ) -> Result<(), VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        for new in batch {
            let sealed = self.sealer.seal(&new.node, &new.context, &new.bytes)?;
            sqlx::query(
                "INSERT INTO checkpoints (node_id, checkpoint) SELECT node_id, $2 FROM nodes WHERE node_id = $1 \
                 ON CONFLICT (node_id) DO UPDATE SET checkpoint = excluded.checkpoint",
            )
            .bind(new.node.as_str())
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The stored checkpoint; `None` when there is none that holds here.
    pub(crate) async fn checkpoint(&self, node: &NodeId, context: &str) -> Option<ImaState> {
        let row = sqlx::query("SELECT checkpoint FROM checkpoints WHERE node_id = $1")
            .bind(node.as_str())
            .fetch_optional(self.store.pool())
            .await;
        let sealed: String = match row.and_then(|row| row.map(|row| row.try_get(0)).transpose()) {
            Ok(sealed) => sealed?,
            Err(error) => {
                tracing::warn!(node = node.short(), %error, "a checkpoint cannot be read");
                return None;
            }
        };
        let opened = self.sealer.open(node, context, &sealed).ok()?;
        let state = ImaState::from_bytes(&opened);
        state
            .inspect_err(
                |error| tracing::warn!(node = node.short(), %error, "a checkpoint is left out"),
            )
            .ok()
    }
}
