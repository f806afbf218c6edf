//! One file: whole and with its owner and mode in its place, or not there at all.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::{fchown, PermissionsExt},
    path::{Path, PathBuf},
};

use bootkeep_handover::HandedFile;
use nix::{
    fcntl::{openat, renameat, OFlag},
    sys::stat::Mode,
    unistd::{unlinkat, Group, UnlinkatFlags, User},
};

use super::folder;

/// Why a file is not in its place.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not absolute, or with `.` or `..`.
    #[error("the path must be absolute, without '.' and '..'")]
    Path,
    /// More than permission bits.
    #[error("mode {0:o} is more than 7777")]
    Mode(u32),
    /// No such user here.
    #[error("there is no user {0:?}; users that cloud-init makes come later")]
    User(String),
    /// No such group here.
    #[error("there is no group {0:?}; groups that cloud-init makes come later")]
    Group(String),
    /// A symbolic link on the way that somebody else than root could have made.
    #[error("{0:?} on the way is a symbolic link that is not followed: it or its folder is not root's alone")]
    Link(OsString),
    /// A folder on the way cannot be entered or made.
    #[error("the folder {name:?}: {source}")]
    Folder {
        /// Which.
        name: OsString,
        /// Why.
        source: io::Error,
    },
    /// Anything else the system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<nix::Error> for FileError {
    fn from(error: nix::Error) -> Self {
        Self::Io(error.into())
    }
}

/// Places one file under `root`. What is at its path is replaced, a symbolic link itself and not what it points to.
///
/// # Errors
/// [`FileError`]; what was at the path is still there then.
pub fn place(root: &Path, file: &HandedFile) -> Result<(), FileError> {
    let (parent, name) = split(&file.path)?;
    if file.mode > 0o7777 {
        return Err(FileError::Mode(file.mode));
    }
    let owner = owner(file)?;
    let folder = folder::open(root, &parent)?;
    let part = temporary_name()?;
    write(&folder, &part, file, owner)
        .and_then(|()| {
            Ok(renameat(
                &folder,
                part.as_os_str(),
                &folder,
                name.as_os_str(),
            )?)
        })
        .inspect_err(|_| {
            let _ = unlinkat(&folder, part.as_os_str(), UnlinkatFlags::NoRemoveDir);
        })?;
    Ok(folder.sync_all()?)
}

/// The folder and the name of a path that is absolute and has no dots.
fn split(path: &str) -> Result<(PathBuf, OsString), FileError> {
    let (parent, name) = path.rsplit_once('/').ok_or(FileError::Path)?;
    let dots = path.split('/').any(|part| part == "." || part == "..");
    if !path.starts_with('/') || name.is_empty() || dots || path.contains('\0') {
        return Err(FileError::Path);
    }
    Ok((format!("{parent}/").into(), name.into()))
}

fn owner(file: &HandedFile) -> Result<(u32, u32), FileError> {
    let user = User::from_name(&file.owner)?.ok_or_else(|| FileError::User(file.owner.clone()))?;
    let group =
        Group::from_name(&file.group)?.ok_or_else(|| FileError::Group(file.group.clone()))?;
    Ok((user.uid.as_raw(), group.gid.as_raw()))
}

fn temporary_name() -> Result<OsString, FileError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!(".bootkeep-{}", hex::encode(random)).into())
}

/// Writes the whole file under its temporary name. Nobody else can read it before its owner and mode are set; the owner
/// comes first because a change of owner takes the set-id bits away.
fn write(
    folder: &File,
    part: &OsStr,
    file: &HandedFile,
    (user, group): (u32, u32),
) -> Result<(), FileError> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut out = File::from(openat(folder, part, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    out.write_all(file.contents.as_slice())?;
    fchown(&out, Some(user), Some(group))?;
    out.set_permissions(Permissions::from_mode(file.mode))?;
    Ok(out.sync_all()?)
}
