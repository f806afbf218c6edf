//! The log in the database.

use bootkeep_protocol::{
    dsse::Envelope,
    revocation::{Action, Done},
    NodeId, Nonce,
};
use bootkeep_revocation::{Draft, LogKey, Position, Signed};
use bootkeep_store::Store;
use sqlx::{any::AnyRow, Any, Row as _, Transaction};

use super::{acks::Ack, log::Known};
use crate::{clock::now_ms, error::VerifierError};

/// Tables of the revocation log.
#[derive(Debug)]
pub(super) struct Table(Store);

/// An entry as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) position: Position,
    pub(super) envelope: Envelope,
    pub(super) node: NodeId,
    pub(super) known: Known,
    pub(super) ca_at_ms: Option<u64>,
}

/// When a node had an entry.
pub(super) struct StoredAck {
    pub(super) sequence: u64,
    pub(super) node: String,
    pub(super) at_ms: u64,
    pub(super) done: Option<Done>,
}

/// The CA's list as it is stored.
pub(super) struct StoredCrl {
    pub(super) number: u64,
    pub(super) der: Vec<u8>,
    /// Certificate of its authority, DER; empty for a list of an earlier version.
    pub(super) authority: Vec<u8>,
}

fn bad(what: &str) -> VerifierError {
    VerifierError::Document(format!("revocation log: {what}"))
}

fn signed(value: u64) -> Result<i64, VerifierError> {
    i64::try_from(value).map_err(|_| bad("a number is too large"))
}

fn unsigned(row: &AnyRow, column: &str) -> Result<u64, VerifierError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| bad(column))
}

fn json(value: &impl serde::Serialize) -> Result<String, VerifierError> {
    serde_json::to_string(value).map_err(|error| bad(&error.to_string()))
}

fn document<T: serde::de::DeserializeOwned>(
    row: &AnyRow,
    column: &str,
) -> Result<T, VerifierError> {
    serde_json::from_str(&row.try_get::<String, _>(column)?).map_err(|_| bad(column))
}

fn position(row: &AnyRow) -> Result<Position, VerifierError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(row.try_get::<String, _>("digest")?, &mut digest)
        .map_err(|_| bad("digest"))?;
    Ok(Position {
        sequence: unsigned(row, "sequence")?,
        digest,
    })
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Revoke => "revoke",
        Action::Reinstate => "reinstate",
    }
}

fn known(row: &AnyRow) -> Result<Known, VerifierError> {
    let action = match row.try_get::<String, _>("action")?.as_str() {
        "revoke" => Action::Revoke,
        "reinstate" => Action::Reinstate,
        _ => return Err(bad("action")),
    };
    Ok(Known {
        sequence: unsigned(row, "sequence")?,
        action,
        enrolment: row.try_get("enrolment")?,
        serials: document(row, "serials")?,
    })
}

fn node(row: &AnyRow) -> Result<NodeId, VerifierError> {
    let text: String = row.try_get("node_id")?;
    text.parse().map_err(|_| bad("node_id"))
}

fn entry(row: &AnyRow) -> Result<Row, VerifierError> {
    let ca_at_ms = unsigned(row, "ca_at_ms")?;
    Ok(Row {
        position: position(row)?,
        envelope: document(row, "envelope")?,
        node: node(row)?,
        known: known(row)?,
        ca_at_ms: (ca_at_ms > 0).then_some(ca_at_ms),
    })
}

/// A revocation that the CA was not told of.
pub(super) struct ForCa {
    pub(super) sequence: u64,
    pub(super) node: NodeId,
    /// Digest of the enrolment it was made under.
    pub(super) enrolment: String,
}

impl Table {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// As a database that went away.
    #[cfg(test)]
    pub(super) async fn close(&self) {
        self.0.close().await;
    }

    /// The log's name, made when there is none: of two verifiers that start at once one wins.
    pub(super) async fn log(&self) -> Result<String, VerifierError> {
        let random = Nonce::fresh().map_err(|_| VerifierError::Random)?;
        let name = hex::encode(&random.as_bytes()[..16]);
        sqlx::query(
            "INSERT INTO revocation_log (id, log, sequence, digest) VALUES (1, $1, 0, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(hex::encode(Position::START.digest))
        .execute(self.0.pool())
        .await?;
        let row = sqlx::query("SELECT log FROM revocation_log WHERE id = 1")
            .fetch_one(self.0.pool())
            .await?;
        Ok(row.try_get("log")?)
    }

    /// Where the log ends.
    pub(super) async fn end(&self) -> Result<Position, VerifierError> {
        let row = sqlx::query("SELECT sequence, digest FROM revocation_log WHERE id = 1")
            .fetch_one(self.0.pool())
            .await?;
        position(&row)
    }

    /// Appends an entry, if `wanted` says so of the node's last one. Durable when it returns.
    pub(super) async fn append(
        &self,
        key: &LogKey,
        draft: Draft,
        enrolment: &str,
        wanted: impl FnOnce(Option<&Known>) -> bool,
    ) -> Result<Option<Signed>, VerifierError> {
        let mut transaction = self.0.pool().begin().await?;
        let last = take_place(&mut transaction).await?;
        let before = last_of(&mut transaction, &draft.node_id).await?;
        if !wanted(before.as_ref()) {
            transaction.rollback().await?;
            return Ok(None);
        }
        let new = key
            .entry(&last, now_ms(), draft)
            .map_err(|error| VerifierError::Revocation(error.to_string()))?;
        insert(&mut transaction, &new, enrolment).await?;
        transaction.commit().await?;
        Ok(Some(new))
    }

    /// Later entries, in order.
    pub(super) async fn after(
        &self,
        sequence: u64,
        most: usize,
    ) -> Result<Vec<Row>, VerifierError> {
        let rows = sqlx::query(
            "SELECT sequence, node_id, action, digest, enrolment, serials, envelope, ca_at_ms \
             FROM revocations WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        )
        .bind(signed(sequence)?)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(self.0.pool())
        .await?;
        rows.iter().map(entry).collect()
    }

    /// Digest of one entry.
    pub(super) async fn digest(&self, sequence: u64) -> Result<Option<[u8; 32]>, VerifierError> {
        let row = sqlx::query("SELECT sequence, digest FROM revocations WHERE sequence = $1")
            .bind(signed(sequence)?)
            .fetch_optional(self.0.pool())
            .await?;
        row.map(|row| Ok(position(&row)?.digest)).transpose()
    }

    /// When an entry was made.
    pub(super) async fn made_at(&self, sequence: u64) -> Result<Option<u64>, VerifierError> {
        let row = sqlx::query("SELECT at_ms FROM revocations WHERE sequence = $1")
            .bind(signed(sequence)?)
            .fetch_optional(self.0.pool())
            .await?;
        row.map(|row| unsigned(&row, "at_ms")).transpose()
    }

    /// Nodes that the CA was not told of yet, the oldest first.
    pub(super) async fn for_ca(&self, most: i64) -> Result<Vec<ForCa>, VerifierError> {
        let rows = sqlx::query(
            "SELECT sequence, node_id, enrolment FROM revocations WHERE ca_at_ms = 0 AND action = 'revoke' \
             ORDER BY sequence LIMIT $1",
        )
        .bind(most)
        .fetch_all(self.0.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ForCa {
                    sequence: unsigned(row, "sequence")?,
                    node: node(row)?,
                    enrolment: row.try_get("enrolment")?,
                })
            })
            .collect()
    }

    pub(super) async fn count_for_ca(&self) -> Result<u64, VerifierError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS waiting FROM revocations WHERE ca_at_ms = 0 AND action = 'revoke'",
        )
        .fetch_one(self.0.pool())
        .await?;
        unsigned(&row, "waiting")
    }

    /// The CA has answered.
    pub(super) async fn ca_answered(&self, sequence: u64) -> Result<(), VerifierError> {
        sqlx::query("UPDATE revocations SET ca_at_ms = $2 WHERE sequence = $1 AND ca_at_ms = 0")
            .bind(signed(sequence)?)
            .bind(signed(now_ms())?)
            .execute(self.0.pool())
            .await?;
        Ok(())
    }

    /// Keeps the CA's list when it is the newest, or the first of a known authority.
    pub(super) async fn keep_crl(&self, crl: &StoredCrl) -> Result<(), VerifierError> {
        sqlx::query(
            "INSERT INTO revocation_crl (id, number, der, authority) VALUES (1, $1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET number = excluded.number, der = excluded.der, authority = excluded.authority \
             WHERE revocation_crl.number < excluded.number OR revocation_crl.authority = ''",
        )
        .bind(signed(crl.number)?)
        .bind(hex::encode(&crl.der))
        .bind(hex::encode(&crl.authority))
        .execute(self.0.pool())
        .await?;
        Ok(())
    }

    /// The CA's newest list, when it is newer than this number.
    pub(super) async fn crl_after(&self, number: u64) -> Result<Option<StoredCrl>, VerifierError> {
        let row = sqlx::query(
            "SELECT number, der, authority FROM revocation_crl WHERE id = 1 AND number > $1",
        )
        .bind(signed(number)?)
        .fetch_optional(self.0.pool())
        .await?;
        let field = |row: &AnyRow, column: &str| {
            hex::decode(row.try_get::<String, _>(column)?).map_err(|_| bad(column))
        };
        row.map(|row| {
            Ok(StoredCrl {
                number: unsigned(&row, "number")?,
                der: field(&row, "der")?,
                authority: field(&row, "authority")?,
            })
        })
        .transpose()
    }

    /// How far each node has followed.
    pub(super) async fn peers(&self) -> Result<Vec<(NodeId, u64)>, VerifierError> {
        let rows = sqlx::query("SELECT node_id, sequence FROM revocation_peers")
            .fetch_all(self.0.pool())
            .await?;
        rows.iter()
            .map(|row| Ok((node(row)?, unsigned(row, "sequence")?)))
            .collect()
    }

    /// Keeps acknowledgements: all or none.
    pub(super) async fn keep(&self, acks: &[Ack]) -> Result<(), VerifierError> {
        let mut transaction = self.0.pool().begin().await?;
        for ack in acks {
            keep_one(&mut transaction, ack).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Acknowledgements of these entries.
    pub(super) async fn acks(
        &self,
        first: u64,
        last: u64,
    ) -> Result<Vec<StoredAck>, VerifierError> {
        let rows = sqlx::query(
            "SELECT sequence, node_id, at_ms, done FROM revocation_acks WHERE sequence >= $1 AND sequence <= $2",
        )
        .bind(signed(first)?)
        .bind(signed(last)?)
        .fetch_all(self.0.pool())
        .await?;
        let ack = |row: &AnyRow| {
            let done: String = row.try_get("done")?;
            Ok(StoredAck {
                sequence: unsigned(row, "sequence")?,
                node: row.try_get("node_id")?,
                at_ms: unsigned(row, "at_ms")?,
                done: serde_json::from_str(&done).ok(),
            })
        };
        rows.iter().map(ack).collect()
    }
}

/// Takes the next place; gives the position before it. The first statement of every append: whoever comes second waits
/// here, in SQLite and in PostgreSQL.
async fn take_place(transaction: &mut Transaction<'_, Any>) -> Result<Position, VerifierError> {
    sqlx::query("UPDATE revocation_log SET sequence = sequence + 1 WHERE id = 1")
        .execute(&mut **transaction)
        .await?;
    let row =
        sqlx::query("SELECT sequence - 1 AS sequence, digest FROM revocation_log WHERE id = 1")
            .fetch_one(&mut **transaction)
            .await?;
    position(&row)
}

async fn last_of(
    transaction: &mut Transaction<'_, Any>,
    node: &NodeId,
) -> Result<Option<Known>, VerifierError> {
    let row = sqlx::query(
        "SELECT sequence, action, enrolment, serials FROM revocations WHERE node_id = $1 \
         ORDER BY sequence DESC LIMIT 1",
    )
    .bind(node.as_str())
    .fetch_optional(&mut **transaction)
    .await?;
    row.as_ref().map(known).transpose()
}

async fn insert(
    transaction: &mut Transaction<'_, Any>,
    new: &Signed,
    enrolment: &str,
) -> Result<(), VerifierError> {
    let digest = hex::encode(new.position.digest);
    sqlx::query(
        "INSERT INTO revocations \
         (sequence, node_id, action, digest, enrolment, serials, envelope, at_ms, ca_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
    )
    .bind(signed(new.entry.sequence)?)
    .bind(new.entry.node_id.as_str())
    .bind(word(new.entry.action))
    .bind(digest.as_str())
    .bind(enrolment)
    .bind(json(&new.entry.serials)?)
    .bind(json(&new.envelope)?)
    .bind(signed(new.entry.at_ms)?)
    .execute(&mut **transaction)
    .await?;
    sqlx::query("UPDATE revocation_log SET digest = $1 WHERE id = 1")
        .bind(digest.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn keep_one(transaction: &mut Transaction<'_, Any>, ack: &Ack) -> Result<(), VerifierError> {
    let (node, at) = (ack.node.as_str(), signed(ack.at_ms)?);
    sqlx::query(
        "INSERT INTO revocation_acks (sequence, node_id, at_ms, done) \
         SELECT sequence, CAST($1 AS TEXT), CAST($2 AS BIGINT), '' FROM revocations \
         WHERE sequence > $3 AND sequence <= $4 ON CONFLICT (sequence, node_id) DO NOTHING",
    )
    .bind(node)
    .bind(at)
    .bind(signed(ack.from)?)
    .bind(signed(ack.to)?)
    .execute(&mut **transaction)
    .await?;
    for done in &ack.done {
        sqlx::query("UPDATE revocation_acks SET done = $1 WHERE sequence = $2 AND node_id = $3")
            .bind(json(done)?)
            .bind(signed(done.sequence)?)
            .bind(node)
            .execute(&mut **transaction)
            .await?;
    }
    sqlx::query(
        "INSERT INTO revocation_peers (node_id, sequence, at_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (node_id) DO UPDATE SET sequence = excluded.sequence, at_ms = excluded.at_ms",
    )
    .bind(node)
    .bind(signed(ack.to)?)
    .bind(at)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
