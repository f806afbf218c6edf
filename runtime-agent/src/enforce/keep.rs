//! What the enforcer must not forget: on disk before it is acknowledged.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// Largest state that is read (bytes).
const MAX_STATE: u64 = 64 * 1024 * 1024;

/// Writes the whole file or nothing of it, mode 0600; it is on disk when this returns.
///
/// # Errors
/// When the disk does not take it; what was there before still is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let part = part(path);
    // Left by a crash; only root writes here.
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&part)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| drop(fs::remove_file(&part)))?;
    File::open(folder)?.sync_all()
}

/// Reads it; none when there is none.
///
/// # Errors
/// When it is there and cannot be read, or is a link, or too large.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    let file = match options
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_STATE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_STATE {
        true => Err(io::Error::other(format!("larger than {MAX_STATE} bytes"))),
        false => Ok(Some(bytes)),
    }
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(folder.path().join("state.part"), "left by a crash").unwrap();
        for text in [b"one".as_slice(), b"another"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("state"), folder.path().join("target"));
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(read(&path).is_err());
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"x");
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
    }
}
