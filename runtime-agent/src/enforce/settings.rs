//! What the enforcer works with.

use std::{path::PathBuf, time::Duration};

use bootkeep_handover::Handover;
use bootkeep_node::{config::RevocationConfig, host::KernelFiles};

use super::wire::SOCKET;

/// A real node's comes from [`EnforceSettings::of_node`].
#[derive(Clone, Debug)]
pub struct EnforceSettings {
    /// Public keys of revocations, PEM.
    pub keys: PathBuf,
    /// Without a fresh word for so long the node closes.
    pub fail_closed_after: Option<Duration>,
    /// The node's IPsec group.
    pub ipsec: PathBuf,
    /// Folder of the node's certificate and key.
    pub identity: PathBuf,
    /// Folder of the owner's actions.
    pub actions: PathBuf,
    /// What is held of the log.
    pub state: PathBuf,
    /// The CA's newest revocation list, for an IKE daemon that starts before the verifier is reached.
    pub crl: PathBuf,
    /// When the last fresh word was; forgotten at reboot.
    pub fresh: PathBuf,
    /// Where the daemon speaks with it.
    pub socket: PathBuf,
    /// Where claims wait for the daemon.
    pub handover: Handover,
    /// The kernel's files.
    pub files: KernelFiles,
}

impl EnforceSettings {
    /// Those of the machine this runs on.
    #[must_use]
    pub fn of_node(config: &RevocationConfig) -> Self {
        Self {
            keys: config.keys.clone(),
            fail_closed_after: config.fail_closed_after_seconds.map(Duration::from_secs),
            ipsec: config.ipsec.clone(),
            identity: "/etc/bootkeep/identity".into(),
            actions: "/etc/bootkeep/actions.d".into(),
            state: "/var/lib/bootkeep/revocations.json".into(),
            crl: "/var/lib/bootkeep/crl.der".into(),
            fresh: "/run/bootkeep-enforce/fresh.json".into(),
            socket: SOCKET.into(),
            handover: Handover::default(),
            files: KernelFiles::default(),
        }
    }
}
