//! The verifier: its parts and its front.

use std::sync::Arc;

use axum::Router;
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::{registrar::NodeRecord, NodeId, Nonce, Problem};
use bootkeep_store::Store;
use tokio::sync::Semaphore;

use crate::{
    api,
    counters::Counters,
    error::VerifierError,
    fleet::Fleet,
    registrar::Registrar,
    store::{Database, Sealer, MIGRATOR},
    webhooks::Webhooks,
};

/// A node that has shown nothing yet costs memory: this many at one time.
const MAX_OPENINGS: usize = 512;

/// The verifier's parts.
#[derive(Debug)]
pub struct Verifier {
    pub(crate) fleet: Fleet,
    pub(crate) counters: Counters,
    /// Links that may be between upgrade and verdict at one time.
    pub(crate) openings: Semaphore,
    pub(crate) webhooks: Webhooks,
    registrar: Registrar,
}

impl Verifier {
    /// Opens the database and loads what is enrolled.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub async fn open(
        database_url: &str,
        state_key: StateKey,
        registrar: Registrar,
    ) -> Result<Arc<Self>, VerifierError> {
        let store = Store::connect(database_url, &MIGRATOR).await?;
        let webhooks = Webhooks::new(store.clone());
        let database = Database::new(store, Sealer::new(state_key));
        Ok(Arc::new(Self {
            fleet: Fleet::load(database).await?,
            counters: Counters::default(),
            openings: Semaphore::new(MAX_OPENINGS),
            webhooks,
            registrar,
        }))
    }

    /// Waits for running statements and closes the database.
    pub async fn close(&self) {
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
