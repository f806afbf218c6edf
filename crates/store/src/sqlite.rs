//! SQLite's side: a private file, WAL, every commit on disk before it is acknowledged.

use std::{fs::OpenOptions, io::ErrorKind, os::unix::fs::OpenOptionsExt, path::Path};

use sqlx::{AnyConnection, Executor};

use crate::StoreError;

/// WAL allows many readers beside one writer.
pub(crate) const MAX_CONNECTIONS: u32 = 4;

const PRAGMAS: [&str; 4] = [
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];

/// Makes the file, readable by nobody else, if it is not there; gives the URL to open.
pub(crate) fn prepare(url: &str) -> Result<String, StoreError> {
    let path = url
        .strip_prefix("sqlite://")
        .filter(|path| path.starts_with('/') && !path.contains(['?', '#', '%']))
        .ok_or_else(|| StoreError::Url(url.to_owned()))?;
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
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
        // SQLite gives its -wal and -shm files the mode of the database itself.
        _ => Ok(format!("sqlite://{path}?mode=rw")),
    }
}

pub(crate) async fn configure(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in PRAGMAS {
        connection.execute(pragma).await?;
    }
    Ok(())
}
