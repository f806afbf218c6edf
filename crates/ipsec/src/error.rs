//! Why IPsec cannot be set up.

use std::{io, path::PathBuf};

use crate::{
    config::ConfigError, crl::CrlError, identity::IdentityError, kernel::KernelError,
    vici::ViciError,
};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum IpsecError {
    /// No usable configuration.
    #[error("ipsec.yaml: {0}")]
    Config(#[from] ConfigError),
    /// No usable certificate or key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// charon does not do what it must.
    #[error("charon: {0}")]
    Vici(#[from] ViciError),
    /// The kernel does not do what it must.
    #[error("the kernel's IPsec: {0}")]
    Kernel(#[from] KernelError),
    /// A revocation list is no good.
    #[error("the revocation list: {0}")]
    Crl(#[from] CrlError),
    /// A file cannot be looked at.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
