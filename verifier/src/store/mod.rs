//! What survives a restart: enrolments, sealed secrets, verdicts.

mod boot_files;
mod checkpoints;
mod keys;
mod policies;
mod seal;

use std::sync::Arc;

use bootkeep_protocol::{boot_files::BootFiles, policy::PolicySource, NodeId};
use bootkeep_store::Store;
use sqlx::{migrate::Migrator, Row};

pub(crate) use checkpoints::{context as checkpoint_context, NewCheckpoint};
pub(crate) use keys::{NamedShare, SecretSet, Taken};
pub(crate) use policies::PolicyRow;
pub(crate) use seal::Sealer;

use crate::{
    error::VerifierError,
    fleet::{Enrolled, NewEnrolment, Terms, Trust},
    keys::Keys,
    policies::{Kind, Line, Policies, Shelf},
};

/// The tables.
pub(crate) static MIGRATOR: Migrator = sqlx::migrate!();

/// A node as it was stored.
pub(crate) struct StoredNode {
    pub(crate) id: NodeId,
    pub(crate) enrolled: Enrolled,
    pub(crate) trust: Trust,
    pub(crate) keys: Keys,
    pub(crate) boot_files: Option<BootFiles>,
}

/// The database and the key of its secrets.
#[derive(Debug)]
pub(crate) struct Database {
    store: Store,
    sealer: Sealer,
}

fn json(value: &impl serde::Serialize) -> Result<String, VerifierError> {
    serde_json::to_string(value).map_err(|error| VerifierError::Document(error.to_string()))
}

fn document<T: for<'de> serde::Deserialize<'de>>(text: &str) -> Result<T, VerifierError> {
    serde_json::from_str(text).map_err(|error| VerifierError::Document(error.to_string()))
}

impl Database {
    pub(crate) fn new(store: Store, sealer: Sealer) -> Self {
        Self { store, sealer }
    }

    pub(crate) async fn close(&self) {
        self.store.close().await;
    }

    /// Every node whose row can be read.
    pub(crate) async fn load(&self, policies: &Policies) -> Result<Vec<StoredNode>, VerifierError> {
        let lines = Lines {
            store: &self.store,
            policies,
        };
        let rows =
            sqlx::query("SELECT node_id, enrolment, boot_policy, runtime_policy, trust FROM nodes")
                .fetch_all(self.store.pool())
                .await?;
        let mut keys = self.all_keys().await?;
        let mut boot_files = self.all_boot_files().await?;
        let mut nodes = Vec::new();
        for row in rows {
            let id: String = row.try_get("node_id")?;
            match read_row(&row, &lines).await {
                Ok(node) => nodes.push(StoredNode {
                    keys: keys.remove(&id).unwrap_or_default(),
                    boot_files: boot_files.remove(&id),
                    ..node
                }),
                Err(error) => {
                    tracing::error!(node = id, %error, "an enrolment cannot be read and is left out")
                }
            }
        }
        Ok(nodes)
    }

    /// One node as it is stored now; `None` when it is not enrolled.
    pub(crate) async fn load_one(
        &self,
        id: &NodeId,
        policies: &Policies,
    ) -> Result<Option<StoredNode>, VerifierError> {
        let lines = Lines {
            store: &self.store,
            policies,
        };
        let row = sqlx::query(
            "SELECT node_id, enrolment, boot_policy, runtime_policy, trust FROM nodes WHERE node_id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(self.store.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(StoredNode {
            keys: self.keys(id).await?,
            boot_files: self.boot_files(id).await?,
            ..read_row(&row, &lines).await?
        }))
    }

    /// Stores an enrolment in place of the node's old one; gives the K sets the node has then.
    pub(crate) async fn enrol(
        &self,
        id: &NodeId,
        new: &NewEnrolment,
        trust: &Trust,
    ) -> Result<Keys, VerifierError> {
        let enrolled = &new.enrolled;
        let mut transaction = self.store.pool().begin().await?;
        let keys = keys::enrol(&mut transaction, &self.sealer, id, new).await?;
        for (digest, text) in [
            (&enrolled.boot_digest, &new.boot_document),
            (&enrolled.runtime_digest, &new.runtime_document),
        ] {
            sqlx::query("INSERT INTO policies (digest, document) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING")
                .bind(digest.as_str())
                .bind(text.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        for table in ["nodes", "checkpoints"] {
            sqlx::query(&format!("DELETE FROM {table} WHERE node_id = $1"))
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "INSERT INTO nodes (node_id, enrolment, boot_policy, runtime_policy, trust) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.as_str())
        .bind(json(&enrolled.terms)?)
        .bind(enrolled.boot_digest.as_str())
        .bind(enrolled.runtime_digest.as_str())
        .bind(json(trust)?)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(UNUSED_POLICIES)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(keys)
    }

    /// Stores a verdict. One that is open never replaces one that is closed: another verifier has refused or revoked the
    /// node. That one is given back then.
    pub(crate) async fn save_trust(
        &self,
        id: &NodeId,
        trust: &Trust,
    ) -> Result<Option<Trust>, VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        if trust.is_open() && keys::take_node(&mut transaction, id).await? {
            let row = sqlx::query("SELECT trust FROM nodes WHERE node_id = $1")
                .bind(id.as_str())
                .fetch_one(&mut *transaction)
                .await?;
            let stored: Trust = document(&row.try_get::<String, _>("trust")?)?;
            if !stored.is_open() {
                return Ok(Some(stored));
            }
        }
        sqlx::query("UPDATE nodes SET trust = $2 WHERE node_id = $1")
            .bind(id.as_str())
            .bind(json(trust)?)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(None)
    }

    /// Stores the verdict and deletes every V and envelope.
    pub(crate) async fn revoke(&self, id: &NodeId, trust: &Trust) -> Result<(), VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        sqlx::query("UPDATE nodes SET trust = $2 WHERE node_id = $1")
            .bind(id.as_str())
            .bind(json(trust)?)
            .execute(&mut *transaction)
            .await?;
        keys::delete_all(&mut transaction, id).await?;
        Ok(transaction.commit().await?)
    }

    /// Deletes the enrolment and what belongs to it.
    pub(crate) async fn forget(&self, id: &NodeId) -> Result<(), VerifierError> {
        let mut transaction = self.store.pool().begin().await?;
        keys::take_node(&mut transaction, id).await?;
        keys::delete_all(&mut transaction, id).await?;
        for table in ["nodes", "checkpoints", "boot_files"] {
            sqlx::query(&format!("DELETE FROM {table} WHERE node_id = $1"))
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(UNUSED_POLICIES)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

const UNUSED_POLICIES: &str =
    "DELETE FROM policies WHERE digest NOT IN (SELECT boot_policy FROM nodes) \
     AND digest NOT IN (SELECT runtime_policy FROM nodes)";

/// Gives nodes that are loaded their policies: each document is read and kept once.
struct Lines<'a> {
    store: &'a Store,
    policies: &'a Policies,
}

impl Lines<'_> {
    async fn line<P: Kind>(
        &self,
        digest: &str,
        shelf: &Shelf<P>,
    ) -> Result<Arc<Line<P>>, VerifierError> {
        if let Some(known) = shelf.known(digest) {
            return Ok(known);
        }
        let row = sqlx::query("SELECT document FROM policies WHERE digest = $1")
            .bind(digest)
            .fetch_one(self.store.pool())
            .await?;
        match document(&row.try_get::<String, _>("document")?)? {
            // Also when no generation of it could be read: the node is there and waits for one.
            PolicySource::Named(name) => Ok(shelf.named(&name)),
            PolicySource::Document(value) => shelf
                .document(digest, value)
                .map_err(|error| VerifierError::Document(error.to_string())),
        }
    }
}

async fn read_row(row: &sqlx::any::AnyRow, lines: &Lines<'_>) -> Result<StoredNode, VerifierError> {
    let text = |name: &str| row.try_get::<String, _>(name);
    let bad = |what: &str| VerifierError::Document(what.to_owned());
    let id: NodeId = text("node_id")?.parse().map_err(|_| bad("not a node id"))?;
    let terms: Terms = document(&text("enrolment")?)?;
    let latched = terms.latched_pcr15.as_slice().try_into();
    let (boot_digest, runtime_digest) = (text("boot_policy")?, text("runtime_policy")?);
    Ok(StoredNode {
        id,
        keys: Keys::default(),
        boot_files: None,
        trust: document(&text("trust")?)?,
        enrolled: Enrolled {
            latched_pcr15: latched.map_err(|_| bad("latched_pcr15 is not 32 bytes"))?,
            boot: lines.line(&boot_digest, &lines.policies.boot).await?,
            runtime: lines.line(&runtime_digest, &lines.policies.runtime).await?,
            terms,
            boot_digest,
            runtime_digest,
        },
    })
}
