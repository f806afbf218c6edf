//! From the initramfs to the booted system, through files under `/run/bootkeep` (tmpfs, root only).
//!
//! Not a ramfs: IMA measures those, and the digest of a secret would travel to every verifier.
//! Each file is read once and unlinked.
//!
//! | file | from | to |
//! |---|---|---|
//! | `agent.json` ([`ForAgent`]) | initramfs agent | runtime agent |
//! | `user-data.json` ([`ForCloudInit`]) | initramfs agent | cloud-init handler |
//! | `claims/*.json` ([`Claim`]) | whoever saw something | runtime agent |

#![forbid(unsafe_code)]

mod claims;

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bootkeep_protocol::{link::Claim, Bytes};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The folder.
pub const DIRECTORY: &str = "/run/bootkeep";
/// Largest hand-over file (bytes).
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// For the runtime agent: `agent.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForAgent {
    /// Files to put in place, relative to the root.
    pub files: Vec<HandedFile>,
    /// What the initramfs wants the owner to know.
    pub claims: Vec<Claim>,
}

/// One file of the envelope.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
    /// Contents.
    pub contents: Bytes,
}

/// For cloud-init's handler: `user-data.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForCloudInit {
    /// This node: what a sealed document must name as its audience, unless it names a group.
    pub node_id: String,
    /// Sealed documents that came in the envelope.
    pub documents: Vec<Bytes>,
    /// Keys of sealed documents.
    pub keys: Vec<DocumentKey>,
}

/// A key of sealed documents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentKey {
    /// Its id.
    pub key_id: String,
    /// 32 bytes.
    pub key: Bytes,
}

impl Drop for DocumentKey {
    fn drop(&mut self) {
        self.key.0.zeroize();
    }
}

/// The folder of the hand-over.
#[derive(Clone, Debug)]
pub struct Handover(PathBuf);

impl Default for Handover {
    fn default() -> Self {
        Self(DIRECTORY.into())
    }
}

impl Handover {
    /// The hand-over in another folder than [`DIRECTORY`].
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self(directory.into())
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, or takes the one that is there if only root can enter it.
    ///
    /// # Errors
    /// When it cannot be made, is a link, belongs to another user or is open to others.
    pub fn prepare(&self) -> io::Result<()> {
        private_folder(&self.0)
    }

    /// Writes one file, mode 0600; never through a link, never over a file that is there.
    ///
    /// # Errors
    /// When it cannot be written in full; then it is not there.
    pub fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(value).map_err(io::Error::other)?);
        let path = self.0.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&bytes)
            .inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Takes back what was written for agent and cloud-init and not read yet.
    ///
    /// # Errors
    /// When a file that is there cannot be removed; the others are removed all the same.
    pub fn withdraw(&self) -> io::Result<()> {
        let removed =
            ["agent.json", "user-data.json"].map(|name| fs::remove_file(self.0.join(name)));
        removed.into_iter().try_for_each(|result| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    /// Reads one file and unlinks it; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read or is not what it should be. It is unlinked all the same.
    pub fn take<T: for<'de> Deserialize<'de>>(&self, name: &str) -> io::Result<Option<T>> {
        take_file(&self.0.join(name))
    }
}

/// Makes a folder that only its owner can enter, or takes the one that is there.
///
/// # Errors
/// When it cannot be made, is a link, belongs to another user or is open to others.
pub fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_dir() || !own || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a folder of our own with mode 0700",
            path.display()
        )));
    }
    Ok(())
}

fn take_file<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    fs::remove_file(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    fn folder() -> (tempfile::TempDir, Handover) {
        let parent = tempfile::tempdir().unwrap();
        let handover = Handover::at(&parent.path().join("bootkeep"));
        (parent, handover)
    }

    #[test]
    fn what_is_written_is_read_once() {
        let (_parent, handover) = folder();
        handover.prepare().unwrap();
        handover.prepare().unwrap();
        let value = ForCloudInit {
            node_id: "n".into(),
            documents: vec![Bytes(vec![1])],
            keys: Vec::new(),
        };
        handover.write("user-data.json", &value).unwrap();
        let mode = fs::metadata(handover.directory().join("user-data.json"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let read: ForCloudInit = handover.take("user-data.json").unwrap().unwrap();
        assert_eq!(read.documents, value.documents);
        assert!(handover
            .take::<ForCloudInit>("user-data.json")
            .unwrap()
            .is_none());
    }

    #[test]
    fn squatted_folders_and_files_are_refused() {
        let (parent, handover) = folder();
        symlink("/tmp", handover.directory()).unwrap();
        assert!(handover.prepare().is_err());
        fs::remove_file(handover.directory()).unwrap();
        fs::create_dir(handover.directory()).unwrap();
        fs::set_permissions(handover.directory(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(handover.prepare().is_err());
        fs::set_permissions(handover.directory(), fs::Permissions::from_mode(0o700)).unwrap();
        handover.prepare().unwrap();
        let target = parent.path().join("target");
        fs::write(&target, "{}").unwrap();
        symlink(&target, handover.directory().join("agent.json")).unwrap();
        assert!(handover.write("agent.json", &ForAgent::default()).is_err());
        assert!(handover.take::<ForAgent>("agent.json").is_err());
    }
}
