//! Faults of the service itself.

use bootkeep_protocol::{Problem, ProblemKind};

/// What went wrong on our side.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database could not be opened.
    #[error(transparent)]
    Store(#[from] bootkeep_store::StoreError),
    /// The state key could not be read, or something was not sealed with it.
    #[error("the state key: {0}")]
    StateKey(String),
    /// A document for the database could not be written, or one from it could not be read.
    #[error("a stored document: {0}")]
    Document(String),
    /// Our certificate, key or CA.
    #[error("the TLS material: {0}")]
    Tls(String),
    /// The revocation log cannot be signed or is not whole.
    #[error("the revocation log: {0}")]
    Revocation(String),
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// What was asked for cannot be done as things stand; no fault.
    #[error("{0}")]
    Refused(Problem),
    /// Keys that signatures are verified with.
    #[error("{path}: {source}")]
    Keys {
        /// Their file.
        path: std::path::PathBuf,
        /// Why they cannot be used.
        source: bootkeep_signed::SignedError,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<Problem> for VerifierError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<VerifierError> for Problem {
    fn from(error: VerifierError) -> Self {
        if let VerifierError::Refused(problem) = error {
            return problem;
        }
        tracing::error!(%error, "a fault of the verifier");
        Self::new(
            ProblemKind::Internal,
            "internal",
            "the verifier has a fault; its log has the cause",
        )
    }
}
