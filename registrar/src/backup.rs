//! Backup and restore of the registrar's database.

use std::path::Path;

use bootkeep_store::{BackupError, Manifest, Subject};

use crate::store::MIGRATOR;

/// How many generations a restore passes over: more than a node can have used since the backup.
const JUMP: i64 = 1_000_000;

fn subject(database_url: &str) -> Subject<'_> {
    Subject {
        service: "registrar",
        url: database_url,
        keys: Vec::new(),
    }
}

/// Writes the database as it is now to a new file.
///
/// # Errors
/// [`BackupError`].
pub async fn backup(database_url: &str, out: &Path) -> Result<Manifest, BackupError> {
    subject(database_url).backup(out).await
}

/// Brings a backup back where no database is yet.
///
/// Generations that were given after the backup are not given again: each EK's next AK starts well beyond them. An AK that
/// is known keeps its generation.
///
/// # Errors
/// [`BackupError`].
pub async fn restore(database_url: &str, from: &Path) -> Result<Manifest, BackupError> {
    let restore = subject(database_url).restore(from, &MIGRATOR).await?;
    sqlx::query(
        "INSERT INTO aks (node_id, generation, ak_public, activated_at) \
         SELECT node_id, MAX(generation) + $1, '', 0 FROM aks GROUP BY node_id",
    )
    .bind(JUMP)
    .execute(restore.store().pool())
    .await?;
    restore.finish().await
}
