//! Persistence on sqlx: embedded SQLite for one service, PostgreSQL for a fleet, the same SQL for both.
//!
//! Statements use `$1` placeholders and the types TEXT and BIGINT, which both databases understand through sqlx's
//! `Any` driver. Bytes are stored as text (base64 or hex).

#![forbid(unsafe_code)]

mod backup;
mod sqlite;

pub use backup::{BackupError, Manifest, Restore, Subject};

use std::{fmt, path::PathBuf, time::Duration};

use sqlx::{any::AnyPoolOptions, migrate::Migrator, AnyPool};

/// Connections of one service to its database.
const MAX_CONNECTIONS: u32 = 8;
/// How long a statement waits for a connection (seconds).
const ACQUIRE_SECONDS: u64 = 10;

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a URL of a database this program knows.
    #[error("database {0:?}: use sqlite:///path/to/file.db or postgres://user@host/name")]
    Url(String),
    /// The database's file cannot be made private.
    #[error("database file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be reached or refused.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error(
        "the database's tables cannot be brought up to date: {0}; was it used by a newer version?"
    )]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// An open database whose tables are up to date.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.write_str("Store")
    }
}

impl Store {
    /// Opens `sqlite:///path` (made with mode 0600 when missing; WAL, full synchronisation) or `postgres://…`, and
    /// brings the tables up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connect(url: &str, migrator: &Migrator) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (url, connections) = match url.split_once(':') {
            Some(("sqlite", _)) => (sqlite::prepare(url)?, sqlite::MAX_CONNECTIONS),
            Some(("postgres" | "postgresql", _)) => (url.to_owned(), MAX_CONNECTIONS),
            _ => return Err(StoreError::Url(without_secrets(url))),
        };
        let is_sqlite = url.starts_with("sqlite");
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        sqlite::configure(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await?;
        migrator.run(&pool).await?;
        Ok(Self { pool })
    }

    /// The connections.
    #[must_use]
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Waits for running statements and closes; a WAL is written back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The scheme and nothing else: what follows may hold a password.
fn without_secrets(url: &str) -> String {
    let scheme: String = url
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    format!("{scheme}:…")
}
