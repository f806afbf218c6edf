//! Files: bounded reads, private writes that no umask opens, never a silent overwrite.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::Error;

/// Mode of files with secrets.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of files anyone may read.
pub(crate) const PUBLIC: u32 = 0o644;

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!("{} does not exist", path.display())),
        _ => Error::File {
            path: path.into(),
            source,
        },
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::NotFound`], [`Error::File`], or [`Error::Usage`] when it is larger.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = File::open(path).map_err(file_error(path))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(file_error(path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Usage(format!(
            "{} is larger than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// As [`read`]; [`Error::Usage`] when it is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Zeroizing<String>, Error> {
    let bytes = read(path, limit)?;
    std::str::from_utf8(&bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| Error::Usage(format!("{} is not UTF-8 text", path.display())))
}

/// Reads a secret file: only its owner may have access.
///
/// # Errors
/// As [`read`]; [`Error::Failed`] when group or others have any permission.
pub(crate) fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mode = fs::metadata(path)
        .map_err(file_error(path))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Error::Failed(format!(
            "{} is open to others (mode {:04o}); run: chmod 600 {0}",
            path.display(),
            mode & 0o7777
        )));
    }
    read(path, limit)
}

/// Writes a new file with exactly this mode; a file that exists is left as it is.
///
/// # Errors
/// [`Error::Failed`] when it exists, [`Error::File`].
pub(crate) fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Failed(format!(
                "{} exists and is not overwritten; move it away or choose another name",
                path.display()
            )),
            _ => file_error(path)(source),
        })?;
    fill(file, contents, mode).map_err(file_error(path))
}

fn fill(mut file: File, contents: &[u8], mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Replaces a file of our own state: all of it or nothing, durable when this returns.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn replace(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    let new = new_name(path);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .map_err(file_error(&new))?;
    fill(file, contents, mode).map_err(file_error(&new))?;
    fs::rename(&new, path).map_err(file_error(path))?;
    sync_folder(path).map_err(file_error(path))
}

fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes a folder that only its owner enters, with its parents; one that exists is left as it is.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .map_err(file_error(path))
}

/// Writes a command's result: to a new file, or to standard output when none is named.
///
/// # Errors
/// As [`write_new`].
pub(crate) fn write_result(path: Option<&Path>, contents: &[u8], mode: u32) -> Result<(), Error> {
    match path {
        Some(path) => write_new(path, contents, mode),
        None => io::stdout()
            .write_all(contents)
            .map_err(|error| Error::Failed(format!("standard output: {error}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn new_files_have_their_mode_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"one", PRIVATE).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = write_new(&path, b"two", PRIVATE).unwrap_err().to_string();
        assert!(error.contains("key exists"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn replaced_files_are_private_even_after_a_crash_left_an_open_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(new_name(&path), b"left over").unwrap();
        fs::set_permissions(new_name(&path), Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn reads_are_bounded_and_secrets_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, b"12345", PUBLIC).unwrap();
        assert_eq!(read(&path, 5).unwrap().as_slice(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().exit_code(), 2);
        assert!(read_private(&path, 5)
            .unwrap_err()
            .to_string()
            .contains("0644"));
        assert_eq!(
            read(&folder.path().join("none"), 5)
                .unwrap_err()
                .exit_code(),
            3
        );
    }
}
