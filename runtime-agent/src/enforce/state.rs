//! All that changes in the enforcer, behind one lock.

use bootkeep_protocol::{revocation::Entry, NodeId};
use bootkeep_revocation::Accepted;

use super::{
    actions::Occasion,
    clock::{Freshness, Word},
    gate::Standing,
    held::Held,
};
use crate::said::Said;

/// What the enforcer knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) held: Held,
    fresh: Freshness,
    /// This node, by its certificate.
    host_name: Option<String>,
    pub(super) gate: Gate,
}

/// Where the gate to all peers is.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How the node stood at the last look.
    pub(super) standing: Option<Standing>,
    /// Whether all peers are blocked; none before the first order.
    pub(super) closed: Option<bool>,
    /// Why it did not move.
    pub(super) said: Said,
}

impl State {
    pub(super) fn new(held: Held, fresh: Freshness, host_name: Option<&str>) -> Self {
        Self {
            held,
            fresh,
            host_name: host_name.map(str::to_owned),
            gate: Gate::default(),
        }
    }

    /// How this node stands to its peers now.
    pub(super) fn standing(&self, now_ms: u64) -> Standing {
        let revoked = self.held.log().revoked();
        if self.held.is_lost() {
            return Standing::Lost;
        }
        if revoked.into_iter().any(|entry| self.is_own(&entry.node_id)) {
            return Standing::SelfRevoked;
        }
        match self.fresh.word(now_ms) {
            Word::Fresh => Standing::Open,
            Word::Awaited => Standing::Waiting,
            Word::Stale => Standing::Stale,
        }
    }

    /// A call was taken. Its head makes the node fresh only once no entry is missing.
    pub(super) fn heard(&mut self, accepted: &Accepted, now_ms: u64) {
        if accepted.is_caught_up() {
            self.fresh.heard(accepted.head.at_ms, now_ms);
        }
    }

    pub(super) fn occasion(&self, entry: &Entry) -> Occasion {
        Occasion::Entry {
            own: self.is_own(&entry.node_id),
            entry: Box::new(entry.clone()),
        }
    }

    /// The certificate says who this node is; without one the daemon is believed.
    fn is_own(&self, node_id: &NodeId) -> bool {
        match &self.host_name {
            Some(name) => node_id.host_name() == *name,
            None => self.held.node_id() == Some(node_id),
        }
    }
}
