//! The instance's name: cloud-init runs its once-per-instance jobs again when it changes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use bootkeep_protocol::Bytes;
use sha2::{Digest, Sha256};

use crate::{guard, open, state::State};

const SALT_LEN: usize = 32;

/// Other user-data is another instance; a reboot, or the same user-data sealed anew, is not.
///
/// The name is readable by every program of the node, so the plain text goes into it only with a secret salt.
pub(crate) fn id(state: &State, documents: &[Bytes], salt: &[u8; SALT_LEN]) -> String {
    let mut hash = Sha256::new_with_prefix(salt);
    for document in documents {
        // What does not open is refused later; until then its own bytes stand for it.
        let part = open::open_sealed(state, document.as_slice())
            .map_or_else(|_| Sha256::digest(document), Sha256::digest);
        hash.update(part);
    }
    let node = state.node_id.get(..16).unwrap_or("unknown");
    format!("bootkeep-{node}-{}", &hex::encode(hash.finalize())[..16])
}

/// The salt, made at the first boot.
pub(crate) fn salt(path: &Path) -> io::Result<[u8; SALT_LEN]> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path);
    let mut salt = [0; SALT_LEN];
    match file {
        Ok(mut file) => {
            file.read_exact(&mut salt)?;
            return Ok(salt);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    guard::replace(path, &salt, 0o600)?;
    Ok(salt)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_handover::{DocumentKey, ForCloudInit};
    use bootkeep_tpkd::seal_document;

    use super::*;

    /// The instance's name of these plain texts, sealed with this key.
    fn named(key: u8, plain: &[&str], salt: u8) -> String {
        let sealing = bootkeep_tpkd::DocumentKey::from_bytes("k", [key; 32]);
        let seal = |text: &&str| {
            seal_document(&sealing, "web", text.as_bytes())
                .unwrap()
                .into()
        };
        let documents: Vec<Bytes> = plain.iter().map(seal).collect();
        let state = State::of(ForCloudInit {
            node_id: "a".repeat(64),
            documents: documents.clone(),
            keys: vec![DocumentKey {
                key_id: "k".into(),
                key: vec![key; 32].into(),
            }],
        });
        id(&state, &documents, &[salt; 32])
    }

    #[test]
    fn the_same_user_data_sealed_anew_is_the_same_instance() {
        let base = named(1, &["x", "y"], 0);
        assert_eq!(base, named(2, &["x", "y"], 0));
        assert_ne!(base, named(1, &["x", "z"], 0));
        assert_ne!(base, named(1, &["xy"], 0));
        assert_ne!(
            base,
            named(1, &["x", "y"], 9),
            "anybody could guess the text"
        );
    }

    #[test]
    fn the_salt_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootkeep/instance-salt");
        let first = salt(&path).unwrap();
        assert_eq!(first, salt(&path).unwrap());
        assert_ne!(first, [0; SALT_LEN]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(salt(&path).is_err());
    }
}
