//! Signed policies at rest.

use bootkeep_protocol::{dsse::Envelope, policy::PolicyKind};
use sqlx::{any::AnyRow, Row};

use super::{document, json, Database};
use crate::{error::VerifierError, policies::PolicyId};

/// A generation as it was stored.
pub(crate) struct PolicyRow {
    pub(crate) id: PolicyId,
    pub(crate) generation: u64,
    pub(crate) envelope: Envelope,
    pub(crate) retired: bool,
}

/// The number as databases keep it. Numbers of policies fit: `bootkeep-policy` checked them.
fn stored(number: u64) -> Result<i64, VerifierError> {
    i64::try_from(number).map_err(|_| VerifierError::Document(format!("{number} is no generation")))
}

fn number(row: &AnyRow) -> Result<u64, VerifierError> {
    let number: i64 = row.try_get("generation")?;
    u64::try_from(number).map_err(|_| VerifierError::Document(format!("{number} is no generation")))
}

/// An envelope nobody signed stands for one that cannot be read: its row still names a generation.
fn unreadable() -> Envelope {
    Envelope {
        payload: Vec::new().into(),
        payload_type: String::new(),
        signatures: Vec::new(),
    }
}

fn read(row: &AnyRow) -> Result<PolicyRow, VerifierError> {
    let kind: String = row.try_get("kind")?;
    let kind = match kind.as_str() {
        "boot" => PolicyKind::Boot,
        "runtime" => PolicyKind::Runtime,
        other => return Err(VerifierError::Document(format!("{other:?} is no kind"))),
    };
    let envelope: String = row.try_get("envelope")?;
    let retired: i64 = row.try_get("retired")?;
    Ok(PolicyRow {
        id: PolicyId {
            kind,
            name: row.try_get("name")?,
        },
        generation: number(row)?,
        envelope: document(&envelope).unwrap_or_else(|_| unreadable()),
        retired: retired != 0,
    })
}

impl Database {
    /// Every generation whose row names one.
    pub(crate) async fn policies(&self) -> Result<Vec<PolicyRow>, VerifierError> {
        let rows =
            sqlx::query("SELECT kind, name, generation, envelope, retired FROM policy_generations")
                .fetch_all(self.store.pool())
                .await?;
        let rows = rows.iter().map(read);
        let log = |error: &VerifierError| tracing::error!(%error, "a policy's row cannot be read and is left out");
        Ok(rows.filter_map(|row| row.inspect_err(log).ok()).collect())
    }

    /// Stores a generation and deletes older ones that are over.
    pub(crate) async fn put_policy(
        &self,
        id: &PolicyId,
        generation: u64,
        envelope: &Envelope,
        over: &[u64],
    ) -> Result<(), VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        sqlx::query(
            "INSERT INTO policy_generations (kind, name, generation, envelope, retired) VALUES ($1, $2, $3, $4, 0)",
        )
        .bind(id.kind.as_str())
        .bind(id.name.as_str())
        .bind(stored(generation)?)
        .bind(json(envelope)?)
        .execute(&mut *transaction)
        .await?;
        for old in over {
            sqlx::query(
                "DELETE FROM policy_generations WHERE kind = $1 AND name = $2 AND generation = $3",
            )
            .bind(id.kind.as_str())
            .bind(id.name.as_str())
            .bind(stored(*old)?)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn retire_policy(
        &self,
        id: &PolicyId,
        generation: u64,
    ) -> Result<(), VerifierError> {
        sqlx::query(
            "UPDATE policy_generations SET retired = 1 WHERE kind = $1 AND name = $2 AND generation = $3",
        )
        .bind(id.kind.as_str())
        .bind(id.name.as_str())
        .bind(stored(generation)?)
        .execute(self.store.pool())
        .await?;
        Ok(())
    }

    /// The signed object.
    pub(crate) async fn policy(
        &self,
        id: &PolicyId,
        generation: u64,
    ) -> Result<Option<Envelope>, VerifierError> {
        let row = sqlx::query(
            "SELECT envelope FROM policy_generations WHERE kind = $1 AND name = $2 AND generation = $3",
        )
        .bind(id.kind.as_str())
        .bind(id.name.as_str())
        .bind(stored(generation)?)
        .fetch_optional(self.store.pool())
        .await?;
        row.map(|row| document(&row.try_get::<String, _>("envelope")?))
            .transpose()
    }
}
