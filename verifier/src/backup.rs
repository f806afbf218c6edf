//! Backup and restore of the verifier's database.
//!
//! A restore goes back in time, trust must not. What happened since the backup is not in it, so who restores has to say:
//! where the revocation log ended, and who was revoked. Shares V that were made since are lost: a node that keeps its U
//! and has booted since needs its recovery key.

use std::{fmt, path::Path};

use bootkeep_protocol::NodeId;
use bootkeep_store::{BackupError, Manifest, Restore, Subject};
use serde_json::{json, Value};
use sqlx::{Any, Row, Transaction};

use crate::{clock::now_ms, store::MIGRATOR};

/// Why a backup is not brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup, or its place.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The log's end was not named.
    #[error("the backup's revocation log ends with entry {0}; say where it ended last: --log-end NUMBER (`bootkeep revocations`, or the sequence in /var/lib/bootkeep/revocations.json of any node)")]
    LogEnd(u64),
    /// Not this log.
    #[error(
        "the backup's revocation log ends with entry {backup}, after {named}: that was not its end"
    )]
    Beyond {
        /// Of the backup.
        backup: u64,
        /// As it was named.
        named: u64,
    },
    /// Entries are lost and it was not said whom they were about.
    #[error("{0} entries of the revocation log are not in the backup; name the nodes that were revoked since: --revoked ID,… or --revoked none")]
    Lost(u64),
    /// Not an id.
    #[error("--revoked {0}: not the id of a node (64 hexadecimal digits), nor the word none")]
    Id(String),
    /// Not enrolled in the backup.
    #[error("--revoked {0}: this node is not enrolled in the backup; it gets nothing from it, leave it out")]
    NotEnrolled(NodeId),
    /// A row that cannot be read.
    #[error("the verdict about node {0} in the backup cannot be read")]
    Trust(String),
}

impl From<sqlx::Error> for RestoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Backup(error.into())
    }
}

/// What happened since the backup, as the owner says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Number of the revocation log's last entry.
    pub log_end: Option<u64>,
    /// Nodes that were revoked.
    pub revoked: Option<Vec<NodeId>>,
}

impl Since {
    /// From the command line: the word `none` stands for an empty list.
    ///
    /// # Errors
    /// [`RestoreError::Id`].
    pub fn new(log_end: Option<u64>, revoked: Option<&[String]>) -> Result<Self, RestoreError> {
        let ids = |words: &[String]| match words {
            [word] if word == "none" => Ok(Vec::new()),
            words => words
                .iter()
                .map(|word| word.parse().map_err(|_| RestoreError::Id(word.clone())))
                .collect(),
        };
        Ok(Self {
            log_end,
            revoked: revoked.map(ids).transpose()?,
        })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Restored {
    /// Of the backup.
    pub manifest: Manifest,
    /// Entries of the revocation log that are lost; then a new log begins.
    pub lost: u64,
    /// Nodes that were revoked in the log and are not enrolled: the new log does not speak of them.
    pub forgotten: Vec<String>,
    /// Nodes that keep their U.
    pub keeping: Vec<String>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "restored: {}", self.manifest)?;
        if self.lost > 0 {
            writeln!(
                f,
                "{} entries of the revocation log are lost: a new log begins. Nodes follow it once \
                 /var/lib/bootkeep/revocations.json is removed there; until then they stay as closed as they are",
                self.lost
            )?;
        }
        for node in &self.forgotten {
            writeln!(
                f,
                "revoked in the old log and not enrolled, so not in the new one: {node}"
            )?;
        }
        for node in &self.keeping {
            writeln!(
                f,
                "keeps its U: if it has booted since the backup it needs its recovery key: {node}"
            )?;
        }
        Ok(())
    }
}

fn subject<'a>(database_url: &'a str, state_key: &'a Path) -> Subject<'a> {
    Subject {
        service: "verifier",
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

/// Brings a backup back where no database is yet.
///
/// # Errors
/// [`RestoreError`]; nothing is in its place then.
pub async fn restore(
    database_url: &str,
    state_key: &Path,
    from: &Path,
    since: &Since,
) -> Result<Restored, RestoreError> {
    let subject = subject(database_url, state_key);
    let restore = subject.restore(from, &MIGRATOR).await?;
    let mut transaction = restore.store().pool().begin().await?;
    let lost = lost_entries(&mut transaction, since).await?;
    let forgotten = match lost {
        0 => Vec::new(),
        _ => begin_new_log(&mut transaction).await?,
    };
    set_verdicts(&mut transaction, &restore, since).await?;
    let keeping = mark_keys(&mut transaction).await?;
    for table in ["checkpoints", "webhook_outbox"] {
        sqlx::query(&format!("DELETE FROM {table}"))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(Restored {
        manifest: restore.finish().await?,
        lost,
        forgotten,
        keeping,
    })
}

/// How many entries the log had after those of the backup.
async fn lost_entries(
    transaction: &mut Transaction<'_, Any>,
    since: &Since,
) -> Result<u64, RestoreError> {
    let row = sqlx::query("SELECT sequence FROM revocation_log WHERE id = 1")
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(row) = row else {
        return Ok(0);
    };
    let backup = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
    let named = since.log_end.ok_or(RestoreError::LogEnd(backup))?;
    match named.checked_sub(backup) {
        None => Err(RestoreError::Beyond { backup, named }),
        Some(lost) if lost > 0 && since.revoked.is_none() => Err(RestoreError::Lost(lost)),
        Some(lost) => Ok(lost),
    }
}

/// The numbers of lost entries are never given again: another log begins, with another name. Nodes see that it is not
/// theirs and do not follow it before their owner says so. Whoever is revoked here gets a new entry when the verifier
/// starts; gives those who would not.
async fn begin_new_log(
    transaction: &mut Transaction<'_, Any>,
) -> Result<Vec<String>, RestoreError> {
    let rows = sqlx::query(
        "SELECT node_id FROM revocations AS last WHERE action = 'revoke' \
         AND sequence = (SELECT MAX(sequence) FROM revocations WHERE node_id = last.node_id) \
         AND node_id NOT IN (SELECT node_id FROM nodes) ORDER BY node_id",
    )
    .fetch_all(&mut **transaction)
    .await?;
    for table in [
        "revocation_log",
        "revocations",
        "revocation_peers",
        "revocation_acks",
    ] {
        sqlx::query(&format!("DELETE FROM {table}"))
            .execute(&mut **transaction)
            .await?;
    }
    ids(&rows)
}

fn ids(rows: &[sqlx::any::AnyRow]) -> Result<Vec<String>, RestoreError> {
    let ids = rows.iter().map(|row| row.try_get(0));
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Who was revoked since is revoked, and gets nothing; nobody else is trusted before the next appraisal.
async fn set_verdicts(
    transaction: &mut Transaction<'_, Any>,
    restore: &Restore,
    since: &Since,
) -> Result<(), RestoreError> {
    let mut revoked = since.revoked.clone().unwrap_or_default();
    let rows = sqlx::query("SELECT node_id, trust FROM nodes ORDER BY node_id")
        .fetch_all(&mut **transaction)
        .await?;
    for row in rows {
        let id: String = row.try_get(0)?;
        let trust: String = row.try_get(1)?;
        let named = revoked.iter().position(|node| node.as_str() == id);
        if let Some(named) = named {
            revoked.remove(named);
            for table in ["key_sets", "key_shares"] {
                sqlx::query(&format!("DELETE FROM {table} WHERE node_id = $1"))
                    .bind(id.as_str())
                    .execute(&mut **transaction)
                    .await?;
            }
        }
        let trust = verdict(&trust, named.is_some(), restore.manifest().made_at)
            .ok_or_else(|| RestoreError::Trust(id.clone()))?;
        sqlx::query("UPDATE nodes SET trust = $2 WHERE node_id = $1")
            .bind(id.as_str())
            .bind(trust)
            .execute(&mut **transaction)
            .await?;
    }
    revoked
        .pop()
        .map_or(Ok(()), |node| Err(RestoreError::NotEnrolled(node)))
}

fn verdict(trust: &str, revoked: bool, made_at: u64) -> Option<String> {
    let mut trust: Value = serde_json::from_str(trust).ok()?;
    let now = trust.pointer("/verdict/verdict")?.as_str()?;
    let verdict = match now {
        _ if revoked => "revoked",
        "untrusted" | "revoked" => return Some(trust.to_string()),
        _ => "waiting",
    };
    let detail = if revoked {
        "named as revoked when the database was restored from a backup".to_owned()
    } else {
        format!("the database was restored from a backup of second {made_at} since 1970; a node that keeps its U and has booted since needs its recovery key")
    };
    trust["verdict"] = json!({ "verdict": verdict });
    trust["since_ms"] = json!(now_ms());
    trust["reasons"] = json!([{ "code": "restored-from-backup", "detail": detail }]);
    Some(trust.to_string())
}

/// Any V may have been sent since: no enrolment drops one as unused. Gives the nodes.
async fn mark_keys(transaction: &mut Transaction<'_, Any>) -> Result<Vec<String>, RestoreError> {
    sqlx::query("UPDATE key_sets SET sent = 1 WHERE terms <> ''")
        .execute(&mut **transaction)
        .await?;
    let rows =
        sqlx::query("SELECT DISTINCT node_id FROM key_sets WHERE terms <> '' ORDER BY node_id")
            .fetch_all(&mut **transaction)
            .await?;
    ids(&rows)
}
