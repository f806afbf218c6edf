//! Faults of the service itself.

use bootkeep_pki::PkiError;
use bootkeep_protocol::{Problem, ProblemKind};

/// What went wrong on our side.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database could not be opened.
    #[error(transparent)]
    Store(#[from] bootkeep_store::StoreError),
    /// A certificate or list could not be made, or the issuing key does not open.
    #[error("certificates: {0}")]
    Pki(#[from] PkiError),
    /// Something of the database is not what was put there.
    #[error("the database holds a bad {0}")]
    Row(&'static str),
}

impl From<CaError> for Problem {
    fn from(error: CaError) -> Self {
        if let CaError::Pki(PkiError::Request(why)) = error {
            return Self::new(ProblemKind::Malformed, "bad-csr", why);
        }
        tracing::error!(%error, "a fault of the CA");
        Self::new(
            ProblemKind::Internal,
            "internal",
            "the CA has a fault; its log has the cause",
        )
    }
}
