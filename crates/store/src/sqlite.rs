//! SQLite's side: a private file, WAL, every commit on disk before it is acknowledged.

use std::{
    fs::{set_permissions, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use sqlx::{AnyConnection, Executor};

use crate::StoreError;

/// WAL allows many readers beside one writer.
pub(crate) const MAX_CONNECTIONS: u32 = 4;

const PRIVATE: u32 = 0o600;

const PRAGMAS: [&str; 5] = [
    "PRAGMA busy_timeout = 10000",
    // What is deleted is overwritten: a share that was renewed must not be found in a copy of the file.
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// The file a URL names.
pub(crate) fn path(url: &str) -> Result<&str, StoreError> {
    url.strip_prefix("sqlite://")
        .filter(|path| path.starts_with('/') && !path.contains(['?', '#', '%']))
        .ok_or_else(|| StoreError::Url(url.to_owned()))
}

/// Makes the file, readable by nobody else, if it is not there; gives the URL to open.
pub(crate) fn prepare(url: &str) -> Result<String, StoreError> {
    let path = path(url)?;
    let failed = |source| StoreError::File {
        path: path.into(),
        source,
    };
    if let Some(folder) = Path::new(path).parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path);
    match made {
        // Restored from a copy, perhaps: not for others either.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    // SQLite gives its -wal and -shm files the mode of the database itself.
    Ok(format!("sqlite://{path}?mode=rw"))
}

pub(crate) async fn configure(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in PRAGMAS {
        connection.execute(pragma).await?;
    }
    Ok(())
}
