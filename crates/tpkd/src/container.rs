//! The sealed container: a header anyone may read, contents only the key opens, both bound together.
//!
//! ```text
//! "BKSEAL1\n" | header length (u32, big-endian) | header (JSON) | nonce (12 bytes) | AES-256-GCM ciphertext + tag
//! └──────────────────────── additional authenticated data ───────┘
//! ```

use aes_gcm::{
    aead::{Aead, KeyInit, Payload},
    Aes256Gcm,
};
use serde::{de::DeserializeOwned, Serialize};
use zeroize::Zeroizing;

use crate::{random::random, RandomError};

const MAGIC: &[u8; 8] = b"BKSEAL1\n";
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const MAX_HEADER: usize = 1024;
/// Largest container that is opened (bytes).
pub const MAX_CONTAINER: usize = 4 * 1024 * 1024;

/// Why a container cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not a container, or cut short.
    #[error("not a sealed container (it starts otherwise, or is cut short)")]
    NotAContainer,
    /// Over the limit.
    #[error("the sealed container is larger than {MAX_CONTAINER} bytes")]
    TooLarge,
    /// The header is not the one expected.
    #[error("the header of the sealed container is not valid: {0}")]
    Header(String),
    /// Another key, or changed bytes.
    #[error("the sealed container does not open with this key, or was changed")]
    WrongKey,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A container taken apart, nothing proved yet.
pub(crate) struct Parts<'a, H> {
    pub(crate) header: H,
    authenticated: &'a [u8],
    nonce: &'a [u8],
    ciphertext: &'a [u8],
}

pub(crate) fn seal<H: Serialize>(
    key: &[u8; 32],
    header: &H,
    plain: &[u8],
) -> Result<Vec<u8>, ContainerError> {
    let nonce = random::<NONCE_LEN>()?;
    seal_with(key, header, plain, &nonce)
}

pub(crate) fn seal_with<H: Serialize>(
    key: &[u8; 32],
    header: &H,
    plain: &[u8],
    nonce: &[u8; NONCE_LEN],
) -> Result<Vec<u8>, ContainerError> {
    let header =
        serde_json::to_vec(header).map_err(|error| ContainerError::Header(error.to_string()))?;
    if header.len() > MAX_HEADER {
        return Err(ContainerError::Header("too long".into()));
    }
    if plain.len() > MAX_CONTAINER - MAX_HEADER - 64 {
        return Err(ContainerError::TooLarge);
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(header.len() as u32).to_be_bytes());
    out.extend_from_slice(&header);
    let payload = Payload {
        msg: plain,
        aad: &out,
    };
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(nonce.into(), payload)
        .map_err(|_| ContainerError::TooLarge)?;
    out.extend_from_slice(nonce);
    out.extend_from_slice(&sealed);
    Ok(out)
}

pub(crate) fn parse<H: DeserializeOwned>(bytes: &[u8]) -> Result<Parts<'_, H>, ContainerError> {
    if bytes.len() > MAX_CONTAINER {
        return Err(ContainerError::TooLarge);
    }
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or(ContainerError::NotAContainer)?;
    let (length, rest) = rest
        .split_first_chunk::<4>()
        .ok_or(ContainerError::NotAContainer)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_HEADER {
        return Err(ContainerError::Header("too long".into()));
    }
    let (header, rest) = rest
        .split_at_checked(length)
        .ok_or(ContainerError::NotAContainer)?;
    let (nonce, ciphertext) = rest
        .split_at_checked(NONCE_LEN)
        .filter(|(_, ciphertext)| ciphertext.len() >= TAG_LEN)
        .ok_or(ContainerError::NotAContainer)?;
    Ok(Parts {
        header: serde_json::from_slice(header)
            .map_err(|error| ContainerError::Header(error.to_string()))?,
        authenticated: &bytes[..MAGIC.len() + 4 + length],
        nonce,
        ciphertext,
    })
}

impl<H> Parts<'_, H> {
    pub(crate) fn open(&self, key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, ContainerError> {
        let payload = Payload {
            msg: self.ciphertext,
            aad: self.authenticated,
        };
        Aes256Gcm::new(key.into())
            .decrypt(self.nonce.into(), payload)
            .map(Zeroizing::new)
            .map_err(|_| ContainerError::WrongKey)
    }
}
