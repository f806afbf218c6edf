//! Files with the key of sealed documents.

use std::path::Path;

use bootkeep_protocol::Bytes;
use bootkeep_tpkd::DocumentKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    files::{self, PRIVATE},
    Error,
};

const FORMAT: &str = "bootkeep-document-key-1";
/// Largest key file that is read (bytes).
const MAX_FILE: u64 = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    format: String,
    key_id: String,
    key: Bytes,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.key.0.zeroize();
    }
}

/// A fresh key with a random id of 16 hex digits.
///
/// # Errors
/// [`Error::Failed`] without randomness.
pub(crate) fn generate() -> Result<DocumentKey, Error> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| Error::Failed(error.to_string()))?;
    DocumentKey::generate(&hex::encode(id)).map_err(|error| Error::Failed(error.to_string()))
}

/// Writes the key into a new file, mode 0600.
///
/// # Errors
/// As [`files::write_new`].
pub(crate) fn save(key: &DocumentKey, path: &Path) -> Result<(), Error> {
    let file = KeyFile {
        format: FORMAT.into(),
        key_id: key.key_id.clone(),
        key: key.expose().as_slice().into(),
    };
    let text = serde_json::to_vec_pretty(&file)
        .map(Zeroizing::new)
        .map_err(|error| Error::Failed(error.to_string()))?;
    files::write_new(path, &text, PRIVATE)
}

/// Reads a key file, which only its owner may read.
///
/// # Errors
/// [`Error::Usage`] when it is not one; as [`files::read_private`].
pub(crate) fn load(path: &Path) -> Result<DocumentKey, Error> {
    let not_one = |why: &str| Error::Usage(format!("{}: {why}", path.display()));
    let text = files::read_private(path, MAX_FILE)?;
    let file: KeyFile = serde_json::from_slice(&text)
        .map_err(|_| not_one("not a key file of `bootkeep seal --new-key`"))?;
    if file.format != FORMAT {
        return Err(not_one("the key file has another format; update bootkeep"));
    }
    let key = Zeroizing::new(
        <[u8; 32]>::try_from(file.key.as_slice())
            .map_err(|_| not_one("the key is not 32 bytes long"))?,
    );
    Ok(DocumentKey::from_bytes(&file.key_id, *key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_and_prints_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = generate().unwrap();
        save(&key, &path).unwrap();
        let back = load(&path).unwrap();
        assert_eq!(back.key_id, key.key_id);
        assert_eq!(back.expose(), key.expose());
        assert_ne!(generate().unwrap().key_id, key.key_id);
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("empty", ""),
            (
                "short",
                r#"{"format":"bootkeep-document-key-1","key_id":"a","key":"c2VzYW1l"}"#,
            ),
            ("format", r#"{"format":"x","key_id":"a","key":"c2VzYW1l"}"#),
        ] {
            let path = folder.path().join(name);
            files::write_new(&path, text.as_bytes(), PRIVATE).unwrap();
            let error = load(&path).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}");
            assert!(!error.to_string().contains("c2VzYW1l"), "{error}");
        }
    }
}
