//! What survives a restart: nodes, every AK they had, approvals.

use bootkeep_protocol::{
    registrar::{ApprovedEk, EkAssurance, NodeRecord},
    Bytes, NodeId,
};
use bootkeep_store::Store;
use sqlx::{any::AnyRow, migrate::Migrator, Any, Row, Transaction};

use crate::{candidate::Candidate, challenges::Proven, clock::now, RegistrarError};

/// The tables.
pub(crate) static MIGRATOR: Migrator = sqlx::migrate!();

const RECORD: &str = "SELECT n.node_id, n.ek_public, n.ek_certificate, n.assurance, n.generation, a.ak_public, \
     a.activated_at FROM nodes n JOIN aks a ON a.node_id = n.node_id AND a.generation = n.generation";

/// The registrar's database.
#[derive(Debug)]
pub(crate) struct Database(Store);

/// What came of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The AK of this generation.
    Generation(u64),
    /// The approval the EK was believed by is gone.
    Withdrawn,
    /// The EK's key is that of another node.
    OtherId,
}

fn signed(value: u64) -> i64 {
    // Seconds and counters: far from the end of the range.
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Database {
    pub(crate) async fn open(url: &str) -> Result<Self, RegistrarError> {
        Ok(Self(Store::connect(url, &MIGRATOR).await?))
    }

    /// Records of every node whose row can be read, after `after`, at most `limit`. A bad row hides only itself (A14).
    pub(crate) async fn records(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<NodeRecord>, RegistrarError> {
        let rows = sqlx::query(&format!(
            "{RECORD} WHERE n.node_id > $1 ORDER BY n.node_id LIMIT $2"
        ))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.0.pool())
        .await?;
        let readable = |row: &AnyRow| {
            record(row)
                .inspect_err(|error| tracing::error!(%error, "a node is left out"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    pub(crate) async fn record(&self, node: &NodeId) -> Result<Option<NodeRecord>, RegistrarError> {
        let row = sqlx::query(&format!("{RECORD} WHERE n.node_id = $1"))
            .bind(node.as_str())
            .fetch_optional(self.0.pool())
            .await?;
        row.as_ref().map(record).transpose()
    }

    /// Makes an activation durable and gives the AK's generation: the old one when nothing changed.
    pub(crate) async fn activate(&self, proven: &Proven) -> Result<Stored, RegistrarError> {
        let candidate = proven.candidate();
        if let Some(generation) = self.unchanged(candidate).await {
            return Ok(Stored::Generation(generation));
        }
        let mut transaction = self.0.pool().begin().await?;
        if !put_node(&mut transaction, candidate).await? {
            return Ok(Stored::OtherId);
        }
        if !still_believed(&mut transaction, candidate).await? {
            return Ok(Stored::Withdrawn);
        }
        let generation = put_ak(&mut transaction, candidate).await?;
        sqlx::query("UPDATE nodes SET generation = $2 WHERE node_id = $1")
            .bind(candidate.node_id.as_str())
            .bind(signed(generation))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Stored::Generation(generation))
    }

    /// The generation of a node that is known just so. Nodes register at each boot, so this is the usual case, and it
    /// costs no write. A row that cannot be read is written anew.
    async fn unchanged(&self, new: &Candidate) -> Option<u64> {
        let known = self.record(&new.node_id).await.ok()??;
        let same = known.ek_public.as_slice() == new.ek_public
            && known.ak_public.as_slice() == new.ak_public
            && known.ek_certificate.as_ref().map(Bytes::as_slice) == new.ek_certificate.as_deref()
            && known.assurance == new.assurance;
        same.then_some(known.generation)
    }

    /// Forgets a node; whether there was one. Its AKs stay, so that a generation is never given twice.
    pub(crate) async fn forget(&self, node: &NodeId) -> Result<bool, RegistrarError> {
        let done = sqlx::query("DELETE FROM nodes WHERE node_id = $1")
            .bind(node.as_str())
            .execute(self.0.pool())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn approval(&self, node: &NodeId) -> Result<Option<String>, RegistrarError> {
        let row = sqlx::query("SELECT note FROM approvals WHERE node_id = $1")
            .bind(node.as_str())
            .fetch_optional(self.0.pool())
            .await?;
        Ok(row.map(|row| row.try_get("note")).transpose()?)
    }

    pub(crate) async fn approvals(&self) -> Result<Vec<ApprovedEk>, RegistrarError> {
        let rows = sqlx::query("SELECT node_id, note FROM approvals ORDER BY node_id")
            .fetch_all(self.0.pool())
            .await?;
        let readable = |row: &AnyRow| {
            approved(row)
                .inspect_err(|error| tracing::error!(%error, "an approval is left out"))
                .ok()
        };
        Ok(rows.iter().filter_map(readable).collect())
    }

    pub(crate) async fn approve(&self, node: &NodeId, note: &str) -> Result<(), RegistrarError> {
        sqlx::query(
            "INSERT INTO approvals (node_id, note, approved_at) VALUES ($1, $2, $3) \
             ON CONFLICT (node_id) DO UPDATE SET note = excluded.note, approved_at = excluded.approved_at",
        )
        .bind(node.as_str())
        .bind(note)
        .bind(signed(now()))
        .execute(self.0.pool())
        .await?;
        Ok(())
    }

    /// Takes an approval back, and with it the registration that rests on it; whether there was one.
    pub(crate) async fn withdraw(&self, node: &NodeId) -> Result<bool, RegistrarError> {
        let mut transaction = self.0.pool().begin().await?;
        let done = sqlx::query("DELETE FROM approvals WHERE node_id = $1")
            .bind(node.as_str())
            .execute(&mut *transaction)
            .await?;
        // Without a certificate that held, nothing but the approval spoke for the EK.
        sqlx::query("DELETE FROM nodes WHERE node_id = $1 AND ek_certificate = ''")
            .bind(node.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

/// The first statement of an activation: two for the same node wait for each other here. The EK is the same by the id.
/// False when the key of this EK is known under another id.
async fn put_node(
    transaction: &mut Transaction<'_, Any>,
    new: &Candidate,
) -> Result<bool, RegistrarError> {
    let assurance = serde_json::to_string(&new.assurance)
        .map_err(|_| bad(new.node_id.as_str(), "assurance"))?;
    let done = sqlx::query(
        "INSERT INTO nodes (node_id, ek_public, ek_key, ek_certificate, assurance, generation) \
         VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (node_id) DO UPDATE SET ek_public = excluded.ek_public, \
         ek_key = excluded.ek_key, ek_certificate = excluded.ek_certificate, assurance = excluded.assurance",
    )
    .bind(new.node_id.as_str())
    .bind(hex::encode(&new.ek_public))
    .bind(new.ek_key.as_str())
    .bind(new.ek_certificate.as_deref().map(hex::encode).unwrap_or_default())
    .bind(assurance)
    .execute(&mut **transaction)
    .await;
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An approval may have been withdrawn since the challenge was made.
async fn still_believed(
    transaction: &mut Transaction<'_, Any>,
    new: &Candidate,
) -> Result<bool, RegistrarError> {
    if matches!(new.assurance, EkAssurance::Certificate { .. }) {
        return Ok(true);
    }
    let row = sqlx::query("SELECT note FROM approvals WHERE node_id = $1")
        .bind(new.node_id.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(row.is_some())
}

/// The generation of this AK: that of the newest when it is the same key, else one more.
async fn put_ak(
    transaction: &mut Transaction<'_, Any>,
    new: &Candidate,
) -> Result<u64, RegistrarError> {
    let node = new.node_id.as_str();
    let ak_public = hex::encode(&new.ak_public);
    let newest = sqlx::query(
        "SELECT generation, ak_public FROM aks WHERE node_id = $1 ORDER BY generation DESC LIMIT 1",
    )
    .bind(node)
    .fetch_optional(&mut **transaction)
    .await?;
    let generation = match newest {
        Some(row) => {
            let generation = unsigned(&row, node, "generation")?;
            if row.try_get::<String, _>("ak_public")? == ak_public {
                return Ok(generation);
            }
            generation + 1
        }
        None => 1,
    };
    sqlx::query(
        "INSERT INTO aks (node_id, generation, ak_public, activated_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(node)
    .bind(signed(generation))
    .bind(ak_public)
    .bind(signed(now()))
    .execute(&mut **transaction)
    .await?;
    Ok(generation)
}

fn bad(node: &str, field: &'static str) -> RegistrarError {
    RegistrarError::Row {
        node: node
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(64)
            .collect(),
        field,
    }
}

fn unsigned(row: &AnyRow, node: &str, field: &'static str) -> Result<u64, RegistrarError> {
    u64::try_from(row.try_get::<i64, _>(field)?).map_err(|_| bad(node, field))
}

fn bytes(row: &AnyRow, node: &str, field: &'static str) -> Result<Vec<u8>, RegistrarError> {
    hex::decode(row.try_get::<String, _>(field)?).map_err(|_| bad(node, field))
}

fn record(row: &AnyRow) -> Result<NodeRecord, RegistrarError> {
    let id: String = row.try_get("node_id")?;
    let ek_public = bytes(row, &id, "ek_public")?;
    // An EK under another's id: not from us.
    if NodeId::of_ek_public(&ek_public).as_str() != id {
        return Err(bad(&id, "ek_public"));
    }
    let ek_certificate = bytes(row, &id, "ek_certificate")?;
    let assurance: String = row.try_get("assurance")?;
    Ok(NodeRecord {
        node_id: NodeId::of_ek_public(&ek_public),
        generation: unsigned(row, &id, "generation")?,
        ek_public: ek_public.into(),
        ek_certificate: (!ek_certificate.is_empty()).then(|| Bytes::from(ek_certificate)),
        assurance: serde_json::from_str(&assurance).map_err(|_| bad(&id, "assurance"))?,
        ak_public: bytes(row, &id, "ak_public")?.into(),
        registered_at: unsigned(row, &id, "activated_at")?,
    })
}

fn approved(row: &AnyRow) -> Result<ApprovedEk, RegistrarError> {
    let id: String = row.try_get("node_id")?;
    Ok(ApprovedEk {
        node_id: id.parse().map_err(|_| bad(&id, "node_id"))?,
        note: row.try_get("note")?,
    })
}
