//! The TPM's key derivation functions with SHA-256 (TPM 2.0 Part 1 §11.4.10). One block of 32 bytes is all that is
//! needed here.

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::DIGEST_LEN;

/// What TPM 2.0 puts between a label and what follows it.
const NUL: &[u8] = &[0];
const FIRST_BLOCK: &[u8] = &1u32.to_be_bytes();

/// KDFa: the first `N` bytes (at most 32) for `label` and `context`.
pub(crate) fn kdf_a<const N: usize>(
    seed: &[u8],
    label: &str,
    context: &[u8],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= DIGEST_LEN) };
    let bits = 8 * N as u32;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, seed));
    let parts = [
        FIRST_BLOCK,
        label.as_bytes(),
        NUL,
        context,
        &bits.to_be_bytes(),
    ];
    parts.iter().for_each(|part| mac.update(part));
    first(mac.sign().as_ref())
}

/// KDFe: 32 bytes from the x-coordinates of a shared point and of both parties' points.
pub(crate) fn kdf_e(
    shared: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
) -> Zeroizing<[u8; DIGEST_LEN]> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let parts = [FIRST_BLOCK, shared, label.as_bytes(), NUL, party_u, party_v];
    parts.iter().for_each(|part| hash.update(part));
    first(hash.finish().as_ref())
}

fn first<const N: usize>(bytes: &[u8]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kdf_a_is_hmac_over_counter_label_context_and_length() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"seed");
        let message = [&[0, 0, 0, 1][..], b"STORAGE\0name", &[0, 0, 0, 128]].concat();
        let expected = hmac::sign(&key, &message);
        let made = kdf_a::<16>(b"seed", "STORAGE", b"name");
        assert_eq!(made.as_slice(), &expected.as_ref()[..16]);
    }

    #[test]
    fn kdf_e_is_a_hash_over_counter_shared_label_and_parties() {
        let message = [&[0, 0, 0, 1][..], b"zIDENTITY\0uv"].concat();
        let expected = digest::digest(&digest::SHA256, &message);
        assert_eq!(
            kdf_e(b"z", "IDENTITY", b"u", b"v").as_slice(),
            expected.as_ref()
        );
    }
}
