//! Webhooks: other systems are told when a node's state changes, and of every entry of the revocation log.
//!
//! ```text
//! states of all nodes ── observe ──► outbox (database) ── deliver, one task a target, in order ──► https
//! revocation entries  ── entry ────►
//! ```
//!
//! What is told is durable before it is sent, and told at least once: a receiver tells repeats apart by the delivery id.
//! A target that is away holds up nobody else; after [`deliver::KEEP`] an event is given up, counted and logged.

mod deliver;
mod event;
mod observe;
mod outbox;
mod target;

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, OnceLock,
    },
    time::Duration,
};

use bootkeep_protocol::{dsse::Envelope, revocation::Entry};
use bootkeep_store::Store;
use tokio::sync::Notify;

use crate::{error::VerifierError, service::Verifier};

pub use target::{Target, WebhookConfig, WebhookError};

use event::Event;
use outbox::Outbox;

/// Between two looks at all states when nobody woke the observer.
const LOOK: Duration = Duration::from_secs(2);

/// The verifier's webhooks; without targets they do nothing.
#[derive(Debug)]
pub(crate) struct Webhooks {
    outbox: Outbox,
    targets: OnceLock<Vec<Arc<Target>>>,
    changed: Notify,
    filled: Notify,
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

impl Webhooks {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            outbox: Outbox::new(store),
            targets: OnceLock::new(),
            changed: Notify::new(),
            filled: Notify::new(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    fn targets(&self) -> &[Arc<Target>] {
        self.targets.get().map_or(&[], Vec::as_slice)
    }

    /// The state of a node may have changed: look now.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Tells of an entry of the revocation log. Durable when it returns.
    pub(crate) async fn entry(
        &self,
        envelope: &Envelope,
        entry: &Entry,
    ) -> Result<(), VerifierError> {
        if self.targets().is_empty() {
            return Ok(());
        }
        let event = Event::of_entry(envelope, entry)?;
        self.outbox.put(&event, self.targets(), None).await?;
        self.filled.notify_waiters();
        Ok(())
    }

    /// For `/metrics`: name, help, value.
    pub(crate) fn counters(&self) -> [(&'static str, &'static str, u64); 3] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (
                "webhooks_delivered",
                "Webhook events that a target took.",
                value(&self.delivered),
            ),
            (
                "webhooks_failed",
                "Tries to deliver a webhook event that failed.",
                value(&self.failed),
            ),
            (
                "webhooks_given_up",
                "Webhook events that no target took in time.",
                value(&self.given_up),
            ),
        ]
    }
}

impl Verifier {
    /// Starts telling these targets. Serves once; the tasks end with the verifier.
    pub fn start_webhooks(self: &Arc<Self>, targets: Vec<Target>) {
        if targets.is_empty() {
            return;
        }
        let targets: Vec<_> = targets.into_iter().map(Arc::new).collect();
        if self.webhooks.targets.set(targets.clone()).is_err() {
            return;
        }
        tracing::info!(targets = targets.len(), "webhooks are on");
        tokio::spawn(observe::run(Arc::downgrade(self)));
        for target in targets {
            tokio::spawn(deliver::run(Arc::downgrade(self), target));
        }
    }
}
