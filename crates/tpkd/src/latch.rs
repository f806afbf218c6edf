//! The latch: PCR 15 tells whether a boot has already opened its volume, and which.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The digest PCR 15 is extended with just before the volume's key leaves the agent; `key` is
/// [`crate::BootstrapKey::latch_secret`].
///
/// SHA-256 over `bootkeep latch v1`, the volume's name and HMAC-SHA256(key, `bootkeep latch`), each with its length
/// before it as a big-endian `u32`. A system on another volume, even one with a copied UUID, cannot show the value,
/// and the value says nothing about the key.
#[must_use]
pub fn latch_digest(volume: &str, key: &[u8]) -> [u8; 32] {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length");
    };
    let mac = mac.chain_update(b"bootkeep latch").finalize().into_bytes();
    let mut hash = Sha256::new();
    for part in [b"bootkeep latch v1".as_slice(), volume.as_bytes(), &mac] {
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The value of PCR 15 (SHA-256 bank) after that one extend of a PCR that was zero.
#[must_use]
pub fn latched_pcr15(digest: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(digest)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_and_key_both_count() {
        let base = latch_digest("cryptroot", b"key");
        assert_ne!(base, latch_digest("other", b"key"));
        assert_ne!(base, latch_digest("cryptroot", b"yek"));
        assert_ne!(latched_pcr15(&base), base);
    }
}
