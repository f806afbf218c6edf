//! PCR values of the SHA-256 bank.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Values of some PCRs of the SHA-256 bank, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrValues(BTreeMap<u8, [u8; 32]>);

impl PcrValues {
    /// The value of one PCR, if it is among these.
    #[must_use]
    pub fn get(&self, index: u8) -> Option<&[u8; 32]> {
        self.0.get(&index)
    }

    /// Sets one value.
    pub fn set(&mut self, index: u8, value: [u8; 32]) {
        self.0.insert(index, value);
    }

    /// In ascending order of index.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8; 32])> {
        self.0.iter().map(|(index, value)| (*index, value))
    }

    /// The SHA-256 over the values in ascending order of index: what a quote signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for value in self.0.values() {
            hash.update(value);
        }
        hash.finalize().into()
    }
}

impl FromIterator<(u8, [u8; 32])> for PcrValues {
    fn from_iter<I: IntoIterator<Item = (u8, [u8; 32])>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// `value` extended with `digest`.
#[must_use]
pub fn extend(value: &[u8; 32], digest: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(value)
        .chain_update(digest)
        .finalize()
        .into()
}
