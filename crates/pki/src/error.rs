//! What can go wrong when certificates are made or secrets sealed.

use std::path::PathBuf;

/// Why there is no certificate, list or secret.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate library refused.
    #[error("the certificate cannot be made or read: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A name that cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate; use a host name, an IP address or plain text")]
    Name(String),
    /// The certification request is not one we sign.
    #[error("the certification request is not acceptable: {0}")]
    Request(&'static str),
    /// An OCSP answer or an extension could not be written.
    #[error("the answer cannot be written: {0}")]
    Ocsp(#[from] x509_cert::der::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret file that others may read.
    #[error("{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A state key of another length.
    #[error("{0} does not hold exactly 32 bytes; it is made by `bootkeep init`")]
    StateKeyLength(PathBuf),
    /// Sealed with another key or for another context, or changed.
    #[error("a secret at rest does not open: wrong state key, or the stored bytes were changed")]
    Sealed,
}
