//! Keys that verify.

use aws_lc_rs::signature::{UnparsedPublicKey, ECDSA_P256_SHA256_ASN1};
use bootkeep_protocol::dsse::Envelope;
use rustls_pki_types::{pem::PemObject, SubjectPublicKeyInfoDer};
use sha2::{Digest, Sha256};

use crate::{encode, SignedError, Verified};

/// Most signatures of one envelope.
const MAX_SIGNATURES: usize = 4;
/// `SubjectPublicKeyInfo` of an uncompressed P-256 point (RFC 5480), up to the point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_LEN: usize = 65;

/// The public keys whose signatures count: one, and while keys are changed two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKeys(Vec<PublicKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    id: String,
    point: [u8; POINT_LEN],
}

impl PublicKey {
    fn from_der(der: &[u8]) -> Option<Self> {
        let point = der.strip_prefix(&P256_PREFIX)?.try_into().ok()?;
        Some(Self {
            id: hex::encode(Sha256::digest(der)),
            point,
        })
    }
}

impl VerifyingKeys {
    /// Most keys of one file.
    pub const LIMIT: usize = 8;

    /// One or more public keys, PEM.
    ///
    /// # Errors
    /// [`SignedError::Key`], [`SignedError::NoKeys`], [`SignedError::TooManyKeys`].
    pub fn from_pem(pem: &str) -> Result<Self, SignedError> {
        if pem.contains("PRIVATE KEY") {
            return Err(SignedError::Key("public"));
        }
        let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes())
            .map(|der| PublicKey::from_der(der.ok()?.as_ref()))
            .collect::<Option<Vec<_>>>()
            .ok_or(SignedError::Key("public"))?;
        match keys.len() {
            0 => Err(SignedError::NoKeys),
            count if count > Self::LIMIT => Err(SignedError::TooManyKeys),
            _ => Ok(Self(keys)),
        }
    }

    /// The ids of the keys: SHA-256 of each, lower-case hex.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// Checks that the envelope is of this type and signed by one of the keys.
    ///
    /// # Errors
    /// [`SignedError`].
    pub fn verify(&self, envelope: &Envelope, payload_type: &str) -> Result<Verified, SignedError> {
        if envelope.payload_type != payload_type {
            return Err(SignedError::PayloadType {
                found: envelope.payload_type.chars().take(80).collect(),
                expected: payload_type.to_owned(),
            });
        }
        if !(1..=MAX_SIGNATURES).contains(&envelope.signatures.len()) {
            return Err(SignedError::Signatures(MAX_SIGNATURES));
        }
        let message = encode(payload_type, envelope.payload.as_slice());
        // The key id of a signature is a hint of the sender: every key is tried.
        let signer = self.0.iter().find(|key| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point);
            let by = |signature: &[u8]| public.verify(&message, signature).is_ok();
            envelope
                .signatures
                .iter()
                .any(|signature| by(signature.sig.as_slice()))
        });
        signer
            .map(|key| Verified {
                payload: envelope.payload.0.clone(),
                key_id: key.id.clone(),
            })
            .ok_or(SignedError::Signature)
    }
}
