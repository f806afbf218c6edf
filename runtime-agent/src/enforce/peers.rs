//! This node's peers: who is spoken with over IPsec, and who is not any more.

use std::{path::Path, sync::Arc, time::Instant};

use bootkeep_ipsec::{Ipsec, IpsecError, Outcome, Peer};
use bootkeep_protocol::{
    limits::clean_text,
    revocation::{Action, Done, Enforcement, Entry},
};

use super::{enforcer::Enforcer, keep};

/// The node's IPsec group or certificate is no good.
#[derive(Debug, thiserror::Error)]
#[error("IPsec of this node: {0}")]
pub struct PeersError(#[from] IpsecError);

/// The peers; none when this node speaks no IPsec.
#[derive(Debug)]
pub(super) struct Peers(Option<Ipsec>);

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enforced {
    pub(super) how: Enforcement,
    pub(super) detail: String,
}

impl From<Outcome> for Enforced {
    fn from(outcome: Outcome) -> Self {
        Self {
            how: outcome.enforcement,
            detail: outcome.detail,
        }
    }
}

impl Enforced {
    pub(super) fn is_failed(&self) -> bool {
        self.how == Enforcement::Failed
    }

    pub(super) fn done(self, sequence: u64, arrived: Instant) -> Done {
        Done {
            sequence,
            outcome: self.how,
            took_us: u64::try_from(arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
            detail: clean_text(&self.detail),
        }
    }
}

impl Peers {
    pub(super) fn load(group: &Path, identity: &Path) -> Result<Self, PeersError> {
        Ok(Self(Ipsec::load(group, identity)?))
    }

    /// This node, by its certificate.
    pub(super) fn host_name(&self) -> Option<&str> {
        self.0.as_ref().map(Ipsec::host_name)
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        match self.host_name() {
            Some(name) => format!("IPsec as {name}"),
            None => "no ipsec.yaml: this node speaks no IPsec".into(),
        }
    }

    /// Nothing of the group goes in clear from now on: the kernel's policies need neither an IKE daemon nor the log.
    pub(super) fn guard(&self) {
        if let Err(error) = self.cut_off_again(std::iter::empty()) {
            tracing::error!(%error, "the kernel does not guard the group yet");
        }
    }

    /// Cuts off again who was cut off before: the kernel does it now, [`watch`] tells the IKE daemon.
    pub(super) fn cut_off_again<'a>(
        &self,
        revoked: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), IpsecError> {
        match &self.0 {
            Some(ipsec) => ipsec.cut_off(revoked.map(peer)),
            None => Ok(()),
        }
    }

    pub(super) async fn enforce(&self, entry: &Entry) -> Enforced {
        let outcome = match (&self.0, entry.action) {
            (None, _) => Outcome::nothing_to_do(),
            (Some(ipsec), Action::Revoke) => ipsec.revoke(&peer(entry)).await,
            (Some(ipsec), Action::Reinstate) => ipsec.reinstate(&peer(entry)).await,
        };
        outcome.into()
    }

    pub(super) async fn block_all(&self) -> Enforced {
        let outcome = match &self.0 {
            Some(ipsec) => ipsec.block_all().await,
            None => Outcome::nothing_to_do(),
        };
        outcome.into()
    }

    pub(super) async fn unblock_all(&self) -> Enforced {
        let outcome = match &self.0 {
            Some(ipsec) => ipsec.unblock_all().await,
            None => Outcome::nothing_to_do(),
        };
        outcome.into()
    }

    /// Passes the revocation list on, and keeps it: without one the IKE daemon lets nobody in. It speeds nothing up and
    /// decides nothing about entries: the log does.
    pub(super) async fn set_crl(&self, der: &[u8], keep_at: &Path) {
        let Some(ipsec) = &self.0 else { return };
        match ipsec.set_crl(der).await {
            Ok(()) => {}
            // One that is not there yet gets it when it is.
            Err(IpsecError::Vici(problem)) => {
                tracing::warn!(%problem, "the IKE daemon does not take the revocation list now");
            }
            Err(problem) => {
                tracing::warn!(%problem, "a revocation list is not taken");
                return;
            }
        }
        if let Err(error) = keep::write(keep_at, der) {
            tracing::warn!(%error, "the revocation list cannot be kept");
        }
    }

    /// The list of before this start.
    pub(super) async fn set_kept_crl(&self, kept_at: &Path) {
        if let (Some(ipsec), Ok(Some(der))) = (&self.0, keep::read(kept_at)) {
            // An IKE daemon that is not there yet gets it when it is.
            if let Err(problem @ IpsecError::Crl(_)) = ipsec.set_crl(&der).await {
                tracing::warn!(%problem, "the kept revocation list is not used");
            }
        }
    }
}

fn peer(entry: &Entry) -> Peer {
    Peer {
        host_name: entry.node_id.host_name(),
        addresses: entry.addresses.clone(),
    }
}

/// Keeps the IKE daemon as it should be, for ever.
pub(super) async fn watch(enforcer: Arc<Enforcer>) {
    match &enforcer.peers.0 {
        Some(ipsec) => ipsec.watch().await,
        None => std::future::pending().await,
    }
}
