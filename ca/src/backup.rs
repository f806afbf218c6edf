//! Backup and restore of the CA's database.
//!
//! What was revoked after a backup must not be good again after a restore. The newest revocation list anybody has says what
//! that is, signed by the CA itself.

use std::{
    io,
    path::{Path, PathBuf},
};

use bootkeep_pki::list::{ListAuthority, ListError};
use bootkeep_protocol::limits::MAX_CRL;
use bootkeep_store::{BackupError, Manifest, Restore, Subject};
use rustls_pki_types::{pem::PemObject, CertificateDer};
use sqlx::Row;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::{crl::now, store::MIGRATOR};

/// How long a certificate that the backup does not know stays on the list (seconds): no node certificate lives longer.
const KEPT_ON_LIST: u64 = 10 * 366 * 24 * 3600;
/// The node of such a certificate is not known.
const UNKNOWN_NODE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why a backup is not brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup, or its place.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The list cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list is none of this CA.
    #[error("{path}: {source}")]
    List {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ListError,
    },
    /// The backup has no issuing key.
    #[error("the backup has no issuing key: it was made before the CA first ran")]
    NoAuthority,
}

impl From<sqlx::Error> for RestoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Backup(error.into())
    }
}

/// What came back.
#[derive(Debug)]
pub struct Restored {
    /// Of the backup.
    pub manifest: Manifest,
    /// Certificates that the list revokes and the backup did not.
    pub revoked: usize,
}

fn subject<'a>(database_url: &'a str, state_key: &'a Path) -> Subject<'a> {
    Subject {
        service: "ca",
        url: database_url,
        keys: vec![("state_key", state_key)],
    }
}

/// Writes the database as it is now to a new file.
///
/// # Errors
/// [`BackupError`].
pub async fn backup(
    database_url: &str,
    state_key: &Path,
    out: &Path,
) -> Result<Manifest, BackupError> {
    subject(database_url, state_key).backup(out).await
}

/// Brings a backup back where no database is yet, with what the last list revokes. The numbers of lists go on beyond
/// every one that was given: at least at the time in seconds.
///
/// # Errors
/// [`RestoreError`]; nothing is in its place then.
pub async fn restore(
    database_url: &str,
    state_key: &Path,
    from: &Path,
    last_crl: Option<&Path>,
) -> Result<Restored, RestoreError> {
    let subject = subject(database_url, state_key);
    let restore = subject.restore(from, &MIGRATOR).await?;
    let list = match last_crl {
        Some(path) => read_list(&restore, path).await?,
        None => List::default(),
    };
    let mut revoked = 0;
    for (serial, at) in &list.revoked {
        revoked += usize::from(revoke(&restore, serial, *at).await?);
    }
    sqlx::query("UPDATE crl SET number = MAX(number, $1), next_update = 0, der = '' WHERE id = 1")
        .bind(i64::try_from(list.number.max(now())).unwrap_or(i64::MAX))
        .execute(restore.store().pool())
        .await?;
    Ok(Restored {
        manifest: restore.finish().await?,
        revoked,
    })
}

/// What a list says.
#[derive(Default)]
struct List {
    number: u64,
    /// Serial numbers and when they were revoked.
    revoked: Vec<(String, u64)>,
}

async fn read_list(restore: &Restore, path: &Path) -> Result<List, RestoreError> {
    let row = sqlx::query("SELECT certificate FROM authority WHERE id = 1")
        .fetch_optional(restore.store().pool())
        .await?
        .ok_or(RestoreError::NoAuthority)?;
    let pem: String = row.try_get(0)?;
    let der = read(path)?;
    let bad = |source| RestoreError::List {
        path: path.into(),
        source,
    };
    let certificate =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| RestoreError::NoAuthority)?;
    let authority = ListAuthority::from_der(&certificate).map_err(bad)?;
    let number = authority.read(&der).map_err(bad)?.number;
    let (_, list) =
        CertificateRevocationList::from_der(&der).map_err(|_| bad(ListError::Unreadable))?;
    let revoked = list.iter_revoked_certificates().map(|entry| {
        let serial = hex::encode(entry.raw_serial());
        let at = entry.revocation_date.timestamp();
        (serial, u64::try_from(at).unwrap_or_default().max(1))
    });
    Ok(List {
        number,
        revoked: revoked.collect(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, RestoreError> {
    let failed = |source| RestoreError::File {
        path: path.into(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_CRL as u64 {
        return Err(RestoreError::List {
            path: path.into(),
            source: ListError::TooLarge(usize::try_from(size).unwrap_or(usize::MAX)),
        });
    }
    std::fs::read(path).map_err(failed)
}

/// Whether it was not revoked before.
async fn revoke(restore: &Restore, serial: &str, at: u64) -> Result<bool, RestoreError> {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let done = sqlx::query(
        "INSERT INTO certificates (serial, node_id, label, issued_at, not_after, revoked_at, reason) \
         VALUES ($1, $2, 'not in the backup', 0, $3, $4, 'on the last revocation list') \
         ON CONFLICT (serial) DO UPDATE SET revoked_at = excluded.revoked_at, reason = excluded.reason \
         WHERE certificates.revoked_at = 0",
    )
    .bind(serial)
    .bind(UNKNOWN_NODE)
    .bind(signed(now() + KEPT_ON_LIST))
    .bind(signed(at))
    .execute(restore.store().pool())
    .await?;
    Ok(done.rows_affected() > 0)
}
