//! The revocation log: written here, brought to every node, and the CA told.
//!
//! ```text
//! verdict, tenant's word ──► log (database, durable) ──► deliver, one task a link ──► acknowledgements
//!                                                   └──► ca, until it has answered ──► its list ─┐
//!                                                   └──► webhooks                                ├─► deliver
//! start, and half of the list's life ──► the CA's list (`list`): checked, durable ───────────────┘
//! ```
//!
//! A node is told of an entry the moment it is durable; nobody waits for the CA, and no node for another.

mod acks;
mod ca;
mod deliver;
mod gauges;
mod list;
mod log;
mod reconcile;
mod records;
mod table;

use std::sync::{Arc, OnceLock};

use bootkeep_protocol::{revocation::Action, verifier::Reason, Problem, ProblemKind};
use bootkeep_revocation::{Draft, Signed};
use bootkeep_signed::SigningKey;
use bootkeep_store::Store;
use tokio::sync::{watch, Notify};

pub use ca::CaNotices;
pub(crate) use deliver::deliver;

use crate::{
    error::VerifierError,
    fleet::{Enrolled, Node},
    service::Verifier,
};

use acks::Acks;
use list::Lists;
use log::Log;
use table::Table;

/// The verifier's revocations; without a key they do nothing.
#[derive(Debug)]
pub(crate) struct Revocations {
    store: Store,
    on: OnceLock<On>,
}

/// What there is when there is a key.
#[derive(Debug)]
pub(crate) struct On {
    log: Log,
    acks: Acks,
    /// The CA's list.
    lists: Arc<Lists>,
    /// There is an entry for the CA.
    for_ca: Arc<Notify>,
    /// Something could not be written: look at all nodes again.
    amiss: Notify,
    /// Counts up when acknowledgements were stored.
    acknowledged: watch::Sender<u64>,
}

impl Revocations {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            on: OnceLock::new(),
        }
    }

    fn on(&self) -> Option<&On> {
        self.on.get()
    }

    fn told(on: &On) {
        on.acknowledged.send_modify(|count| *count += 1);
    }

    /// Shows at the node whether it is revoked.
    pub(crate) fn mark(&self, node: &Node) {
        let Some(on) = self.on() else { return };
        let known = on.log.revocation(node.id());
        node.set_revocation(known.map(|known| known.sequence));
    }

    /// An enrolment that was revoked stays revoked: its certificates are on the CA's list.
    pub(crate) fn check_enrolment(&self, node: &Node, digest: &str) -> Result<(), Problem> {
        let known = self.on().and_then(|on| on.log.revocation(node.id()));
        match known {
            Some(known) if known.enrolment == digest => Err(Problem::new(
                ProblemKind::Conflict,
                "revoked-enrolment",
                format!(
                    "entry {} of the revocation log revoked this very enrolment; provision the node afresh",
                    known.sequence
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn draft(action: Action, node: &Node, enrolled: &Enrolled, reasons: Vec<Reason>) -> Draft {
    Draft {
        action,
        node_id: node.id().clone(),
        label: enrolled.terms.label.clone(),
        serials: enrolled.terms.serials.clone(),
        addresses: enrolled.terms.addresses.clone(),
        reasons,
    }
}

impl Verifier {
    /// Turns revocations on: signs with this key and tells this CA. Serves once; the tasks end with the verifier.
    ///
    /// # Errors
    /// [`VerifierError`] when the log cannot be read.
    pub async fn start_revocations(
        self: &Arc<Self>,
        key: SigningKey,
        ca: Option<CaNotices>,
    ) -> Result<(), VerifierError> {
        let log = Log::open(Table::new(self.revocations.store.clone()), key).await?;
        let (acks, waiting) = Acks::new(log.table.peers().await?);
        let lists = Arc::new(Lists::load(&log.table).await?);
        tracing::info!(
            log = log.name(),
            entries = log.end().sequence,
            "revocation is on"
        );
        let on = On {
            log,
            acks,
            lists: lists.clone(),
            for_ca: Arc::default(),
            amiss: Notify::new(),
            acknowledged: watch::Sender::new(0),
        };
        if self.revocations.on.set(on).is_err() {
            return Ok(());
        }
        reconcile::once(self).await?;
        tokio::spawn(acks::write(Arc::downgrade(self), waiting));
        tokio::spawn(reconcile::run(Arc::downgrade(self)));
        match ca {
            Some(ca) => {
                tokio::spawn(list::run(Arc::downgrade(self), lists, ca.clone()));
                tokio::spawn(ca::run(Arc::downgrade(self), ca));
            }
            None => tracing::warn!(
                "no ca: the CA is not told of revocations, and nodes are given no revocation list"
            ),
        }
        Ok(())
    }

    /// The node is not to be spoken with any more. Durable, and on its way to every node, when it returns.
    ///
    /// What could not be written is tried again; the verdict stands without it.
    pub(crate) async fn revoke(
        &self,
        node: &Node,
        enrolled: &Enrolled,
        reasons: Vec<Reason>,
    ) -> Result<(), VerifierError> {
        let Some(on) = self.revocations.on() else {
            return Ok(());
        };
        let draft = draft(Action::Revoke, node, enrolled, reasons);
        match on.log.revoke(draft, &enrolled.terms.digest).await {
            Ok(Some(new)) => {
                on.for_ca.notify_one();
                self.appended(node, &new).await;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                on.amiss.notify_one();
                Err(error)
            }
        }
    }

    /// The node was appraised and is good: if it is revoked, and was enrolled anew since, that is over.
    pub(crate) async fn reinstate(
        &self,
        node: &Node,
        enrolled: &Enrolled,
    ) -> Result<(), VerifierError> {
        let Some(on) = self.revocations.on() else {
            return Ok(());
        };
        if on.log.revocation(node.id()).is_none() {
            return Ok(());
        }
        let draft = draft(Action::Reinstate, node, enrolled, Vec::new());
        if let Some(new) = on.log.reinstate(draft, &enrolled.terms.digest).await? {
            self.appended(node, &new).await;
        }
        Ok(())
    }

    async fn appended(&self, node: &Node, new: &Signed) {
        self.revocations.mark(node);
        let sequence = new.entry.sequence;
        let (step, detail) = match new.entry.action {
            Action::Revoke => ("revocation-entry", "says that it is revoked"),
            Action::Reinstate => ("reinstated", "takes its revocation back"),
        };
        node.step(
            step,
            &format!("entry {sequence} of the revocation log {detail}"),
        );
        if let Err(error) = self.webhooks.entry(&new.envelope, &new.entry).await {
            tracing::error!(%error, sequence, "webhooks were not told of an entry");
        }
    }
}
