//! `/etc/bootkeep/ipsec.yaml`: the IPsec group of a node.
//!
//! ```yaml
//! group: web
//! networks: [10.1.0.0/24]         # any host there that shows a certificate of the node CA
//! clear:                          # what is never protected: the services that attest and provision
//!   - { network: 10.1.0.250, protocol: tcp, port: 8894 }
//! ```

mod check;
pub(crate) use check::is_of_a_host;
mod document;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use bootkeep_protocol::NodeId;
use ipnet::IpNet;

pub use document::{Mode, Protocol, RevocationRule, Start};

/// Largest file (bytes).
pub const MAX_BYTES: usize = 64 * 1024;
/// Most peers of a group that are listed one by one.
pub const MAX_PEERS: usize = 1024;
/// Most networks, exceptions, or addresses in one list.
pub const MAX_LIST: usize = 64;

/// Why a file is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than [`MAX_BYTES`].
    #[error("an IPsec configuration has at most {MAX_BYTES} bytes")]
    Large,
    /// It is not the YAML that is expected.
    #[error("{0}")]
    Yaml(#[from] serde_yaml::Error),
    /// A value cannot be used.
    #[error("`{field}`: {problem}")]
    Value {
        /// Where.
        field: &'static str,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// The IPsec group of a node, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name: part of the names of connections.
    pub group: String,
    /// Host to host, or networks behind hosts.
    pub mode: Mode,
    /// When associations are made.
    pub start: Start,
    /// This node's own addresses; empty: whatever it has.
    pub addresses: Vec<IpAddr>,
    /// In tunnel mode: what is behind this node.
    pub subnets: Vec<IpNet>,
    /// Peers that are known one by one.
    pub peers: Vec<GroupPeer>,
    /// Networks, all hosts of which are peers.
    pub networks: Vec<IpNet>,
    /// What goes unprotected.
    pub clear: Vec<Clear>,
    /// IKE proposals, best first.
    pub ike_proposals: Vec<String>,
    /// ESP proposals, best first.
    pub esp_proposals: Vec<String>,
    /// What is demanded of the revocation status of a peer's certificate.
    pub revocation: RevocationRule,
    /// charon's socket.
    pub vici: PathBuf,
}

/// A peer that is known by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPeer {
    /// Where it is.
    pub addresses: Vec<IpAddr>,
    /// For people.
    pub label: Option<String>,
    /// Who it is; absent: any node of the node CA.
    pub node_id: Option<NodeId>,
    /// In tunnel mode: what is behind it.
    pub subnets: Vec<IpNet>,
}

/// Traffic that goes unprotected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clear {
    /// With whom.
    pub network: IpNet,
    /// All protocols when absent.
    pub protocol: Option<Protocol>,
    /// The port at the other end; all when absent.
    pub port: Option<u16>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes =
            crate::identity::read_bounded(path, MAX_BYTES).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
        Self::parse(&bytes)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(yaml: &[u8]) -> Result<Self, ConfigError> {
        if yaml.len() > MAX_BYTES {
            return Err(ConfigError::Large);
        }
        check::checked(serde_yaml::from_slice(yaml)?)
    }

    /// Every address and network that this group speaks IPsec with.
    #[must_use]
    pub fn members(&self) -> Vec<IpNet> {
        let listed = self
            .peers
            .iter()
            .flat_map(|peer| peer.addresses.iter().copied().map(IpNet::from));
        let behind = self.peers.iter().flat_map(|peer| peer.subnets.clone());
        self.networks
            .iter()
            .copied()
            .chain(listed)
            .chain(behind)
            .collect()
    }

    /// What is known of the addresses of the node with this IKE identity: its own, and what is behind it.
    #[must_use]
    pub fn places_of(&self, host_name: &str) -> Vec<IpNet> {
        self.peers
            .iter()
            .filter(|peer| {
                peer.node_id
                    .as_ref()
                    .is_some_and(|node| node.host_name() == host_name)
            })
            .flat_map(|peer| {
                let own = peer.addresses.iter().copied().map(IpNet::from);
                own.chain(peer.subnets.iter().copied()).collect::<Vec<_>>()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
