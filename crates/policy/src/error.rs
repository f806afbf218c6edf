//! Why there is no policy.

use std::{io, path::PathBuf};

use bootkeep_evidence::eventlog::EventLogError;

/// Why a policy cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not a document of the form this version reads.
    #[error("the policy document is not valid: {0}")]
    Document(#[from] serde_json::Error),
    /// Another version.
    #[error("the policy document has version {found}, this program reads version {expected}")]
    Version {
        /// In the document.
        found: u32,
        /// What is read.
        expected: u32,
    },
    /// A PCR that no boot policy may name.
    #[error("PCR {0} cannot be in a boot policy: only 0 to 9 and 11 to 14 can (10 is IMA's, 15 is the latch)")]
    Pcr(u8),
    /// A glob that cannot be used.
    #[error("the exclude {pattern:?} cannot be used: {problem}")]
    Glob {
        /// As written.
        pattern: String,
        /// Why.
        problem: String,
    },
    /// More than the limit.
    #[error("the policy has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The boot a policy was to be made from has a log that does not explain its PCRs.
    #[error(
        "the event log does not replay to the quoted PCR {0}: this boot is not a known-good one"
    )]
    Replay(u8),
    /// The event log cannot be read.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// An entry of a list that cannot go into a policy.
    #[error("entry {number} of the IMA list cannot be in a policy: {problem}")]
    Entry {
        /// Counts from 0.
        number: usize,
        /// Why.
        problem: String,
    },
    /// A file of the tree cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
