//! Why the daemon ends.

use std::{io, path::PathBuf};

use bootkeep_link::TlsError;
use bootkeep_node::{config::ConfigError, identity::IdentityError, tpm::TpmGone};
use bootkeep_tpkd::RandomError;
use bootkeep_tpm::TpmError;

/// Why the daemon cannot go on. systemd starts it again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No usable configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The CA file is missing.
    #[error(
        "cannot read {path}: {source}; install the files that `bootkeep init` wrote under node/"
    )]
    ServerCa {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA file holds no usable certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TPM does not do what it must.
    #[error("the TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The TPM's thread ended.
    #[error(transparent)]
    TpmGone(#[from] TpmGone),
    /// EK or AK cannot be brought up.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The kernel gives no boot id.
    #[error("the boot id cannot be read: {0}")]
    BootId(io::Error),
    /// The kernel gives no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The hand-over folder cannot be trusted.
    #[error("the hand-over: {0}")]
    Handover(io::Error),
}
