//! IPsec between the nodes of an owner, and how a node that failed is taken out of it.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `ipsec.yaml`: the group a node is in |
//! | [`identity`] | the node's certificate, its key, and its name in IKE |
//! | [`vici`] | the protocol of strongSwan's daemon `charon` |
//! | [`ike`] | what is asked of charon: connections, revocation lists, ends of associations |
//! | [`kernel`] | the same by netlink (XFRM), for the time when charon does not answer |
//! | [`Ipsec`] | both together: [`Ipsec::revoke`], [`Ipsec::reinstate`], [`Ipsec::block_all`], [`Ipsec::watch`] |
//!
//! A revocation is enforced twice. The kernel's policies block the node's addresses within a millisecond, whatever charon
//! does; charon then ends its associations, and ends each later one with the same identity when it comes up. Policies that
//! demand IPsec stay in place all the time, so nothing falls back to clear text.

#![forbid(unsafe_code)]

pub mod config;
mod crl;
mod enforcer;
mod error;
pub mod identity;
pub mod ike;
pub mod kernel;
pub mod vici;

pub use config::Config;
pub use crl::CrlError;
pub use enforcer::{Counts, Ipsec, Outcome, Peer};
pub use error::IpsecError;
pub use identity::Identity;
