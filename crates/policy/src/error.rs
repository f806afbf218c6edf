//! Why there is no policy.

use std::{io, path::PathBuf};

use bootkeep_evidence::eventlog::EventLogError;

/// Why a policy cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not a document of the form this version reads.
    #[error("the policy document is not valid: {0}")]
    Document(#[from] serde_json::Error),
    /// Not YAML of the form this version reads.
    #[error("the policy document is not valid: {0}")]
    Yaml(#[from] serde_yaml::Error),
    /// Another version.
    #[error("the policy document has version {found}, this program reads version {expected}")]
    Version {
        /// In the document.
        found: u32,
        /// What is read.
        expected: u32,
    },
    /// A boot policy of another version.
    #[error("the boot policy has version {0}, this program reads versions 1 and 2")]
    BootVersion(u32),
    /// A rule that cannot be held against anything.
    #[error("the rule {rule} cannot be used: {problem}")]
    Rule {
        /// Where in the document.
        rule: String,
        /// Why.
        problem: String,
    },
    /// Rules cannot be joined.
    #[error(
        "only boot policies of version 1 can be joined: make the policy from all known-good boots at once, or let \
         the two be generations of one policy"
    )]
    Merge,
    /// A known-good boot that cannot be read.
    #[error("known-good boot {boot}: {problem}")]
    KnownGood {
        /// Counts from 1 in the order given.
        boot: usize,
        /// Why.
        problem: String,
    },
    /// A policy has rules on what cannot be foretold.
    #[error("the boot policy has rules on PCR {pcr}, which cannot be foretold: {problem}")]
    Open {
        /// Which.
        pcr: u8,
        /// The event and why.
        problem: String,
    },
    /// A boot that adding alternatives does not make acceptable.
    #[error("the next boot is not acceptable by the rules of the policy, whatever digests are added: {0}")]
    NextBoot(String),
    /// A PCR that no boot policy may name.
    #[error("PCR {0} cannot be in a boot policy: only 0 to 9 and 11 to 14 can (10 is IMA's, 15 is the latch)")]
    Pcr(u8),
    /// A glob or regular expression that cannot be used.
    #[error("the pattern {pattern:?} cannot be used: {problem}")]
    Pattern {
        /// As written, its start.
        pattern: String,
        /// Why.
        problem: String,
    },
    /// A key or certificate that cannot be used.
    #[error("the key {name:?} cannot be used: {problem}")]
    Key {
        /// Its name, or the buffer it belongs to.
        name: String,
        /// Why.
        problem: String,
    },
    /// A digest in a rule that is not one.
    #[error("{0:?} is not a digest: sha256:<hex>, sha384:…, sha512:…, verity:sha256:… or verity:sha512:…")]
    Digest(String),
    /// A document of version 1 with parts of version 2.
    #[error("{0} needs \"version\": 2")]
    NeedsVersion2(&'static str),
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
