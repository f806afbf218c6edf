//! An [`ImaState`] as it is stored: the point in the list up to which quotes were found and policy was asked.
//!
//! Entries that no quote covers yet are not part of it. The stored offset is where they begin, so after a restart
//! the node sends them again.

use bootkeep_evidence::ima::{Entry, Replay};
use sha2::{Digest, Sha256};

use super::ImaState;

const MAGIC: &[u8; 8] = b"BKIMACP1";
/// Magic, PCR 10, entries, offset, and SHA-256 over all of that.
const LENGTH: usize = 8 + 32 + 8 + 8 + 32;
const BODY: usize = LENGTH - 32;

/// A stored checkpoint cannot be used. Read the list from its start: the default [`ImaState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored IMA checkpoint is damaged: {0}; the list must be read from its start")]
pub struct CheckpointError(&'static str);

impl ImaState {
    /// For storing: 88 bytes whatever the list's length. The storer keeps them with the boot (reset count) and the
    /// policy they belong to.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let waiting: usize = self.pending.iter().map(Entry::list_len).sum();
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.replay.pcr());
        bytes.extend_from_slice(&self.replay.entries().to_be_bytes());
        bytes.extend_from_slice(&(self.offset - waiting as u64).to_be_bytes());
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// What [`Self::to_bytes`] gave.
    ///
    /// # Errors
    /// [`CheckpointError`] for anything else: a changed bit, another version, a point no list can have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let bytes: &[u8; LENGTH] = bytes
            .try_into()
            .map_err(|_| CheckpointError("it has another length"))?;
        let (body, sum) = bytes.split_at(BODY);
        if Sha256::digest(body).as_slice() != sum {
            return Err(CheckpointError("its checksum does not fit"));
        }
        let (magic, rest) = body.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(CheckpointError("it has another version"));
        }
        let (pcr, rest) = rest.split_at(32);
        let (entries, offset) = rest.split_at(8);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        let pcr: [u8; 32] = pcr
            .try_into()
            .map_err(|_| CheckpointError("it has another length"))?;
        Self::resumed(pcr, number(entries), number(offset))
    }

    fn resumed(pcr: [u8; 32], entries: u64, offset: u64) -> Result<Self, CheckpointError> {
        let nothing = [pcr == [0; 32], entries == 0, offset == 0];
        if nothing.contains(&true) && nothing.contains(&false) {
            return Err(CheckpointError("its parts contradict each other"));
        }
        Ok(Self {
            replay: Replay::resume(pcr, entries),
            offset,
            ..Self::default()
        })
    }
}
