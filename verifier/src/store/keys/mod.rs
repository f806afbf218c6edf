//! K sets and shares V at rest.
//!
//! Whoever changes those of a node first takes the node's row, in SQLite and in PostgreSQL: of two verifiers on one
//! database the second waits, and then sees what the first has done.

mod enrol;
mod names;
mod rows;
mod statements;
#[cfg(test)]
mod tests;

use bootkeep_protocol::{kept::MAX_KEPT_SHARES, NodeId, ShareId};
use bootkeep_tpkd::{Share, V};
use sqlx::{Any, Row, Transaction};

pub(super) use enrol::enrol;
pub(super) use statements::{delete_all, take_node};

use self::{
    rows::{bad, keys_of, read_sets, SetRow, ShareRow},
    statements::insert_share,
};
use super::{document, Database};
use crate::{
    error::VerifierError,
    fleet::{Enrolled, Terms, Trust},
    keys::{KeySet, Keys},
};

/// A share with the name of its split; without a name for a node that does not keep its U.
pub(crate) type NamedShare = (Option<ShareId>, Share<V>);

/// A K set with its secrets. Nowhere in memory longer than needed.
pub(crate) struct SecretSet {
    /// What is known of it; `None` for a node that does not keep its U.
    pub(crate) known: Option<KeySet>,
    pub(crate) envelope: Vec<u8>,
    /// Oldest first, never empty.
    pub(crate) shares: Vec<NamedShare>,
    /// Whether the newest share was made just now.
    pub(crate) fresh: bool,
}

/// What may be sent to a node.
pub(crate) enum Taken {
    /// Nothing: not enrolled, revoked, or refused.
    Nothing,
    /// Another verifier has enrolled the node anew.
    Enrolled,
    /// These sets, newest first.
    Sets(Vec<SecretSet>),
}

/// What the node has shown with its acknowledgement.
pub(crate) struct Acknowledged {
    /// The sets that are left.
    pub(crate) keys: Keys,
    /// The value PCR 15 has in this boot.
    pub(crate) latched: [u8; 32],
    /// Whether anything was dropped or noted.
    pub(crate) changed: bool,
}

impl Database {
    /// The secrets that may be sent to a node which was appraised under this enrolment.
    ///
    /// When this returns, the next V of each set the node may boot with is durable, and so is that a V was sent.
    pub(crate) async fn take_secrets(
        &self,
        id: &NodeId,
        enrolled: &Enrolled,
    ) -> Result<Taken, VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        if !take_node(&mut transaction, id).await? {
            return Ok(Taken::Nothing);
        }
        let row = sqlx::query("SELECT enrolment, trust FROM nodes WHERE node_id = $1")
            .bind(id.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        let terms: Terms = document(&row.try_get::<String, _>("enrolment")?)?;
        let trust: Trust = document(&row.try_get::<String, _>("trust")?)?;
        if terms.digest != enrolled.terms.digest {
            return Ok(Taken::Enrolled);
        }
        let sets = read_sets(&mut transaction, id).await?;
        if !trust.is_open() || sets.is_empty() {
            return Ok(Taken::Nothing);
        }
        let mut taken = Vec::new();
        for mut set in sets {
            let fresh = self.make_next(&mut transaction, id, &mut set).await?;
            taken.push(set.secrets(id, &self.sealer, fresh)?);
        }
        transaction.commit().await?;
        Ok(Taken::Sets(taken))
    }

    /// Adds the next V, unless nobody may boot with the set or so many are unacknowledged that the newest serves again.
    async fn make_next(
        &self,
        transaction: &mut Transaction<'_, Any>,
        id: &NodeId,
        set: &mut SetRow,
    ) -> Result<bool, VerifierError> {
        if set.terms.is_none() || !set.boots {
            return Ok(false);
        }
        set.sent = true;
        sqlx::query("UPDATE key_sets SET sent = 1 WHERE node_id = $1 AND number = $2")
            .bind(id.as_str())
            .bind(set.number)
            .execute(&mut **transaction)
            .await?;
        if set.shares.len() >= MAX_KEPT_SHARES {
            return Ok(false);
        }
        let name = ShareId::fresh().map_err(|_| VerifierError::Random)?;
        let share = Share::<V>::generate().map_err(|_| VerifierError::Random)?;
        let next = ShareRow {
            ordinal: set.shares.last().map_or(0, |share| share.ordinal + 1),
            id: Some(name),
            sealed: self.sealer.seal_share(id, Some(name), &share)?,
        };
        insert_share(transaction, id, set.number, &next).await?;
        set.shares.push(next);
        Ok(true)
    }

    /// The node has the U of this split in its TPM: every other V of that K and every older K goes. `None`, and nothing
    /// changes, when there is no such split the node may boot with, or when this boot is known to use another K.
    pub(crate) async fn acknowledge(
        &self,
        id: &NodeId,
        share: ShareId,
        latched: Option<[u8; 32]>,
        now_ms: u64,
    ) -> Result<Option<Acknowledged>, VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        if !take_node(&mut transaction, id).await? {
            return Ok(None);
        }
        let keys = keys_of(&read_sets(&mut transaction, id).await?)?;
        let holds = |set: &&KeySet| set.boots && set.shares.contains(&share);
        let Some(set) = keys.0.iter().find(holds).cloned() else {
            return Ok(None);
        };
        if latched.is_some_and(|latched| latched != set.latched) {
            return Ok(None);
        }
        let newer_sent = |other: &KeySet| other.number > set.number && other.sent;
        let changed = set.kept_at_ms.is_none()
            || set.shares.len() > 1
            || keys
                .0
                .iter()
                .any(|other| other.number < set.number || newer_sent(other));
        if !changed {
            return Ok(Some(Acknowledged {
                keys,
                latched: set.latched,
                changed,
            }));
        }
        drop_others(&mut transaction, id, set.number, share, now_ms).await?;
        let keys = keys_of(&read_sets(&mut transaction, id).await?)?;
        transaction.commit().await?;
        Ok(Some(Acknowledged {
            keys,
            latched: set.latched,
            changed,
        }))
    }
}

/// Leaves of this set one split, of older sets nothing. Newer sets stay: the node has shown that it does not use them yet.
async fn drop_others(
    transaction: &mut Transaction<'_, Any>,
    id: &NodeId,
    number: i64,
    share: ShareId,
    now_ms: u64,
) -> Result<(), VerifierError> {
    let now_ms = i64::try_from(now_ms).map_err(|_| bad("kept_at_ms"))?;
    sqlx::query("DELETE FROM key_shares WHERE node_id = $1 AND number = $2 AND share_id <> $3")
        .bind(id.as_str())
        .bind(number)
        .bind(share.to_string())
        .execute(&mut **transaction)
        .await?;
    for table in ["key_sets", "key_shares"] {
        sqlx::query(&format!(
            "DELETE FROM {table} WHERE node_id = $1 AND number < $2"
        ))
        .bind(id.as_str())
        .bind(number)
        .execute(&mut **transaction)
        .await?;
    }
    sqlx::query("UPDATE key_sets SET sent = 0 WHERE node_id = $1 AND number > $2")
        .bind(id.as_str())
        .bind(number)
        .execute(&mut **transaction)
        .await?;
    sqlx::query("UPDATE key_sets SET kept_at_ms = $3 WHERE node_id = $1 AND number = $2")
        .bind(id.as_str())
        .bind(number)
        .bind(now_ms)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
