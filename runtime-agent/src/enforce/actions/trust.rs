//! What only root can change.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Whether only root (whoever this process is) can change a file or folder: by its owner and mode, and by those of each
/// folder on the way. No symbolic link is followed.
pub(super) fn path(path: &Path) -> Result<(), String> {
    let ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.into_iter().rev().try_for_each(|part| {
        let found =
            fs::symlink_metadata(part).map_err(|error| format!("{}: {error}", part.display()))?;
        if found.is_symlink() {
            return Err(format!("{} is a symbolic link", part.display()));
        }
        // In a sticky folder nobody can rename or remove what is root's.
        let sticky = found.is_dir() && part != path && found.mode() & 0o1000 != 0;
        one(&found, sticky).map_err(|problem| format!("{} {problem}", part.display()))
    })
}

/// Whether only root can change what this describes.
pub(super) fn one(found: &Metadata, sticky: bool) -> Result<(), String> {
    let trusted = nix::unistd::geteuid().as_raw();
    if found.uid() != trusted && found.uid() != 0 {
        return Err(format!("belongs to user {}, not to root", found.uid()));
    }
    if found.mode() & 0o022 != 0 && !sticky {
        return Err(format!(
            "can be written by others (mode {:o})",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Whether a program is one that only root can change, wherever links lead.
pub(super) fn program(program: &Path) -> Result<(), String> {
    let named = |error| format!("{}: {error}", program.display());
    let real = fs::canonicalize(program).map_err(named)?;
    path(&real)?;
    let found = fs::metadata(&real).map_err(named)?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(format!("{} is not a program", program.display()));
    }
    // Links on the way must be root's too: another user's could lead elsewhere in a moment.
    program.ancestors().try_for_each(|part| {
        let found = fs::symlink_metadata(part).map_err(named)?;
        let sticky = found.mode() & 0o1000 != 0;
        one(&found, sticky || found.is_symlink())
            .map_err(|problem| format!("{} {problem}", part.display()))
    })
}
