//! The guard inside cloud-init: a Python handler that puts every part to this program.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::Places;

const NAME: &str = "bootkeep_sealed.py";

/// Puts the guard where cloud-init loads handlers from, before every run: `cloud-init clean` empties that folder.
pub(crate) fn install(places: &Places) -> io::Result<()> {
    let folder = &places.handlers;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_dir() || !own || found.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{} is a link, or others can write into it",
            folder.display()
        )));
    }
    replace(&folder.join(NAME), &fs::read(&places.guard)?, 0o644)
}

/// Whether cloud-init can load the guard. It goes on without a handler that does not load, so this must be known before.
pub(crate) fn loads(places: &Places) -> io::Result<()> {
    let status = Command::new(&places.python)
        .arg(places.handlers.join(NAME))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "cloud-init's guard does not load ({status}); is this cloud-init supported?"
    )))
}

/// Writes a whole file in the place of whatever has that name; a link there is replaced, never followed.
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let part = path.with_extension("bootkeep-part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)?
        .write_all(contents)?;
    fs::rename(&part, path)
}
