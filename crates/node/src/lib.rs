//! What both agents of a node share: configuration, identity, evidence and the answers to the verifier's calls.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `/etc/bootkeep/agent.yaml` |
//! | [`tpm`] | the TPM on a thread of its own, asked from async code |
//! | [`identity`] | EK, AK, and the registration with the registrar |
//! | [`host`] | what the kernel says: boot id, clock, measurement logs |
//! | [`attester`] | evidence and proofs, bound to one link |
//! | [`session`] | one link from opening to end |
//! | [`handover`] | from the initramfs to the booted system, through `/run/bootkeep` |

#![forbid(unsafe_code)]

pub mod attester;
pub mod config;
pub use bootkeep_handover as handover;
pub mod host;
pub mod identity;
pub mod session;
pub mod tpm;

pub use attester::Attester;
pub use config::AgentConfig;
pub use identity::Identity;
