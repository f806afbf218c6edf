//! The agent of the booted node.
//!
//! Several programs in one binary, so that the one with the network is confined, and those with secrets or rights have no
//! network:
//!
//! | command | unit | what |
//! |---|---|---|
//! | `bootkeep-agent place` | `bootkeep-place.service`, once, before `sysinit.target` | takes the hand-over of the initramfs and puts its files in place ([`place`]) |
//! | `bootkeep-agent` | `bootkeep-agent.service` | keeps a link to a verifier, answers its quotes, tells when the IMA list grows, sends claims, relays revocations ([`daemon`]) |
//! | `bootkeep-agent boot-files` | hooks of kernel and initramfs packages | digests of the files the next boot will use, for the daemon to report ([`boot_files`]) |
//! | `bootkeep-agent enforce` | `bootkeep-enforce.service` | checks revocations, holds them, ends IPsec with revoked nodes, runs the owner's actions ([`enforce`]) |
//!
//! The daemon holds one secret, in memory: the private half of its transport key, which a share for the next boot is
//! wrapped to. It needs no hand-over: started again, it attests as before, with the same AK.

#![forbid(unsafe_code)]

pub mod boot_files;
mod claims;
pub mod daemon;
pub mod enforce;
mod error;
mod ima;
mod keep;
mod link;
pub mod place;
mod relay;
mod said;
mod supervisor;

use std::path::PathBuf;

use bootkeep_handover::Handover;
use bootkeep_node::{host::KernelFiles, AgentConfig};
use bootkeep_tpm::Tcti;

pub use error::AgentError;
pub use supervisor::Supervisor;

/// What the daemon works with. A real node's comes from [`Settings::of_node`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// `agent.yaml`.
    pub config: AgentConfig,
    /// How to reach the TPM.
    pub tpm: Tcti,
    /// The kernel's logs.
    pub files: KernelFiles,
    /// Where claims wait.
    pub handover: Handover,
    /// Where the enforcer listens.
    pub enforcer: PathBuf,
    /// Where the report about the files of the next boot is.
    pub boot_files: PathBuf,
}

impl Settings {
    /// Those of the machine this runs on.
    #[must_use]
    pub fn of_node(config: AgentConfig) -> Self {
        Self {
            tpm: Tcti::Device(config.tpm.clone()),
            config,
            files: KernelFiles::default(),
            handover: Handover::default(),
            enforcer: enforce::wire::SOCKET.into(),
            boot_files: boot_files::REPORT.into(),
        }
    }
}
