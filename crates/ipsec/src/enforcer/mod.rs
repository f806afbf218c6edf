//! charon and the kernel together: who is cut off, and who is not any more.

mod outcome;
mod state;
mod watch;

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bootkeep_protocol::revocation::Enforcement;

use crate::{
    config::GroupPeer,
    crl,
    ike::{is_ours, Association, Ike},
    kernel::{Changes, Kernel, KernelError},
    vici::ViciError,
    Config, Identity, IpsecError,
};
use state::State;

pub use outcome::{Counts, Outcome};

/// A node that is cut off, or let in again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its IKE identity: `NodeId::host_name`.
    pub host_name: String,
    /// Where it may be.
    pub addresses: Vec<IpAddr>,
}

/// The IPsec of this node. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Ipsec(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    identity: Identity,
    ike: Ike,
    kernel: Kernel,
    state: Mutex<State>,
}

impl Ipsec {
    /// Reads the group's file and the identity's folder. None when there is no such file: this node speaks no IPsec.
    ///
    /// # Errors
    /// [`IpsecError`].
    pub fn load(group: &Path, identity: &Path) -> Result<Option<Self>, IpsecError> {
        let is_there = group.try_exists().map_err(|source| IpsecError::Read {
            path: group.to_owned(),
            source,
        })?;
        if !is_there {
            return Ok(None);
        }
        let config = Config::read(group)?;
        Ok(Some(Self::new(config, Identity::read(identity)?)))
    }

    /// The IPsec that this configuration says, shown with this identity. Nothing is done yet: [`Self::watch`] does it.
    #[must_use]
    pub fn new(config: Config, identity: Identity) -> Self {
        let ike = Ike::at(&config.vici);
        Self(Arc::new(Inner {
            config,
            identity,
            ike,
            kernel: Kernel,
            state: Mutex::default(),
        }))
    }

    /// This node's own IKE identity.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.0.identity.host_name
    }

    /// Cuts a node off: blocks its addresses in the kernel, then ends its associations, and those that come later.
    /// Returns within [`crate::ike::DEADLINE`] and a few milliseconds.
    pub async fn revoke(&self, peer: &Peer) -> Outcome {
        self.state().revoke(peer);
        let mut kernel = self.apply();
        let ended = self
            .0
            .ike
            .end(|association| self.is_cut_off(association))
            .await;
        if ended.as_ref().is_ok_and(|ended| self.learn(ended)) {
            // It was somewhere else as well.
            kernel = kernel.and_then(|before| Ok(before.and(self.apply()?)));
        }
        let blocked = self.state().places(&self.0.config, &peer.host_name).len();
        Outcome::of(kernel, ended.map(|ended| ended.len()), blocked)
    }

    /// Blocks many nodes in the kernel at once, without a word to charon: those of before a restart, until [`Self::watch`]
    /// ends what charon has with them.
    ///
    /// # Errors
    /// [`IpsecError::Kernel`].
    pub fn cut_off(&self, peers: impl IntoIterator<Item = Peer>) -> Result<(), IpsecError> {
        for peer in peers {
            self.state().revoke(&peer);
        }
        self.apply()?;
        Ok(())
    }

    /// Lets a node in again. Associations come back with the first packet, or are begun now if the group says `at-once`.
    pub async fn reinstate(&self, peer: &Peer) -> Outcome {
        self.state().reinstate(&peer.host_name);
        let kernel = self.apply();
        let is_it = |listed: &GroupPeer| match &listed.node_id {
            Some(id) => id.host_name() == peer.host_name,
            None => listed.addresses.iter().any(|a| peer.addresses.contains(a)),
        };
        let begun = self.0.ike.begin(&self.0.config, is_it).await;
        Outcome::of_return(kernel, begun)
    }

    /// Cuts everybody of the group off, save what goes in clear: this node does not know any more whom to trust, or is
    /// itself not trusted.
    pub async fn block_all(&self) -> Outcome {
        self.state().all = true;
        let kernel = self.apply();
        let ended = self
            .0
            .ike
            .end(|association| self.is_cut_off(association))
            .await;
        let blocked = self.0.config.members().len();
        Outcome::of(kernel, ended.map(|ended| ended.len()), blocked)
    }

    /// Lets everybody in again, save the nodes that are revoked.
    pub async fn unblock_all(&self) -> Outcome {
        self.state().all = false;
        let kernel = self.apply();
        let revoked = self.state().names();
        let is_good = |listed: &GroupPeer| {
            let id = listed.node_id.as_ref().map(|id| id.host_name());
            id.is_none_or(|name| !revoked.contains(&name))
        };
        let begun = self.0.ike.begin(&self.0.config, is_good).await;
        Outcome::of_return(kernel, begun)
    }

    /// Takes a new revocation list (DER). charon has it now, or as soon as it is there.
    ///
    /// # Errors
    /// [`IpsecError::Crl`] when it is not a list of this node's authorities; [`IpsecError::Vici`] when charon does not take
    /// it now.
    pub async fn set_crl(&self, der: &[u8]) -> Result<(), IpsecError> {
        crl::check(der, &self.0.identity.authorities)?;
        self.state().crl = Some(der.to_vec());
        Ok(self.0.ike.load_crl(der).await?)
    }

    /// charon's associations.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn associations(&self) -> Result<Vec<Association>, ViciError> {
        self.0.ike.associations().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No holder of the lock can leave it half done: each change is one statement.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the kernel's blocks what they should be. The lock is held, so that an older wish cannot overwrite a newer.
    fn apply(&self) -> Result<Changes, KernelError> {
        let state = self.state();
        self.0.kernel.apply(&state.wanted(&self.0.config))
    }

    fn is_cut_off(&self, association: &Association) -> bool {
        let state = self.state();
        state.is_cut_off(&self.0.config, association)
            || (state.all && is_ours(&association.connection))
    }

    /// Whether anything is new about where nodes are.
    fn learn(&self, associations: &[Association]) -> bool {
        let mut state = self.state();
        // Every one is learned, so no short cut.
        let new = associations
            .iter()
            .filter(|association| state.learn(association));
        new.count() > 0
    }
}

impl Outcome {
    /// Neither way has anything to do here.
    #[must_use]
    pub fn nothing_to_do() -> Self {
        Self {
            enforcement: Enforcement::NothingToDo,
            detail: "this node speaks no IPsec".into(),
            counts: Counts::default(),
        }
    }
}
