//! The verifier: its parts and its front.

use std::sync::Arc;

use axum::Router;
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::{registrar::NodeRecord, NodeId, Nonce, Problem};
use bootkeep_signed::VerifyingKeys;
use bootkeep_store::Store;
use tokio::sync::Semaphore;

use crate::{
    api,
    counters::Counters,
    error::VerifierError,
    fleet::{spawn_writer, Fleet},
    policies::Policies,
    registrar::Registrar,
    revocation::Revocations,
    store::{Database, Sealer, MIGRATOR},
    webhooks::Webhooks,
};

/// A node that has shown nothing yet costs memory: this many at one time.
const MAX_OPENINGS: usize = 512;

/// The verifier's parts.
#[derive(Debug)]
pub struct Verifier {
    pub(crate) fleet: Fleet,
    pub(crate) policies: Policies,
    pub(crate) counters: Counters,
    /// Links that may be between upgrade and verdict at one time.
    pub(crate) openings: Semaphore,
    pub(crate) webhooks: Webhooks,
    pub(crate) revocations: Revocations,
    registrar: Registrar,
}

impl Verifier {
    /// A verifier without signed policies: [`Self::open_with`] no keys.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub async fn open(
        database_url: &str,
        state_key: StateKey,
        registrar: Registrar,
    ) -> Result<Arc<Self>, VerifierError> {
        Self::open_with(database_url, state_key, registrar, None).await
    }

    /// Opens the database and loads what is enrolled. Policies count when one of `policy_keys` signed them.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub async fn open_with(
        database_url: &str,
        state_key: StateKey,
        registrar: Registrar,
        policy_keys: Option<VerifyingKeys>,
    ) -> Result<Arc<Self>, VerifierError> {
        let store = Store::connect(database_url, &MIGRATOR).await?;
        let webhooks = Webhooks::new(store.clone());
        let revocations = Revocations::new(store.clone());
        let database = Database::new(store, Sealer::new(state_key));
        let policies = Policies::load(&database, policy_keys).await?;
        let verifier = Arc::new(Self {
            fleet: Fleet::load(database, &policies).await?,
            policies,
            counters: Counters::default(),
            openings: Semaphore::new(MAX_OPENINGS),
            webhooks,
            revocations,
            registrar,
        });
        spawn_writer(&verifier);
        Ok(verifier)
    }

    /// Stores what is written behind, waits for running statements and closes the database.
    pub async fn close(&self) {
        self.fleet.flush().await;
        self.fleet.database.close().await;
    }

    /// The routes of the API and of the link.
    pub fn router(self: &Arc<Self>) -> Router {
        api::router(self.clone())
    }

    /// The routes of the metrics listener.
    pub fn metrics_router(self: &Arc<Self>) -> Router {
        api::metrics_router(self.clone())
    }

    /// A nonce for one question; it is never asked for twice.
    pub(crate) fn nonce(&self) -> Result<Nonce, VerifierError> {
        Nonce::fresh().map_err(|_| VerifierError::Random)
    }

    pub(crate) async fn record(&self, node: &NodeId) -> Result<NodeRecord, Problem> {
        self.registrar.record(node).await
    }
}
