//! The registrar: its parts, and registration.

use std::{sync::Arc, time::Instant};

use axum::Router;
use bootkeep_credential::{make_credential, CredentialError};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    registrar::{ActivateRequest, Activated, Challenge, RegisterRequest},
    NodeId, Problem,
};

use crate::{
    api,
    candidate::Keys,
    challenges::{random, Challenges},
    counters::Counters,
    store::{Database, Stored},
    Refusal, RegistrarError,
};

/// The registrar's parts.
pub struct Registrar {
    pub(crate) database: Database,
    pub(crate) counters: Counters,
    roots: EkRoots,
    challenges: Challenges,
}

impl Registrar {
    /// Opens the database.
    ///
    /// # Errors
    /// [`RegistrarError`].
    pub async fn open(database_url: &str, roots: EkRoots) -> Result<Arc<Self>, RegistrarError> {
        if roots.roots() == 0 {
            tracing::warn!("there are no EK roots: only approved EKs can register");
        }
        Ok(Arc::new(Self {
            database: Database::open(database_url).await?,
            counters: Counters::default(),
            roots,
            challenges: Challenges::default(),
        }))
    }

    /// The routes of the API.
    pub fn router(self: &Arc<Self>) -> Router {
        api::router(self.clone())
    }

    /// The routes of the metrics listener.
    pub fn metrics_router(self: &Arc<Self>) -> Router {
        api::metrics_router(self.clone())
    }

    /// Checks keys and certificate of a node and challenges it.
    pub(crate) async fn challenge(&self, request: RegisterRequest) -> Result<Challenge, Problem> {
        let keys = Keys::check(request)?;
        let approval = self.database.approval(&keys.node_id).await?;
        let (secret, id) = (random()?, hex::encode(&random()?[..16]));
        let (ek, ak_name) = (keys.ek.clone(), keys.ak.name().to_vec());
        let candidate = keys.believe(&self.roots, approval)?;
        let credential = make_credential(&ek, &ak_name, secret.as_slice()).map_err(not_made)?;
        let node_id = candidate.node_id.clone();
        self.challenges
            .put(id.clone(), secret, candidate, Instant::now())?;
        self.counters.challenged();
        tracing::debug!(node = node_id.short(), "challenged");
        Ok(Challenge {
            node_id,
            challenge_id: id,
            credential_blob: credential.blob.into(),
            encrypted_secret: credential.encrypted_secret.into(),
        })
    }

    /// Checks the answer to a challenge and registers the node.
    pub(crate) async fn activate(
        &self,
        node: &NodeId,
        answer: &ActivateRequest,
    ) -> Result<Activated, Problem> {
        let proven = self.challenges.answer(node, answer, Instant::now())?;
        match self.database.activate(&proven).await? {
            Stored::Withdrawn => Err(Refusal::Withdrawn.into()),
            Stored::OtherId => Err(Refusal::OtherId.into()),
            Stored::Generation(generation) => {
                self.counters.activated();
                let assurance = &proven.candidate().assurance;
                tracing::info!(node = node.short(), generation, ?assurance, "registered");
                Ok(Activated {
                    node_id: node.clone(),
                    generation,
                })
            }
        }
    }
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

fn not_made(error: CredentialError) -> Problem {
    match error {
        CredentialError::EkPublic => Refusal::EkUnusable.into(),
        error => RegistrarError::Credential(error).into(),
    }
}
