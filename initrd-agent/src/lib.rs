//! The agent of the initramfs: register, derive the key, unlock, hand over.
//!
//! One pass through typed stages, each made only from the one before it:
//!
//! ```text
//! Started ─ TPM ─► TpmReady ─ address ─► Online ─ registrar ─► Registered ─ both shares ─► Combined
//!         ─ PCR 15 extended ─► Latched ─ key socket ─► volume open
//! ```
//!
//! Until the shares are combined everything is tried again and again, up to the deadline of `agent.yaml`. No key
//! touches a file system: systemd-cryptsetup reads it from a socket.

#![forbid(unsafe_code)]

mod collect;
pub mod command;
mod console;
mod contents;
mod deadline;
mod derive;
mod error;
mod giving_up;
mod hardening;
mod kept;
mod key_socket;
mod latch;
mod link;
mod luks;
mod own_key;
mod person;
mod prompt;
mod rekey;
mod renew;
mod shares;
mod stages;

use std::{os::unix::net::UnixListener, path::PathBuf, sync::Arc};

use bootkeep_handover::Handover;
use bootkeep_node::{host::KernelFiles, AgentConfig};
use bootkeep_tpm::Tcti;

pub use console::Console;
pub use error::GaveUp;
pub use giving_up::offer_passphrase;
pub use hardening::harden;
pub use key_socket::KeySocket;
pub use luks::LuksProblem;

/// What the agent works with. A real node's comes from [`Settings::of_node`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// `agent.yaml`.
    pub config: AgentConfig,
    /// How to reach the TPM.
    pub tpm: Tcti,
    /// The kernel's logs.
    pub files: KernelFiles,
    /// Where the hand-over goes.
    pub handover: Handover,
    /// Folder of the device mapper's nodes.
    pub mapper: PathBuf,
    /// Folder of systemd's questions for passphrases.
    pub ask_password: PathBuf,
    /// Folder of the kernel's block devices.
    pub sys_block: PathBuf,
    /// Folder of device nodes.
    pub devices: PathBuf,
    /// Where the signatures of a unified kernel image are; the first that is there counts.
    pub pcr_signatures: Vec<PathBuf>,
    /// The program.
    pub cryptsetup: PathBuf,
    /// Where a person may ask for the passphrase's prompt.
    pub terminal: PathBuf,
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
            mapper: "/dev/mapper".into(),
            ask_password: "/run/systemd/ask-password".into(),
            sys_block: "/sys/class/block".into(),
            devices: "/dev".into(),
            pcr_signatures: vec![
                "/.extra/tpm2-pcr-signature.json".into(),
                "/run/systemd/tpm2-pcr-signature.json".into(),
            ],
            cryptsetup: "/sbin/cryptsetup".into(),
            terminal: "/dev/console".into(),
        }
    }

    fn device(&self) -> PathBuf {
        self.mapper.join(&self.config.volume)
    }
}

/// Unlocks the volume: from the TPM to the open device.
///
/// # Errors
/// [`GaveUp`]: why this boot will not unlock by itself.
pub async fn unlock(
    settings: &Settings,
    listener: UnixListener,
    console: &Arc<Console>,
) -> Result<(), GaveUp> {
    let socket = KeySocket::new(listener)?;
    derive::run(settings, &socket, console).await
}
