//! The kernel's IPsec by netlink (XFRM): block addresses, remove their states.
//!
//! Own code, small: `netlink-proto` drops a message that it cannot decode and logs its bytes. A state that is skipped is a
//! peer that is not cut off, and its bytes hold its keys.

mod message;
mod policy;
mod socket;
mod state;

use std::{collections::BTreeSet, io, net::IpAddr};

use ipnet::IpNet;

use crate::config::Clear;
use policy::Policy;
use socket::Socket;

/// Why the kernel could not be told.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket.
    #[error(
        "no XFRM socket: {0}; is CONFIG_XFRM_USER in the kernel, or the module xfrm_user loaded?"
    )]
    Socket(io::Error),
    /// Sending or receiving failed.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /// To do what.
        what: &'static str,
        /// The kernel's error number.
        source: io::Error,
    },
    /// A message is not what the kernel's headers say.
    #[error("a netlink message cannot be read: {0}")]
    Malformed(&'static str),
    /// States or policies came and went faster than they could be listed.
    #[error("the list changed while it was read, again and again")]
    Unsteady,
}

/// What is to be blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Nodes: whatever else is allowed, these are blocked.
    pub nodes: BTreeSet<IpNet>,
    /// A whole group, save what is in `clear`.
    pub group: BTreeSet<IpNet>,
    /// Networks to which nothing goes that charon's policies do not speak of. As long as charon's are there, these do
    /// nothing.
    pub guard: BTreeSet<IpNet>,
    /// What still passes while the group is blocked, or guarded.
    pub clear: Vec<Clear>,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Policies that were added.
    pub added: usize,
    /// Own policies that were not wanted any more.
    pub removed: usize,
    /// States that were removed.
    pub states: usize,
}

/// The kernel of this network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Kernel {
    /// Makes the own policies exactly those that are wanted, and removes every state with a blocked address. What is
    /// already so stays untouched.
    ///
    /// New blocks are in place before anything else is done.
    ///
    /// # Errors
    /// [`KernelError`]. The blocks that could be added stay.
    pub fn apply(self, wanted: &Wanted) -> Result<Changes, KernelError> {
        let mut socket = Socket::open()?;
        let wanted_policies = Policy::of(wanted);
        let present = policy::own(&mut socket)?;
        let mut changes = Changes::default();
        for policy in wanted_policies.difference(&present) {
            policy::add(&mut socket, policy)?;
            changes.added += 1;
        }
        changes.states = remove_states(&mut socket, wanted)?;
        for policy in present.difference(&wanted_policies) {
            policy::remove(&mut socket, policy)?;
            changes.removed += 1;
        }
        Ok(changes)
    }

    /// The networks that are blocked now.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn blocked(self) -> Result<BTreeSet<IpNet>, KernelError> {
        let own = policy::own(&mut Socket::open()?)?;
        Ok(own.iter().filter_map(Policy::blocks).collect())
    }

    /// Pairs of source and destination of every state.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn states(self) -> Result<Vec<(IpAddr, IpAddr)>, KernelError> {
        let states = state::all(&mut Socket::open()?)?;
        Ok(states.iter().map(state::State::ends).collect())
    }
}

/// States of blocked addresses. A second look finds what came while the first was at work.
fn remove_states(socket: &mut Socket, wanted: &Wanted) -> Result<usize, KernelError> {
    let blocked: Vec<&IpNet> = wanted.nodes.iter().chain(&wanted.group).collect();
    if blocked.is_empty() {
        return Ok(0);
    }
    let mut removed = 0;
    for _ in 0..2 {
        for state in state::all(socket)? {
            let (source, destination) = state.ends();
            let hit = |net: &&&IpNet| net.contains(&source) || net.contains(&destination);
            if blocked.iter().any(|net| hit(&net)) && state::remove(socket, &state)? {
                removed += 1;
            }
        }
    }
    Ok(removed)
}
