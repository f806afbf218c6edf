//! The state key: seals what a service keeps at rest.

use std::{fmt, fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use aes_gcm::{
    aead::{Aead, KeyInit, Payload},
    Aes256Gcm,
};
use zeroize::Zeroizing;

use crate::PkiError;

/// Length of the key (bytes).
pub const STATE_KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;

/// AES-256-GCM key of a service's secrets at rest. Wiped when dropped.
pub struct StateKey(Zeroizing<[u8; STATE_KEY_LEN]>);

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("state key (secret)")
    }
}

impl StateKey {
    /// 32 fresh bytes, for the file that [`StateKey::load`] reads.
    ///
    /// # Errors
    /// [`PkiError::Random`].
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let mut bytes = Zeroizing::new(vec![0; STATE_KEY_LEN]);
        getrandom::fill(&mut bytes).map_err(PkiError::Random)?;
        Ok(bytes)
    }

    /// A key that is already in memory.
    #[must_use]
    pub fn from_bytes(bytes: [u8; STATE_KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the key file: exactly 32 bytes, not readable by others.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Exposed`], [`PkiError::StateKeyLength`].
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let failed = |source| PkiError::File {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PkiError::Exposed {
                path: path.into(),
                mode,
            });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(STATE_KEY_LEN + 1));
        file.take(STATE_KEY_LEN as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let key = bytes.as_slice().try_into();
        key.map(Self::from_bytes)
            .map_err(|_| PkiError::StateKeyLength(path.into()))
    }

    /// Seals `plain`; `context` says what it is and whose, and must be the same when it is opened.
    ///
    /// The form is nonce (12 bytes), ciphertext, tag (16 bytes).
    ///
    /// # Errors
    /// [`PkiError::Random`].
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, PkiError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(PkiError::Random)?;
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        let sealed = self
            .cipher()
            .encrypt(&nonce.into(), payload)
            .map_err(|_| PkiError::Sealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`StateKey::seal`] made with the same context.
    ///
    /// # Errors
    /// [`PkiError::Sealed`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let (nonce, msg) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(PkiError::Sealed)?;
        let payload = Payload { msg, aad: context };
        self.cipher()
            .decrypt(nonce.into(), payload)
            .map(Zeroizing::new)
            .map_err(|_| PkiError::Sealed)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.0.as_slice().into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn opens_only_with_its_key_and_context() {
        let key = StateKey::from_bytes([1; 32]);
        let sealed = key.seal(b"v of node 1", b"secret").unwrap();
        assert_eq!(*key.open(b"v of node 1", &sealed).unwrap(), b"secret");
        assert!(key.open(b"v of node 2", &sealed).is_err());
        assert!(StateKey::from_bytes([2; 32])
            .open(b"v of node 1", &sealed)
            .is_err());
        assert!(key.open(b"v of node 1", &sealed[..11]).is_err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(key.open(b"v of node 1", &changed).is_err(), "byte {index}");
        }
    }

    #[test]
    fn key_files_are_private_and_of_one_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.key");
        let write = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            StateKey::load(&path)
        };
        assert!(write(&[7; 32], 0o600).is_ok());
        assert!(matches!(
            write(&[7; 32], 0o640),
            Err(PkiError::Exposed { .. })
        ));
        assert!(matches!(
            write(&[7; 31], 0o600),
            Err(PkiError::StateKeyLength(_))
        ));
        assert!(matches!(
            write(&[7; 33], 0o600),
            Err(PkiError::StateKeyLength(_))
        ));
        assert!(StateKey::load(&folder.path().join("none")).is_err());
    }
}
