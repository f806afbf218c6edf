//! Making entries and heads: the verifier's side.

use std::net::IpAddr;

use bootkeep_protocol::{
    dsse::Envelope,
    revocation::{Action, Entry, Head, ENTRY_TYPE, HEAD_TYPE, REVOCATION_VERSION},
    verifier::Reason,
    NodeId,
};
use bootkeep_signed::{SignedError, SigningKey};

use crate::{document::shorten, Position};

/// What an entry is to say; its place in the log is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What happened.
    pub action: Action,
    /// To which node.
    pub node_id: NodeId,
    /// Its human name.
    pub label: String,
    /// Serial numbers of its certificates, lower-case hex.
    pub serials: Vec<String>,
    /// Addresses it has in the owner's network.
    pub addresses: Vec<IpAddr>,
    /// Why. What is longer than an entry may be is cut off.
    pub reasons: Vec<Reason>,
}

impl Draft {
    /// With nothing known beside the node.
    #[must_use]
    pub fn new(action: Action, node_id: NodeId, label: &str) -> Self {
        Self {
            action,
            node_id,
            label: label.to_owned(),
            serials: Vec::new(),
            addresses: Vec::new(),
            reasons: Vec::new(),
        }
    }
}

/// A new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// As it is stored and sent.
    pub envelope: Envelope,
    /// What it says.
    pub entry: Entry,
    /// Where the log ends with it.
    pub position: Position,
}

/// The key of one log.
#[derive(Debug)]
pub struct LogKey {
    key: SigningKey,
    log: String,
}

impl LogKey {
    /// Signs for the log of this name (32 random hex digits, made with the log).
    #[must_use]
    pub fn new(key: SigningKey, log: &str) -> Self {
        Self {
            key,
            log: log.to_owned(),
        }
    }

    /// The log's name.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The entry after `last`.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn entry(&self, last: &Position, at_ms: u64, draft: Draft) -> Result<Signed, SignedError> {
        let mut entry = Entry {
            version: REVOCATION_VERSION,
            log: self.log.clone(),
            sequence: last.sequence + 1,
            previous: last.digest.as_slice().into(),
            at_ms,
            action: draft.action,
            node_id: draft.node_id,
            label: draft.label,
            serials: draft.serials,
            addresses: draft.addresses,
            reasons: draft.reasons,
        };
        shorten(&mut entry);
        let envelope = self.key.sign(ENTRY_TYPE, &serde_json::to_vec(&entry)?)?;
        let position = Position {
            sequence: entry.sequence,
            digest: bootkeep_signed::payload_digest(&envelope),
        };
        Ok(Signed {
            envelope,
            entry,
            position,
        })
    }

    /// The log ends at `last`, now.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn head(&self, last: &Position, at_ms: u64) -> Result<Envelope, SignedError> {
        let head = Head {
            version: REVOCATION_VERSION,
            log: self.log.clone(),
            sequence: last.sequence,
            digest: last.digest.as_slice().into(),
            at_ms,
        };
        self.key.sign(HEAD_TYPE, &serde_json::to_vec(&head)?)
    }
}
