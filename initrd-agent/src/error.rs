//! Why the agent gives up.

use std::{io, path::PathBuf};

use bootkeep_link::TlsError;
use bootkeep_node::{
    attester::AttestError, config::ConfigError, identity::IdentityError, tpm::TpmGone,
};
use bootkeep_tpm::TpmError;

/// Why this boot will not unlock by itself. The text is for the person at the console.
#[derive(Debug, thiserror::Error)]
pub enum GaveUp {
    /// No usable configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The CA file is missing or not PEM.
    #[error("{path}: {problem}; install the files that `bootkeep init` wrote under node/ and make the initramfs again")]
    ServerCa {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The TPM does not do what it must.
    #[error("the TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The TPM's thread ended.
    #[error(transparent)]
    TpmGone(#[from] TpmGone),
    /// EK or AK cannot be brought up.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// PCR 15 is not zero.
    #[error("PCR 15 shows that this boot has already opened its volume or given up; no key is asked for twice in one boot: reboot")]
    AlreadyLatched,
    /// PCR 15 has another value after the latch than it must.
    #[error("PCR 15 does not hold the latch after it was extended; the key is not given out")]
    NotLatched,
    /// The time is over.
    #[error("no key within {seconds} s; last: {last}")]
    Deadline {
        /// The deadline.
        seconds: u64,
        /// What was last waited for or refused.
        last: String,
    },
    /// A person at the console wants to type a passphrase.
    #[error("somebody at the console did not want to wait; last: {last}")]
    Asked {
        /// What was last waited for or refused.
        last: String,
    },
    /// systemd did not take the key, or the volume did not open.
    #[error("the volume {volume} did not open within {seconds} s after its key was ready; does the key slot hold this key?")]
    NotOpened {
        /// Which volume.
        volume: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Somebody was asked for a passphrase, so nothing says that the owner's key has opened the volume.
    #[error("a passphrase was asked for after the key of {volume} was given out: what was opened may not be the owner's volume, the hand-over is taken back")]
    OpenedByHand {
        /// Which volume.
        volume: String,
    },
    /// The volume that opened is not one that only the owner's key opens.
    #[error("the volume {volume} is not the owner's: {problem}; the hand-over is taken back")]
    NotTheOwners {
        /// Which volume.
        volume: String,
        /// What is wrong.
        problem: crate::LuksProblem,
    },
    /// No listening socket from systemd.
    #[error("there is no key socket (file descriptor 3); this program is started by bootkeep-initrd-agent.socket")]
    NoSocket,
    /// The socket, the boot id or the hand-over.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl GaveUp {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl From<AttestError> for GaveUp {
    fn from(error: AttestError) -> Self {
        match error {
            AttestError::Tpm(error) => error.into(),
            AttestError::Gone(error) => error.into(),
            AttestError::Log(source) => Self::Io {
                what: "a measurement log",
                source,
            },
        }
    }
}

/// The text for a CA file that is not one.
pub(crate) fn server_ca(path: PathBuf) -> impl FnOnce(TlsError) -> GaveUp {
    move |error| GaveUp::ServerCa {
        path,
        problem: error.to_string(),
    }
}
