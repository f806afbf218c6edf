//! Sealed documents: user-data that crosses a cloud as ciphertext.

use std::fmt;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{container, container::ContainerError, random::random, RandomError, MAX_CONTAINER};

/// MIME type of a sealed document among cloud-init's parts.
pub const DOCUMENT_MIME: &str = "text/x-bootkeep-sealed";
const FORMAT: &str = "bootkeep-user-data-1";

/// Opens the sealed documents with its id.
#[derive(Clone)]
pub struct DocumentKey {
    /// Names the key in the document's header.
    pub key_id: String,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document key {} (secret)", self.key_id)
    }
}

impl DocumentKey {
    /// A fresh key with this id.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate(key_id: &str) -> Result<Self, RandomError> {
        Ok(Self {
            key_id: key_id.into(),
            key: random()?,
        })
    }

    /// A key that was kept or handed over.
    #[must_use]
    pub fn from_bytes(key_id: &str, key: [u8; 32]) -> Self {
        Self {
            key_id: key_id.into(),
            key: Zeroizing::new(key),
        }
    }

    /// The secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: String,
    audience: String,
    key_id: String,
}

pub(crate) fn header(audience: &str, key_id: &str) -> Header {
    Header {
        format: FORMAT.into(),
        audience: audience.into(),
        key_id: key_id.into(),
    }
}

/// Seals a whole user-data document for `audience`: a node id, or the name of a group of nodes that share the key.
///
/// # Errors
/// [`ContainerError`] when it is too large.
pub fn seal_document(
    key: &DocumentKey,
    audience: &str,
    plain: &[u8],
) -> Result<Vec<u8>, ContainerError> {
    container::seal(&key.key, &header(audience, &key.key_id), plain)
}

/// The id of the key that a sealed document asks for.
///
/// # Errors
/// [`ContainerError`] when it is not a sealed document.
pub fn document_key_id(sealed: &[u8]) -> Result<String, ContainerError> {
    parse(sealed).map(|parts| parts.header.key_id)
}

/// Whom a sealed document is for: a node id or the name of a group. Proved only once it opens.
///
/// # Errors
/// [`ContainerError`] when it is not a sealed document.
pub fn document_audience(sealed: &[u8]) -> Result<String, ContainerError> {
    parse(sealed).map(|parts| parts.header.audience)
}

/// Opens a document with the key its header names.
///
/// # Errors
/// [`ContainerError`] when it is not a sealed document, asks for another key or was changed.
pub fn open_document(
    key: &DocumentKey,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ContainerError> {
    let parts = parse(sealed)?;
    if parts.header.key_id != key.key_id {
        return Err(ContainerError::WrongKey);
    }
    parts.open(&key.key)
}

fn parse(sealed: &[u8]) -> Result<container::Parts<'_, Header>, ContainerError> {
    let parts = container::parse::<Header>(sealed)?;
    if parts.header.format != FORMAT {
        return Err(ContainerError::Header(format!(
            "{:?} is not a user-data format this version knows",
            parts.header.format
        )));
    }
    Ok(parts)
}

/// A sealed document as the text of a MIME part: base64 in lines of 76 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedText(pub String);

impl SealedText {
    /// The body of the part.
    #[must_use]
    pub fn encode(sealed: &[u8]) -> Self {
        let text = STANDARD.encode(sealed);
        let mut lines = String::with_capacity(text.len() + text.len() / 76 + 1);
        for (index, character) in text.chars().enumerate() {
            if index > 0 && index % 76 == 0 {
                lines.push('\n');
            }
            lines.push(character);
        }
        lines.push('\n');
        Self(lines)
    }

    /// A whole MIME message with the document as its only part, ready to be given to a cloud as user-data.
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "MIME-Version: 1.0\nContent-Type: {DOCUMENT_MIME}; charset=\"us-ascii\"\n\
             Content-Transfer-Encoding: 7bit\n\n{}",
            self.0
        )
    }

    /// The sealed bytes of a part's body; white space is ignored.
    ///
    /// # Errors
    /// [`ContainerError`] when it is too large or not base64.
    pub fn decode(body: &[u8]) -> Result<Vec<u8>, ContainerError> {
        if body.len() > MAX_CONTAINER * 2 {
            return Err(ContainerError::TooLarge);
        }
        let text: Vec<u8> = body
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        STANDARD
            .decode(text)
            .map_err(|_| ContainerError::NotAContainer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_document_crosses_as_text() {
        let key = DocumentKey::generate("group-1").unwrap();
        let plain = vec![b'x'; 500];
        let sealed = seal_document(&key, "web", &plain).unwrap();
        let text = SealedText::encode(&sealed);
        assert!(text.0.lines().all(|line| line.len() <= 76));
        let back = SealedText::decode(text.0.as_bytes()).unwrap();
        assert_eq!(document_key_id(&back).unwrap(), "group-1");
        assert_eq!(document_audience(&back).unwrap(), "web");
        assert_eq!(*open_document(&key, &back).unwrap(), plain);
        assert!(text
            .message()
            .contains("Content-Type: text/x-bootkeep-sealed"));
    }

    #[test]
    fn another_key_or_id_is_refused() {
        let key = DocumentKey::from_bytes("a", [1; 32]);
        let sealed = seal_document(&key, "web", b"x").unwrap();
        for other in [
            DocumentKey::from_bytes("a", [2; 32]),
            DocumentKey::from_bytes("b", [1; 32]),
        ] {
            assert!(matches!(
                open_document(&other, &sealed),
                Err(ContainerError::WrongKey)
            ));
        }
        assert!(SealedText::decode(b"#cloud-config\n").is_err());
        assert!(open_document(&key, b"#cloud-config\n").is_err());
    }
}
