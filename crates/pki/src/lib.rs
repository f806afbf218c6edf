//! X.509 as Bootkeep needs it.
//!
//! | module | what |
//! |---|---|
//! | [`ek`] | is this EK certificate of a manufacturer we know, and is it for this EK |
//! | [`identity`] | the owner's authority and the certificates of services |
//! | [`list`] | is this the revocation list of that authority |
//! | [`node`] | certificates of nodes and their revocation list |
//! | [`ocsp`] | answers whether one certificate is still good |
//! | [`state_key`] | secrets at rest |

#![forbid(unsafe_code)]

pub mod ek;
mod error;
pub mod identity;
pub mod list;
pub mod node;
pub mod ocsp;
pub mod state_key;
mod validity;

pub use error::PkiError;
