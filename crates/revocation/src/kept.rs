//! A follower's state as it is written to a disk.

use std::collections::HashSet;

use bootkeep_protocol::{
    limits::MAX_REVOCATIONS,
    revocation::{Action, Entry},
    Bytes,
};
use serde::{Deserialize, Serialize};

use crate::{
    document::{field_out_of_range, is_log},
    KeptError, Position, MAX_REVOKED,
};

/// Version of [`Kept`].
const KEPT_VERSION: u32 = 1;

/// What a follower knows. Whoever can write it decides what the node believes: it belongs in a file of root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// The log that is followed; absent before the first contact.
    log: Option<String>,
    sequence: u64,
    digest: Bytes,
    /// When the newest head was made, milliseconds since 1970 (UTC), the verifier's clock.
    head_ms: u64,
    /// Digests of the last entries, the newest last.
    recent: Vec<Bytes>,
    /// For each node that is revoked now, the entry that says so.
    revoked: Vec<Entry>,
}

impl Kept {
    pub(crate) fn new(
        log: Option<String>,
        position: Position,
        head_ms: u64,
        recent: impl Iterator<Item = [u8; 32]>,
        revoked: Vec<Entry>,
    ) -> Self {
        Self {
            version: KEPT_VERSION,
            log,
            sequence: position.sequence,
            digest: position.digest.as_slice().into(),
            head_ms,
            recent: recent.map(|digest| digest.as_slice().into()).collect(),
            revoked,
        }
    }

    pub(crate) fn open(self) -> Result<Opened, KeptError> {
        if self.version != KEPT_VERSION {
            return Err(KeptError::Version(self.version));
        }
        let position =
            Position::of_parts(self.sequence, &self.digest).ok_or(KeptError::Field("digest"))?;
        let recent = self
            .recent
            .iter()
            .map(|digest| digest.as_slice().try_into().ok())
            .collect::<Option<Vec<[u8; 32]>>>()
            .ok_or(KeptError::Field("recent"))?;
        let opened = Opened {
            log: self.log,
            position,
            head_ms: self.head_ms,
            recent,
            revoked: self.revoked,
        };
        opened.check()?;
        Ok(opened)
    }
}

/// A kept state whose parts fit together.
pub(crate) struct Opened {
    pub(crate) log: Option<String>,
    pub(crate) position: Position,
    pub(crate) head_ms: u64,
    pub(crate) recent: Vec<[u8; 32]>,
    pub(crate) revoked: Vec<Entry>,
}

impl Opened {
    fn check(&self) -> Result<(), KeptError> {
        let held = self.position.sequence;
        let newest = self.recent.last().copied();
        let log_is_good = match &self.log {
            Some(log) => is_log(log),
            None => held == 0,
        };
        let revoked_is_good = |entry: &Entry| {
            field_out_of_range(entry).is_none()
                && entry.action == Action::Revoke
                && Some(&entry.log) == self.log.as_ref()
                && entry.sequence <= held
        };
        let nodes: HashSet<_> = self.revoked.iter().map(|entry| &entry.node_id).collect();
        for (field, good) in [
            ("log", log_is_good),
            (
                "digest",
                newest.unwrap_or(Position::START.digest) == self.position.digest,
            ),
            (
                "recent",
                self.recent.len() <= MAX_REVOCATIONS
                    && self.recent.len() as u64 <= held
                    && self.recent.is_empty() == (held == 0),
            ),
            (
                "revoked",
                self.revoked.len() <= MAX_REVOKED
                    && nodes.len() == self.revoked.len()
                    && self.revoked.iter().all(revoked_is_good),
            ),
        ] {
            if !good {
                return Err(KeptError::Field(field));
            }
        }
        Ok(())
    }
}
