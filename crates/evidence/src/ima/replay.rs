//! Replay of the list into PCR 10 of the SHA-256 bank.

use sha2::{Digest, Sha256};

use super::Entry;
use crate::pcr::{extend, PcrValues};

/// The PCR that IMA extends.
pub(super) const IMA_PCR: u8 = 10;

/// No prefix of the list gives the quoted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no part of the IMA list gives the quoted PCR 10 (tampered, dropped or reordered entries)")]
pub struct ReplayError;

/// How far the list of one boot has been found in quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    pcr: [u8; 32],
    entries: u64,
}

impl Replay {
    /// Goes on where an earlier replay of the same boot stood. The caller must have kept both values itself: a value
    /// from anywhere else makes every entry before it unseen.
    #[must_use]
    pub fn resume(pcr: [u8; 32], entries: u64) -> Self {
        Self { pcr, entries }
    }

    /// PCR 10 after these entries.
    #[must_use]
    pub fn pcr(&self) -> &[u8; 32] {
        &self.pcr
    }

    /// Entries found in quotes so far.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Finds how many of the next `entries` the quoted PCR 10 covers, and moves on by them. The list is read after
    /// the quote is made, so later entries are not wrong: they wait for the next quote.
    ///
    /// # Errors
    /// [`ReplayError`] when no number of them fits; the replay then stays where it was.
    pub fn advance(&mut self, entries: &[Entry], quoted: &[u8; 32]) -> Result<usize, ReplayError> {
        let mut pcr = self.pcr;
        let mut covered = 0;
        while pcr != *quoted {
            let entry = entries.get(covered).ok_or(ReplayError)?;
            pcr = extend(&pcr, &entry.extended_digest());
            covered += 1;
        }
        self.pcr = pcr;
        self.entries += covered as u64;
        Ok(covered)
    }
}

/// The digest of the list's first entry: SHA-256 over PCRs 0 to 9. `None` when one of them is missing.
#[must_use]
pub fn boot_aggregate(pcrs: &PcrValues) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    for index in 0..10 {
        hash.update(pcrs.get(index)?);
    }
    Some(hash.finalize().into())
}
