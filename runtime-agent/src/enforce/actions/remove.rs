//! Removes one file, and never what a link leads to.

use std::{
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{openat, AtFlags, OFlag},
    sys::stat::{fstatat, Mode, SFlag},
    unistd::{unlinkat, UnlinkatFlags},
};

/// Why a file is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoveError {
    /// A link or no folder on the way.
    #[error("{0} on the way is not a folder; symbolic links are not followed")]
    Way(String),
    /// Not a regular file.
    #[error("not a file; folders, devices and symbolic links are not removed")]
    NotAFile,
    /// Anything else the system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for RemoveError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Removes the file at an absolute, plain path. One that is not there is as good as removed.
pub(super) fn remove(path: &Path) -> Result<(), RemoveError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RemoveError::NotAFile);
    };
    let Some(folder) = open(parent)? else {
        return Ok(());
    };
    let found = match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(RemoveError::NotAFile);
    }
    // Whatever somebody may put there in this moment: unlinkat takes the name, follows nothing and removes no folder.
    match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(folder.sync_all()?),
        Err(error) => Err(error.into()),
    }
}

/// Opens the folder, one name after the other; none when it is not there.
fn open(path: &Path) -> Result<Option<File>, RemoveError> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut options = File::options();
    let mut here = options.read(true).custom_flags(flags.bits()).open("/")?;
    for part in path.components().skip(1) {
        let Component::Normal(name) = part else {
            return Err(RemoveError::Way(format!("{part:?}")));
        };
        here = match openat(&here, name, OFlag::O_RDONLY | flags, Mode::empty()) {
            Ok(folder) => folder.into(),
            Err(Errno::ENOENT) => return Ok(None),
            // Linux says ENOTDIR for a link when O_DIRECTORY and O_NOFOLLOW come together.
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                return Err(RemoveError::Way(name.to_string_lossy().into_owned()))
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some(here))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_file_goes_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        for name in ["real/a", "real/b", "kept"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink(at("real"), at("linked")).unwrap();
        symlink(at("kept"), at("link")).unwrap();

        remove(&at("real/a")).unwrap();
        assert!(!at("real/a").exists());
        remove(&at("real/a")).unwrap();
        remove(&at("no/such/folder")).unwrap();

        let kept = |path: &str| remove(&at(path)).unwrap_err();
        assert!(matches!(kept("linked/b"), RemoveError::Way(name) if name == "linked"));
        assert!(matches!(kept("kept/b"), RemoveError::Way(name) if name == "kept"));
        assert!(matches!(kept("link"), RemoveError::NotAFile));
        assert!(matches!(kept("real"), RemoveError::NotAFile));
        assert!(at("real/b").exists() && at("kept").exists() && at("link").is_symlink());
    }
}
