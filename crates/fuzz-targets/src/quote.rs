//! `TPMS_ATTEST` and `TPMT_SIGNATURE`.

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING},
};
use bootkeep_evidence::{AkPublic, QuoteError, UnverifiedQuote};

/// What the quotes of the corpus answer.
const QUALIFYING: [u8; 5] = [1, 2, 3, 4, 5];
const SELECTION: [u8; 1] = [0];
const VALUES: [(u8, [u8; 32]); 1] = [(0, [0; 32])];

/// An AK in software. Nothing is parsed before its signature is verified, so the target has to sign what it is given.
struct Signer {
    key: EcdsaKeyPair,
    ak: AkPublic,
}

fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a new key");
        let ak = AkPublic::parse(&ak_area(key.public_key().as_ref())).expect("an AK's area");
        Signer { key, ak }
    })
}

/// An AK's `TPMT_PUBLIC` for an uncompressed point: P-256, ECDSA with SHA-256, an AK's attributes.
fn ak_area(point: &[u8]) -> Vec<u8> {
    let head = [
        0, 0x23, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10,
    ];
    [&head, &[0, 32][..], &point[1..33], &[0, 32], &point[33..]].concat()
}

fn sign(attest: &[u8]) -> Vec<u8> {
    let signed = signer().key.sign(&SystemRandom::new(), attest);
    let signed = signed.expect("a signature");
    let (r, s) = signed.as_ref().split_at(32);
    [&[0, 0x18, 0, 0x0b, 0, 32][..], r, &[0, 32], s].concat()
}

/// The input as what the AK has signed, and as a signature. What passes answers the question that was asked, and
/// nothing passes as a signature.
pub fn quote(input: &[u8]) {
    let verify = |attest, signature, qualifying: &[u8]| {
        UnverifiedQuote { attest, signature }.verify(&signer().ak, qualifying, &SELECTION, &VALUES)
    };
    let signature = sign(input);
    if let Ok(quote) = verify(input, &signature, &QUALIFYING) {
        assert!(quote
            .pcrs()
            .iter()
            .eq(VALUES.iter().map(|(at, v)| (*at, v))));
        assert_eq!(quote.pcrs().get(1), None);
        let other = verify(input, &signature, b"another");
        assert_eq!(other, Err(QuoteError::Qualifying));
    }
    assert!(verify(b"attest", input, &QUALIFYING).is_err());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target's own signature passes: what it is given is parsed.
    #[test]
    fn a_signed_attestation_is_parsed() {
        let signature = sign(b"\xff\x54\x43\x47\x80\x18");
        let quote = UnverifiedQuote {
            attest: b"\xff\x54\x43\x47\x80\x18",
            signature: &signature,
        };
        let refused = quote.verify(&signer().ak, &QUALIFYING, &SELECTION, &VALUES);
        assert_eq!(refused, Err(QuoteError::CutShort));
    }
}
