//! TPM2_MakeCredential in software: the challenge side of credential activation (TPM 2.0 Part 1 §24).
//!
//! The asker wraps a secret so that only the TPM that holds the EK gives it back, and only when the key of the given
//! name is loaded in it too. A node that answers with the secret has proved that its AK lives beside its EK.

#![forbid(unsafe_code)]

mod blob;
mod kdf;
mod seed;

use aws_lc_rs::error::Unspecified;
use bootkeep_evidence::EkPublic;

const ALG_SHA256: [u8; 2] = [0x00, 0x0b];
const DIGEST_LEN: usize = 32;
const NAME_LEN: usize = ALG_SHA256.len() + DIGEST_LEN;

/// What TPM2_ActivateCredential takes: the contents of two `TPM2B`s, without their sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Contents of `TPM2B_ID_OBJECT`.
    pub blob: Vec<u8>,
    /// Contents of `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Vec<u8>,
}

/// Why no credential could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The EK is no usable key: a point that is not on the curve, a modulus that cannot be one.
    #[error("the EK is not a usable public key")]
    EkPublic,
    /// The secret does not fit: a TPM takes at most as many bytes as its name algorithm's digest has.
    #[error("a credential holds 1 to 32 bytes, not {0}")]
    SecretLength(usize),
    /// The name is not that of a key whose name algorithm is SHA-256.
    #[error("the AK's name must be 0x000b and a SHA-256 digest")]
    AkName,
    /// The system gave no random bytes or the library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

/// Wraps `secret` (1 to 32 bytes) so that TPM2_ActivateCredential opens it only with this EK and the key whose name is
/// `ak_name` (contents of `TPM2B_NAME`).
///
/// # Errors
/// [`CredentialError`].
pub fn make_credential(
    ek: &EkPublic,
    ak_name: &[u8],
    secret: &[u8],
) -> Result<Credential, CredentialError> {
    if secret.is_empty() || secret.len() > DIGEST_LEN {
        return Err(CredentialError::SecretLength(secret.len()));
    }
    if ak_name.len() != NAME_LEN || !ak_name.starts_with(&ALG_SHA256) {
        return Err(CredentialError::AkName);
    }
    let (seed, encrypted_secret) = seed::share(ek)?;
    Ok(Credential {
        blob: blob::protect(seed.as_slice(), ak_name, secret)?,
        encrypted_secret,
    })
}

impl From<Unspecified> for CredentialError {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}
