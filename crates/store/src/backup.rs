//! Backup and restore of an embedded database.
//!
//! A backup is one file, mode 0600: a line of JSON ([`Manifest`]) and then a whole SQLite database, as it was at one
//! moment; the service may run meanwhile. Keys are not in it: the manifest names those the service needs beside it, by
//! digest, so that a restore with another key is refused before anything is written.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{
    migrate::Migrator, sqlite::SqliteConnectOptions, ConnectOptions, Connection, Executor, Row,
};

use crate::{sqlite, Store, StoreError};

const FORMAT: &str = "bootkeep-backup-1";
/// Longest manifest (bytes).
const MAX_MANIFEST: u64 = 64 * 1024;
const PRIVATE: u32 = 0o600;
/// How long a backup waits for a writer.
const BUSY: Duration = Duration::from_secs(10);

/// What is wrong with a backup, or with where it is to go.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has its own tools.
    #[error("this is for SQLite; of a PostgreSQL database make a backup with pg_dump --format=custom and bring it back with pg_restore (docs/day-2.md)")]
    NotSqlite,
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is overwritten.
    #[error("{0} exists already; nothing is overwritten: move it away or name another file")]
    Exists(PathBuf),
    /// Not what `backup` made.
    #[error("{path} is no backup of a {service}: {problem}")]
    NotABackup {
        /// Which.
        path: PathBuf,
        /// Of what it should be.
        service: String,
        /// Why.
        problem: String,
    },
    /// Sealed with another key.
    #[error("{path} is not the key that the backup's secrets are sealed with; put the {name} of that time in its place")]
    OtherKey {
        /// What it is for.
        name: String,
        /// The one that is there.
        path: PathBuf,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for BackupError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// `verifier`, `registrar` or `ca`.
    pub service: String,
    /// Version of the program that made it.
    pub version: String,
    /// When, seconds since 1970 (UTC).
    pub made_at: u64,
    /// Of the database (bytes).
    pub size: u64,
    /// SHA-256 of the database, lower-case hex.
    pub sha256: String,
    /// SHA-256 of each key that is not in the backup and without which it is worthless, by name.
    pub keys: BTreeMap<String, String>,
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            size,
            made_at,
            sha256,
            ..
        } = self;
        write!(
            f,
            "database of the {service}, {size} bytes, of second {made_at} since 1970, SHA-256 {sha256}"
        )
    }
}

/// A service whose database is backed up.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// `verifier`, `registrar` or `ca`.
    pub service: &'a str,
    /// URL of the database.
    pub url: &'a str,
    /// Keys its secrets are sealed with, by name.
    pub keys: Vec<(&'a str, &'a Path)>,
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    |source| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(path.into()),
        _ => BackupError::File {
            path: path.into(),
            source,
        },
    }
}

fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(PRIVATE);
    options.open(path).map_err(file_error(path))
}

/// So that a file that was made or renamed is there after a power cut.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(file_error(folder))
}

/// Beside a file, for as long as it is not whole.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// A file that is removed unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn rename(self, to: &Path) -> Result<(), BackupError> {
        fs::rename(&self.0, to).map_err(file_error(to))?;
        sync_folder(to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(end);
            let _ = fs::remove_file(name);
        }
    }
}

fn digest(path: &Path, limit: Option<u64>) -> Result<(u64, String), BackupError> {
    let file = File::open(path).map_err(file_error(path))?;
    let mut hash = Sha256::new();
    let size = io::copy(&mut file.take(limit.unwrap_or(u64::MAX)), &mut hash);
    Ok((
        size.map_err(file_error(path))?,
        hex::encode(hash.finalize()),
    ))
}

impl Subject<'_> {
    fn database(&self) -> Result<PathBuf, BackupError> {
        if !self.url.starts_with("sqlite:") {
            return Err(BackupError::NotSqlite);
        }
        Ok(sqlite::path(self.url)?.into())
    }

    fn keys(&self) -> Result<BTreeMap<String, String>, BackupError> {
        let digests = self.keys.iter().map(|(name, path)| {
            let (_, digest) = digest(path, Some(MAX_MANIFEST))?;
            Ok(((*name).to_owned(), digest))
        });
        digests.collect()
    }

    /// Writes the database as it is now to a new file.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left behind then.
    pub async fn backup(&self, out: &Path) -> Result<Manifest, BackupError> {
        let database = self.database()?;
        if out.exists() {
            return Err(BackupError::Exists(out.into()));
        }
        let copy = partial(out);
        create(&copy)?;
        let copy = Temporary(copy);
        let copied = &copy.0;
        snapshot(&database, copied).await?;
        let (size, sha256) = digest(copied, None)?;
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            service: self.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: now(),
            size,
            sha256,
            keys: self.keys()?,
        };
        write_backup(&manifest, copied, out)?;
        Ok(manifest)
    }

    /// Brings a backup back where no database is yet. What comes of it is in its place only after [`Restore::finish`].
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left behind then.
    pub async fn restore(&self, from: &Path, migrator: &Migrator) -> Result<Restore, BackupError> {
        let to = self.database()?;
        if to.exists() {
            return Err(BackupError::Exists(to));
        }
        let (manifest, mut rest) = self.open(from)?;
        self.check_keys(&manifest)?;
        let path = partial(&to);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
        }
        let mut file = create(&path)?;
        let temporary = Temporary(path.clone());
        io::copy(&mut rest, &mut file).map_err(file_error(&path))?;
        file.sync_all().map_err(file_error(&path))?;
        let found = digest(&path, None)?;
        if found != (manifest.size, manifest.sha256.clone()) {
            return Err(self.not_a_backup(from, "its contents are damaged or cut short"));
        }
        let store = Store::connect(&format!("sqlite://{}", path.display()), migrator).await?;
        Ok(Restore {
            manifest,
            store,
            temporary,
            to,
        })
    }

    fn open(&self, from: &Path) -> Result<(Manifest, BufReader<File>), BackupError> {
        let mut file = BufReader::new(File::open(from).map_err(file_error(from))?);
        let mut line = Vec::new();
        let limited = Read::by_ref(&mut file).take(MAX_MANIFEST);
        BufReader::with_capacity(1, limited)
            .read_until(b'\n', &mut line)
            .map_err(file_error(from))?;
        let manifest: Manifest = serde_json::from_slice(&line)
            .map_err(|_| self.not_a_backup(from, "it does not begin with a manifest"))?;
        if manifest.format != FORMAT {
            let problem = format!("it has the unknown format {:?}", manifest.format);
            return Err(self.not_a_backup(from, &problem));
        }
        if manifest.service != self.service {
            let problem = format!("it is one of a {:?}", manifest.service);
            return Err(self.not_a_backup(from, &problem));
        }
        Ok((manifest, file))
    }

    fn check_keys(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let found = self.keys()?;
        for (name, path) in &self.keys {
            if manifest.keys.get(*name) != found.get(*name) {
                return Err(BackupError::OtherKey {
                    name: (*name).to_owned(),
                    path: (*path).into(),
                });
            }
        }
        Ok(())
    }

    fn not_a_backup(&self, path: &Path, problem: &str) -> BackupError {
        BackupError::NotABackup {
            path: path.into(),
            service: self.service.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

/// A database that is back but not in its place yet.
pub struct Restore {
    manifest: Manifest,
    store: Store,
    temporary: Temporary,
    to: PathBuf,
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "restore of {}", self.to.display())
    }
}

impl Restore {
    /// What the backup says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The database, its tables up to date: for what must not be as it was.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Checks the database and puts it in its place.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is in its place then.
    pub async fn finish(self) -> Result<Manifest, BackupError> {
        let row = sqlx::query("PRAGMA integrity_check")
            .fetch_one(self.store.pool())
            .await?;
        let found: String = row.try_get(0)?;
        if found != "ok" {
            return Err(BackupError::NotABackup {
                path: self.to.clone(),
                service: self.manifest.service.clone(),
                problem: format!("SQLite says: {found}"),
            });
        }
        self.store.close().await;
        let whole = self.whole().await?;
        // A service that was started meanwhile has made one.
        if self.to.exists() {
            return Err(BackupError::Exists(self.to.clone()));
        }
        whole.rename(&self.to)?;
        Ok(self.manifest)
    }

    /// One file with everything that is in the database and in its write-ahead log. The pool's connections may still be
    /// there for a moment after it is closed: a copy does not have to wait for them.
    async fn whole(&self) -> Result<Temporary, BackupError> {
        let path = partial(&self.temporary.0);
        create(&path)?;
        let whole = Temporary(path);
        snapshot(&self.temporary.0, &whole.0).await?;
        let synced = File::open(&whole.0).and_then(|file| file.sync_all());
        synced.map_err(file_error(&whole.0))?;
        Ok(whole)
    }
}

/// One consistent moment, while others write; the file is there and empty.
async fn snapshot(database: &Path, copy: &Path) -> Result<(), BackupError> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .busy_timeout(BUSY);
    let mut connection = options.connect().await?;
    let statement = sqlx::query("VACUUM INTO ?").bind(copy.display().to_string());
    connection.execute(statement).await?;
    connection.close().await?;
    Ok(())
}

fn write_backup(manifest: &Manifest, database: &Path, out: &Path) -> Result<(), BackupError> {
    let mut line = serde_json::to_vec(manifest)
        .map_err(io::Error::from)
        .map_err(file_error(out))?;
    line.push(b'\n');
    let mut from = File::open(database).map_err(file_error(database))?;
    let mut file = create(out)?;
    let written = file
        .write_all(&line)
        .and_then(|()| io::copy(&mut from, &mut file))
        .and_then(|_| file.sync_all());
    if let Err(source) = written {
        let _ = fs::remove_file(out);
        return Err(file_error(out)(source));
    }
    sync_folder(out)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
