//! Where in the log somebody is.

use bootkeep_protocol::{revocation::RevocationsReply, Bytes};

/// The last entry somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its number; 0 when there is none.
    pub sequence: u64,
    /// SHA-256 of its payload; zeros when there is none.
    pub digest: [u8; 32],
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self {
        sequence: 0,
        digest: [0; 32],
    };

    /// As it travels; `None` when the digest is not 32 bytes.
    #[must_use]
    pub fn of_parts(sequence: u64, digest: &Bytes) -> Option<Self> {
        let digest = digest.as_slice().try_into().ok()?;
        Some(Self { sequence, digest })
    }

    /// The acknowledgement of somebody who is here.
    #[must_use]
    pub fn reply(&self) -> RevocationsReply {
        RevocationsReply {
            sequence: self.sequence,
            digest: self.digest.as_slice().into(),
            done: Vec::new(),
        }
    }
}
