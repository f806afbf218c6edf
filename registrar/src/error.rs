//! Refusals and faults.

use bootkeep_credential::CredentialError;
use bootkeep_evidence::key::KeyError;
use bootkeep_pki::ek::EkError;
use bootkeep_protocol::{limits::clean_text, NodeId, Problem, ProblemKind};

/// What went wrong on our side.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database could not be opened.
    #[error(transparent)]
    Store(#[from] bootkeep_store::StoreError),
    /// A row is not what was put there.
    #[error("the row of node {node} has a bad {field}")]
    Row {
        /// Whose.
        node: String,
        /// Which part of it.
        field: &'static str,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// No challenge could be made.
    #[error("no challenge can be made: {0}")]
    Credential(CredentialError),
}

/// Why a node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field is over its limit.
    #[error("{0} is longer than its limit")]
    TooLong(&'static str),
    /// The EK is not one.
    #[error("the EK is not acceptable: {0}")]
    Ek(KeyError),
    /// The AK is not one (A01: a key the TPM does not vouch for).
    #[error("the AK is not acceptable: {0}")]
    Ak(KeyError),
    /// No EK certificate, no approval.
    #[error("this TPM has no EK certificate and its EK is not approved; the owner can approve it: bootkeep approve {0}")]
    NoCertificate(NodeId),
    /// The EK certificate does not hold.
    #[error("{}", clean_text(&.0.to_string()))]
    Certificate(EkError),
    /// The approval went away between challenge and answer.
    #[error("the approval of this EK was withdrawn")]
    Withdrawn,
    /// The key of this EK is known under another id, with another public area round it.
    #[error("this EK is registered as another node; one EK is one node")]
    OtherId,
    /// No EK key can be encrypted to.
    #[error("the EK is not a usable key")]
    EkUnusable,
    /// Too many challenges wait for an answer.
    #[error("too many challenges wait for an answer; try again in a minute")]
    Busy,
    /// Never made, already answered, for another node, or too old.
    #[error("there is no such challenge waiting: it was answered, is too old, or was never made; register anew")]
    NoChallenge,
    /// The proof is wrong. What it should have been is not said.
    #[error("the proof is wrong: this AK does not live in the TPM of this EK")]
    Proof,
}

impl Refusal {
    /// Kind and stable code.
    fn class(&self) -> (ProblemKind, &'static str) {
        match self {
            Self::TooLong(_) => (ProblemKind::TooLarge, "too-long"),
            Self::Ek(_) | Self::EkUnusable => (ProblemKind::Untrusted, "ek-public"),
            Self::Ak(_) => (ProblemKind::Untrusted, "ak-public"),
            Self::NoCertificate(_) => (ProblemKind::Untrusted, "ek-no-certificate"),
            Self::Certificate(_) => (ProblemKind::Untrusted, "ek-untrusted"),
            Self::Withdrawn => (ProblemKind::Untrusted, "approval-withdrawn"),
            Self::OtherId => (ProblemKind::Conflict, "ek-other-id"),
            Self::Busy => (ProblemKind::Busy, "challenges-full"),
            Self::NoChallenge => (ProblemKind::Conflict, "no-challenge"),
            Self::Proof => (ProblemKind::Untrusted, "proof"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (kind, code) = refusal.class();
        Self::new(kind, code, refusal.to_string())
    }
}

impl From<RegistrarError> for Problem {
    fn from(error: RegistrarError) -> Self {
        tracing::error!(%error, "a fault of the registrar");
        Self::new(
            ProblemKind::Internal,
            "internal",
            "the registrar has a fault; its log has the cause",
        )
    }
}
