//! Events on their way, in the database.

use std::{collections::HashMap, sync::Arc};

use bootkeep_protocol::{verifier::State, NodeId};
use bootkeep_store::Store;
use sqlx::Row;

use super::{event::Event, Target};
use crate::error::VerifierError;

/// Most events that wait for one target; the oldest go first when there are more.
const MAX_WAITING: i64 = 10_000;

/// The outbox.
#[derive(Debug)]
pub(super) struct Outbox(Store);

/// An event that is being sent by this verifier.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) id: String,
    pub(super) event: String,
    pub(super) body: String,
    pub(super) created_ms: u64,
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Outbox {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// The states told last.
    pub(super) async fn states(&self) -> Result<HashMap<String, String>, VerifierError> {
        let rows = sqlx::query("SELECT node_id, state FROM webhook_states")
            .fetch_all(self.0.pool())
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("node_id")?, row.try_get("state")?)))
            .collect()
    }

    /// Stores an event for every target that wants it, and the state it tells of: both or neither.
    pub(super) async fn put(
        &self,
        event: &Event,
        targets: &[Arc<Target>],
        state: Option<(&NodeId, State)>,
    ) -> Result<(), VerifierError> {
        let mut transaction = self.0.pool().begin().await?;
        for target in targets.iter().filter(|target| target.wants(event.kind)) {
            sqlx::query(
                "INSERT INTO webhook_outbox (id, target, event, body, created_ms, leased_until_ms) \
                 VALUES ($1, $2, $3, $4, $5, 0)",
            )
            .bind(format!("{}-{}", event.id, target.name()))
            .bind(target.name())
            .bind(event.kind.as_str())
            .bind(event.body.as_str())
            .bind(signed(event.at_ms))
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "DELETE FROM webhook_outbox WHERE target = $1 AND id NOT IN \
                 (SELECT id FROM webhook_outbox WHERE target = $2 ORDER BY created_ms DESC, id DESC LIMIT $3)",
            )
            .bind(target.name())
            .bind(target.name())
            .bind(MAX_WAITING)
            .execute(&mut *transaction)
            .await?;
        }
        if let Some((node, state)) = state {
            set_state(&mut transaction, node, state).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Notes a state that nobody is told of.
    pub(super) async fn note(&self, node: &NodeId, state: State) -> Result<(), VerifierError> {
        let mut transaction = self.0.pool().begin().await?;
        set_state(&mut transaction, node, state).await?;
        Ok(transaction.commit().await?)
    }

    /// The oldest event of a target, unless another verifier is sending it.
    pub(super) async fn lease(
        &self,
        target: &str,
        now_ms: u64,
        until_ms: u64,
    ) -> Result<Option<Leased>, VerifierError> {
        let row = sqlx::query(
            "SELECT id, event, body, created_ms FROM webhook_outbox WHERE target = $1 \
             ORDER BY created_ms, id LIMIT 1",
        )
        .bind(target)
        .fetch_optional(self.0.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let leased = Leased {
            id: row.try_get("id")?,
            event: row.try_get("event")?,
            body: row.try_get("body")?,
            created_ms: u64::try_from(row.try_get::<i64, _>("created_ms")?).unwrap_or(0),
        };
        let taken = sqlx::query(
            "UPDATE webhook_outbox SET leased_until_ms = $1 WHERE id = $2 AND leased_until_ms <= $3",
        )
        .bind(signed(until_ms))
        .bind(leased.id.as_str())
        .bind(signed(now_ms))
        .execute(self.0.pool())
        .await?;
        Ok((taken.rows_affected() == 1).then_some(leased))
    }

    /// Lets an event be tried again.
    pub(super) async fn give_back(&self, id: &str) -> Result<(), VerifierError> {
        sqlx::query("UPDATE webhook_outbox SET leased_until_ms = 0 WHERE id = $1")
            .bind(id)
            .execute(self.0.pool())
            .await?;
        Ok(())
    }

    /// Done with an event.
    pub(super) async fn remove(&self, id: &str) -> Result<(), VerifierError> {
        sqlx::query("DELETE FROM webhook_outbox WHERE id = $1")
            .bind(id)
            .execute(self.0.pool())
            .await?;
        Ok(())
    }
}

async fn set_state(
    transaction: &mut sqlx::Transaction<'_, sqlx::Any>,
    node: &NodeId,
    state: State,
) -> Result<(), VerifierError> {
    sqlx::query(
        "INSERT INTO webhook_states (node_id, state) VALUES ($1, $2) \
         ON CONFLICT (node_id) DO UPDATE SET state = excluded.state",
    )
    .bind(node.as_str())
    .bind(state.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
