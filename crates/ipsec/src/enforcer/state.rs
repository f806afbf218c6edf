//! Who is cut off, and where nodes were seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::Peer;
use crate::{
    config::{is_of_a_host, Mode},
    ike::Association,
    kernel::Wanted,
    Config,
};

/// Most identities whose addresses are remembered, and addresses of one.
const MAX_SEEN: usize = 16 * 1024;
const MAX_PLACES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Identity and addresses of nodes that are cut off.
    revoked: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Everybody is.
    pub(super) all: bool,
    /// The newest revocation list, DER.
    pub(super) crl: Option<Vec<u8>>,
    /// Where identities were when they last had an association.
    seen: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl State {
    pub(super) fn revoke(&mut self, peer: &Peer) {
        let addresses = peer.addresses.iter().copied().filter(|a| is_of_a_host(*a));
        let known = self.revoked.entry(peer.host_name.clone()).or_default();
        known.extend(addresses);
    }

    pub(super) fn reinstate(&mut self, host_name: &str) {
        self.revoked.remove(host_name);
        self.seen.remove(host_name);
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.revoked.keys().cloned().collect()
    }

    /// Where a node is, by everything that is known.
    pub(super) fn places(&self, config: &Config, host_name: &str) -> BTreeSet<IpNet> {
        let told = self.revoked.get(host_name).into_iter().flatten();
        let seen = self.seen.get(host_name).into_iter().flatten();
        let mut places: BTreeSet<IpNet> = told.chain(seen).copied().map(IpNet::from).collect();
        places.extend(config.places_of(host_name));
        places
    }

    pub(super) fn wanted(&self, config: &Config) -> Wanted {
        let nodes = self.revoked.keys();
        let members = || config.members().into_iter().collect();
        let is_guarded = config.mode == Mode::Transport;
        Wanted {
            nodes: nodes.flat_map(|name| self.places(config, name)).collect(),
            group: if self.all { members() } else { BTreeSet::new() },
            // Between hosts nothing goes in clear, also before charon has started and after it has ended. In tunnel mode
            // the addresses behind peers may be reached by a device of charon's own.
            guard: if is_guarded {
                members()
            } else {
                BTreeSet::new()
            },
            clear: config.clear.clone(),
        }
    }

    /// By its identity; by its address as long as its identity is not proved, or another node's.
    pub(super) fn is_cut_off(&self, config: &Config, association: &Association) -> bool {
        let by_identity = association
            .remote_identity
            .as_ref()
            .is_some_and(|identity| self.revoked.contains_key(identity));
        let by_address = association.remote_address.is_some_and(|address| {
            self.wanted(config)
                .nodes
                .iter()
                .any(|net| net.contains(&address))
        });
        by_identity || by_address
    }

    /// Remembers where an identity is. Whether that is new, and of a node that is cut off.
    pub(super) fn learn(&mut self, association: &Association) -> bool {
        let (Some(identity), Some(address)) =
            (&association.remote_identity, association.remote_address)
        else {
            return false;
        };
        if self.seen.len() >= MAX_SEEN && !self.seen.contains_key(identity) {
            return false;
        }
        let places = self.seen.entry(identity.clone()).or_default();
        let is_new = places.len() < MAX_PLACES && places.insert(address);
        is_new && self.revoked.contains_key(identity)
    }
}
