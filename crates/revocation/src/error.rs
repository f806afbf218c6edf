//! Why a call is refused.

use bootkeep_protocol::{Problem, ProblemKind};
use bootkeep_signed::SignedError;

/// Why a call about revocations changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Not signed with a key that counts here, or not readable.
    #[error("a document of the revocation log: {0}")]
    Signature(#[from] SignedError),
    /// Another version than this program's.
    #[error("version {0} of the revocation log is not known here; update this program")]
    Version(u32),
    /// A field is out of its range.
    #[error("entry {sequence} of the revocation log: {field} is out of its range")]
    Field {
        /// Of the entry; 0 for a head.
        sequence: u64,
        /// Which.
        field: &'static str,
    },
    /// More entries than one message carries.
    #[error("{0} entries in one call")]
    TooMany(usize),
    /// It belongs to another log than the one followed so far.
    #[error("log {found} is not {known}, which was followed so far; if the verifier was set up anew, remove the kept log on this node")]
    OtherLog {
        /// The log that was followed.
        known: String,
        /// The other.
        found: String,
    },
    /// An entry that is known, with another content: the log was forked.
    #[error("entry {0} is known with another content: somebody signed two histories")]
    Fork(u64),
    /// Entries do not follow the last one that is held.
    #[error("entry {found} does not follow entry {held}, the last one held")]
    Gap {
        /// Last one held.
        held: u64,
        /// The one that came.
        found: u64,
    },
    /// The head names fewer entries than are held: the verifier's database is older than it was.
    #[error("the log ends at {found} but entry {held} is held: the verifier's database was set back; see \"restore\" in docs/revocation.md")]
    RolledBack {
        /// Last one held.
        held: u64,
        /// Where the head ends.
        found: u64,
    },
    /// The head names fewer entries than the call carries.
    #[error("the log ends at {head} but the call carries entry {carried}")]
    BeyondHead {
        /// Where the head ends.
        head: u64,
        /// The last entry of the call.
        carried: u64,
    },
    /// An old head was sent again.
    #[error("the head is {0} ms older than one that came before: an old one was sent again")]
    StaleHead(u64),
    /// More nodes are revoked than one follower keeps.
    #[error("more than {} nodes are revoked", crate::MAX_REVOKED)]
    Full,
}

impl FollowError {
    /// A stable word, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signature(_) => "revocation-signature",
            Self::Version(_) => "revocation-version",
            Self::Field { .. } => "revocation-field",
            Self::TooMany(_) => "revocation-too-many",
            Self::OtherLog { .. } => "revocation-other-log",
            Self::Fork(_) => "revocation-fork",
            Self::Gap { .. } => "revocation-gap",
            Self::RolledBack { .. } => "revocation-rolled-back",
            Self::BeyondHead { .. } => "revocation-beyond-head",
            Self::StaleHead(_) => "revocation-stale-head",
            Self::Full => "revocation-full",
        }
    }
}

impl From<&FollowError> for Problem {
    fn from(error: &FollowError) -> Self {
        let kind = match error {
            FollowError::Signature(_) => ProblemKind::Untrusted,
            FollowError::Version(_) | FollowError::Field { .. } | FollowError::TooMany(_) => {
                ProblemKind::Malformed
            }
            FollowError::Full => ProblemKind::TooLarge,
            _ => ProblemKind::Conflict,
        };
        Self::new(kind, error.code(), error.to_string())
    }
}

/// Why a kept log cannot be taken up again.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Another version than this program's.
    #[error("version {0} of a kept revocation log is not known here")]
    Version(u32),
    /// A field is out of its range.
    #[error("the kept revocation log: {0} is out of its range")]
    Field(&'static str),
}
