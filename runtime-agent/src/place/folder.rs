//! From the root to the folder of a file, one step at a time.
//!
//! Each step opens one name in a folder that is already open, and never follows a link by itself: a user who owns one
//! of the folders cannot lead the walk elsewhere, neither before nor while it runs.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{openat, readlinkat, AtFlags, OFlag},
    sys::stat::{fchmod, fstatat, mkdirat, Mode},
};

use super::file::FileError;

/// Links followed on one way: as many as the kernel follows.
const MAX_LINKS: usize = 40;
/// Mode of the folders that are made.
const NEW_FOLDER: Mode = Mode::from_bits_truncate(0o755);

/// Opens the folder of `path` under `root`, making folders that are missing.
///
/// A symbolic link on the way is followed only when it is root's and lies in a folder that only root can change.
pub(super) fn open(root: &Path, path: &Path) -> Result<File, FileError> {
    let mut walk = Walk {
        root: File::open(root)?,
        here: File::open(root)?,
        links: 0,
        trusted: nix::unistd::geteuid().as_raw(),
    };
    let mut left: Vec<OsString> = Vec::new();
    push(&mut left, path);
    while let Some(name) = left.pop() {
        if let Some(target) = walk.step(&name)? {
            if target.is_absolute() {
                walk.here = walk.root.try_clone()?;
            }
            push(&mut left, &target);
        }
    }
    Ok(walk.here)
}

/// Puts the parts of `path` on the stack, the first on top.
fn push(left: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    left.extend(parts);
}

struct Walk {
    root: File,
    here: File,
    links: usize,
    trusted: u32,
}

impl Walk {
    /// Goes one step down; or gives the target of a link to follow.
    fn step(&mut self, name: &OsStr) -> Result<Option<std::path::PathBuf>, FileError> {
        if name == ".." && self.at_root()? {
            return Ok(None);
        }
        match self.enter(name) {
            Ok(folder) => {
                self.here = folder;
                Ok(None)
            }
            // Linux says ENOTDIR for a link when O_DIRECTORY and O_NOFOLLOW come together.
            Err(Errno::ELOOP | Errno::ENOTDIR) => self.link(name).map(Some),
            Err(error) => Err(FileError::Folder {
                name: name.to_owned(),
                source: error.into(),
            }),
        }
    }

    fn enter(&self, name: &OsStr) -> nix::Result<File> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(&self.here, name, flags, Mode::empty()).map(File::from);
        match open() {
            Err(Errno::ENOENT) => match mkdirat(&self.here, name, NEW_FOLDER) {
                Ok(()) => {
                    let made = open()?;
                    // The unit's umask must not keep the files' owners out.
                    fchmod(&made, NEW_FOLDER)?;
                    Ok(made)
                }
                Err(Errno::EEXIST) => open(),
                Err(error) => Err(error),
            },
            opened => opened,
        }
    }

    fn link(&mut self, name: &OsStr) -> Result<std::path::PathBuf, FileError> {
        let stat = fstatat(&self.here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let target = readlinkat(&self.here, name).map_err(|source| FileError::Folder {
            name: name.to_owned(),
            source: source.into(),
        })?;
        self.links += 1;
        let folder = self.here.metadata()?;
        let only_root = folder.uid() == self.trusted && folder.mode() & 0o022 == 0;
        if stat.st_uid != self.trusted || !only_root || self.links > MAX_LINKS {
            return Err(FileError::Link(name.to_owned()));
        }
        Ok(target.into())
    }

    fn at_root(&self) -> Result<bool, FileError> {
        let (here, root) = (self.here.metadata()?, self.root.metadata()?);
        Ok(here.dev() == root.dev() && here.ino() == root.ino())
    }
}
