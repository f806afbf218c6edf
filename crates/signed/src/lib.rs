//! Signed documents: DSSE envelopes (protocol version 1) with ECDSA P-256.
//!
//! ```
//! use bootkeep_signed::{SigningKey, VerifyingKeys};
//! let key = SigningKey::generate()?;
//! let envelope = key.sign("application/vnd.example+json", b"{}")?;
//! let keys = VerifyingKeys::from_pem(&key.public_pem())?;
//! let verified = keys.verify(&envelope, "application/vnd.example+json")?;
//! assert_eq!(verified.payload(), b"{}");
//! # Ok::<(), bootkeep_signed::SignedError>(())
//! ```

#![forbid(unsafe_code)]

mod key;
mod keys;

use bootkeep_protocol::dsse::Envelope;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

pub use key::SigningKey;
pub use keys::VerifyingKeys;

/// Why something cannot be signed, or why a signed document does not count.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// Not a P-256 key in PKCS #8 or `SubjectPublicKeyInfo`, PEM.
    #[error("not a P-256 {0} key in PEM")]
    Key(&'static str),
    /// No key to verify with.
    #[error("there is no public key to verify signatures with")]
    NoKeys,
    /// More than [`VerifyingKeys::LIMIT`] keys.
    #[error("more than {} public keys", VerifyingKeys::LIMIT)]
    TooManyKeys,
    /// The payload is of another kind.
    #[error("the signed document is {found:?}, expected {expected:?}")]
    PayloadType {
        /// Its type.
        found: String,
        /// What was to be verified.
        expected: String,
    },
    /// None, or more than anybody makes.
    #[error("a signed document has 1 to {0} signatures")]
    Signatures(usize),
    /// No signature is by one of the keys.
    #[error("no signature is by a key that counts here")]
    Signature,
    /// The payload is signed but is not what it should be.
    #[error("the signed document cannot be read: {0}")]
    Document(#[from] serde_json::Error),
    /// The crypto library refused.
    #[error("the document cannot be signed")]
    Sign,
}

/// A payload whose signature was verified. Only [`VerifyingKeys::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    payload: Vec<u8>,
    key_id: String,
}

impl Verified {
    /// What was signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whose signature it was: SHA-256 of the public key, lower-case hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// SHA-256 of the payload.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.payload).into()
    }

    /// The payload, read as JSON.
    ///
    /// # Errors
    /// [`SignedError::Document`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, SignedError> {
        Ok(serde_json::from_slice(&self.payload)?)
    }
}

/// What is signed: the pre-authentication encoding of DSSE.
fn encode(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    text.extend_from_slice(payload);
    text
}

/// SHA-256 of a payload that is not verified: to name it, not to believe it.
#[must_use]
pub fn payload_digest(envelope: &Envelope) -> [u8; 32] {
    Sha256::digest(envelope.payload.as_slice()).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TYPE: &str = "application/vnd.test+json";

    #[test]
    fn the_encoding_is_that_of_the_standard() {
        // The example of the DSSE specification.
        assert_eq!(
            encode("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn what_was_signed_is_read_and_what_was_changed_is_not() {
        let key = SigningKey::generate().unwrap();
        let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
        let envelope = key.sign(TYPE, br#"{"a":1}"#).unwrap();
        let verified = keys.verify(&envelope, TYPE).unwrap();
        assert_eq!(verified.read::<serde_json::Value>().unwrap()["a"], 1);
        assert_eq!(verified.key_id(), key.key_id());
        assert_eq!(verified.digest(), payload_digest(&envelope));

        let mut payload = envelope.clone();
        payload.payload.0[2] ^= 1;
        let mut kind = envelope.clone();
        kind.payload_type.push('x');
        let mut signature = envelope.clone();
        signature.signatures[0].sig.0[8] ^= 1;
        let mut none = envelope.clone();
        none.signatures.clear();
        let mut many = envelope.clone();
        many.signatures = vec![envelope.signatures[0].clone(); 100];
        for (name, changed) in [
            ("payload", &payload),
            ("type", &kind),
            ("signature", &signature),
            ("none", &none),
            ("many", &many),
        ] {
            assert!(keys.verify(changed, TYPE).is_err(), "{name}");
        }
        assert!(matches!(
            keys.verify(&kind, &kind.payload_type),
            Err(SignedError::Signature)
        ));
    }

    #[test]
    fn one_of_several_keys_is_enough_and_hints_are_not_believed() {
        let (old, new, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let pem = [old.public_pem(), new.public_pem()].concat();
        let keys = VerifyingKeys::from_pem(&pem).unwrap();
        for key in [&old, &new] {
            keys.verify(&key.sign(TYPE, b"x").unwrap(), TYPE).unwrap();
        }
        let mut foreign = other.sign(TYPE, b"x").unwrap();
        foreign.signatures[0].keyid = old.key_id().to_owned();
        assert!(matches!(
            keys.verify(&foreign, TYPE),
            Err(SignedError::Signature)
        ));
    }

    #[test]
    fn keys_survive_their_files() {
        let key = SigningKey::generate().unwrap();
        let kept = SigningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(kept.public_pem(), key.public_pem());
        assert!(SigningKey::from_pem(&key.public_pem()).is_err());
        assert!(VerifyingKeys::from_pem(&key.to_pem()).is_err());
        assert!(matches!(
            VerifyingKeys::from_pem("nothing"),
            Err(SignedError::NoKeys)
        ));
    }
}
