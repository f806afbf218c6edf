//! Signatures of files as `security.ima` holds them and the `sig` field of the list shows them
//! (`security/integrity/integrity.h`, `struct signature_v2_hdr`; `security/integrity/ima/ima_appraise.c`).
//!
//! | byte 0 | version | signed |
//! |---|---|---|
//! | 3, `EVM_IMA_XATTR_DIGSIG` | 2 | the file's digest |
//! | 3, `EVM_IMA_XATTR_DIGSIG` | 3 | `ima_file_id`: that byte, the digest's algorithm and the file's digest |
//! | 6, `IMA_VERITY_DIGSIG` | 3 | `ima_file_id` with the digest of fs-verity, which is a Merkle tree's root and no digest of the contents |

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{
        ParsedPublicKey, VerificationAlgorithm, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1,
        ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
        ECDSA_P384_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512,
    },
};
use sha1::{Digest as _, Sha1};

use super::FileDigest;
use crate::reader::{CutShort, Reader};

const DIGSIG: u8 = 3;
const EVM_PORTABLE: u8 = 5;
const VERITY: u8 = 6;
/// Longest signature: RSA-8192.
const MAX_SIGNATURE: usize = 1024;
/// The hash algorithms that are accepted, by their place in [`FileKey`].
const ALGORITHMS: [(&str, u8, &digest::Algorithm); 3] = [
    ("sha256", 4, &digest::SHA256),
    ("sha384", 5, &digest::SHA384),
    ("sha512", 6, &digest::SHA512),
];

/// Why a file's signature does not speak for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a `signature_v2_hdr` and as many bytes as it says.
    #[error("its signature has no form that is known: {0}")]
    Malformed(&'static str),
    /// A signature over metadata: it says nothing about the digest alone.
    #[error(
        "its signature is a portable one of EVM, which covers metadata that the list does not show"
    )]
    Portable,
    /// Another hash algorithm (`enum hash_algo` of the kernel).
    #[error("its signature uses hash algorithm {0}; SHA-256, SHA-384 and SHA-512 are accepted")]
    Algorithm(u8),
    /// The measured digest is of another kind than the signed one.
    #[error("its signature is over a {signed} digest, measured was {measured}")]
    OtherDigest {
        /// What the header says.
        signed: String,
        /// Algorithm of the entry.
        measured: String,
    },
    /// Not made by this key over this digest.
    #[error("its signature does not verify")]
    Wrong,
}

impl From<CutShort> for SignatureError {
    fn from(_: CutShort) -> Self {
        Self::Malformed("cut short")
    }
}

/// A parsed signature, not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSignature<'a> {
    kind: u8,
    version: u8,
    /// Index into [`ALGORITHMS`].
    algorithm: usize,
    key_id: [u8; 4],
    signature: &'a [u8],
}

impl<'a> FileSignature<'a> {
    /// Reads the `sig` field.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let mut reader = Reader::new(bytes);
        let (kind, version) = (reader.u8()?, reader.u8()?);
        match (kind, version) {
            (EVM_PORTABLE, _) => return Err(SignatureError::Portable),
            (DIGSIG, 2 | 3) | (VERITY, 3) => {}
            (DIGSIG | VERITY, _) => {
                return Err(SignatureError::Malformed("not version 2 or 3"));
            }
            _ => return Err(SignatureError::Malformed("its first byte is not 3 or 6")),
        }
        let number = reader.u8()?;
        let algorithm = ALGORITHMS
            .iter()
            .position(|(_, code, _)| *code == number)
            .ok_or(SignatureError::Algorithm(number))?;
        let key_id = reader.u32_be()?.to_be_bytes();
        let signature = reader.tpm2b()?;
        if !reader.is_empty() || signature.is_empty() || signature.len() > MAX_SIGNATURE {
            return Err(SignatureError::Malformed("its length does not fit"));
        }
        Ok(Self {
            kind,
            version,
            algorithm,
            key_id,
            signature,
        })
    }

    /// Which key made it: the last four bytes of a subject key identifier.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// What the key signed, when the entry measured `digest`.
    fn signed(&self, digest: &FileDigest) -> Result<Digest, SignatureError> {
        let other = |signed: String| SignatureError::OtherDigest {
            signed,
            measured: digest.algorithm.clone(),
        };
        let Some((name, code, algorithm)) = ALGORITHMS.get(self.algorithm) else {
            return Err(SignatureError::Algorithm(0));
        };
        let expected = match self.kind {
            VERITY => format!("verity:{name}"),
            _ => (*name).to_owned(),
        };
        if digest.algorithm != expected {
            return Err(other(expected));
        }
        let measured = Digest::import_less_safe(&digest.bytes, algorithm)
            .map_err(|_| SignatureError::Malformed("the digest has another length"))?;
        if self.version == 2 {
            return Ok(measured);
        }
        let file_id = [&[self.kind, *code][..], &digest.bytes].concat();
        Ok(digest::digest(algorithm, &file_id))
    }
}

/// A key that signs files.
#[derive(Clone, Debug)]
pub struct FileKey {
    ids: Vec<[u8; 4]>,
    /// One for each of [`ALGORITHMS`].
    parsed: [ParsedPublicKey; 3],
}

impl FileKey {
    /// From a `SubjectPublicKeyInfo` (DER): RSA of 2048 to 8192 bits, P-256 or P-384. `ids` are the key ids its
    /// signatures may carry. `None` for any other key.
    #[must_use]
    pub fn new(spki: &[u8], ids: Vec<[u8; 4]>) -> Option<Self> {
        const KINDS: [[&dyn VerificationAlgorithm; 3]; 3] = [
            [
                &RSA_PKCS1_2048_8192_SHA256,
                &RSA_PKCS1_2048_8192_SHA384,
                &RSA_PKCS1_2048_8192_SHA512,
            ],
            [
                &ECDSA_P256_SHA256_ASN1,
                &ECDSA_P256_SHA384_ASN1,
                &ECDSA_P256_SHA512_ASN1,
            ],
            [
                &ECDSA_P384_SHA256_ASN1,
                &ECDSA_P384_SHA384_ASN1,
                &ECDSA_P384_SHA512_ASN1,
            ],
        ];
        KINDS.into_iter().find_map(|algorithms| {
            let [sha256, sha384, sha512] =
                algorithms.map(|algorithm| ParsedPublicKey::new(algorithm, spki).ok());
            Some(Self {
                ids: ids.clone(),
                parsed: [sha256?, sha384?, sha512?],
            })
        })
    }

    /// The id `evmctl` gives a key that has no certificate: the last four bytes of SHA-1 over the contents of
    /// `subjectPublicKey`.
    #[must_use]
    pub fn id_of(subject_public_key: &[u8]) -> [u8; 4] {
        let mut id = [0; 4];
        let sum = Sha1::digest(subject_public_key);
        id.iter_mut()
            .rev()
            .zip(sum.iter().rev())
            .for_each(|(to, from)| *to = *from);
        id
    }

    /// The key ids its signatures may carry.
    #[must_use]
    pub fn ids(&self) -> &[[u8; 4]] {
        &self.ids
    }

    /// Whether this key signed a file with this digest.
    ///
    /// # Errors
    /// [`SignatureError::OtherDigest`], [`SignatureError::Wrong`].
    pub fn verify(
        &self,
        signature: &FileSignature<'_>,
        digest: &FileDigest,
    ) -> Result<(), SignatureError> {
        let signed = signature.signed(digest)?;
        let key = self.parsed.get(signature.algorithm);
        key.ok_or(SignatureError::Wrong)?
            .verify_digest_sig(&signed, signature.signature)
            .map_err(|_| SignatureError::Wrong)
    }
}
