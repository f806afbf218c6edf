//! The log as this verifier knows it: its end, its last entries, and who is revoked now.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    time::Instant,
};

use bootkeep_protocol::{dsse::Envelope, limits::MAX_REVOCATIONS, revocation::Action, NodeId};
use bootkeep_revocation::{Draft, LogKey, Position, Signed};
use tokio::sync::watch;

use super::table::{Row, Table};
use crate::{clock::now_ms, error::VerifierError};

/// Entries kept in memory, so that a thousand links do not ask the database for the same ones.
const RECENT: usize = 4 * MAX_REVOCATIONS;

/// What the log last said of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) sequence: u64,
    pub(super) action: Action,
    /// Digest of the enrolment it was said under.
    pub(super) enrolment: String,
    pub(super) serials: Vec<String>,
}

impl Known {
    /// Whether the node is revoked, with all of these certificates.
    fn covers(&self, serials: &[String]) -> bool {
        self.action == Action::Revoke && serials.iter().all(|serial| self.serials.contains(serial))
    }
}

/// Where the log ends, as far as this verifier has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) end: Position,
    /// When the database said so, milliseconds since 1970 (UTC).
    at_ms: u64,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    key: LogKey,
    pub(super) table: Table,
    end: watch::Sender<Position>,
    /// When the database was last seen to have no entry after `end`.
    seen_ms: AtomicU64,
    inner: Mutex<Inner>,
    /// Held while entries of other verifiers are read; when the last reading that succeeded began.
    reading: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Inner {
    recent: VecDeque<Arc<Row>>,
    nodes: HashMap<NodeId, Known>,
    head: Option<(Seen, Envelope)>,
}

impl Log {
    pub(super) async fn open(
        table: Table,
        key: bootkeep_signed::SigningKey,
    ) -> Result<Self, VerifierError> {
        let name = table.log().await?;
        let log = Self {
            key: LogKey::new(key, &name),
            table,
            end: watch::Sender::new(Position::START),
            seen_ms: AtomicU64::new(0),
            inner: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        };
        log.refresh().await?;
        Ok(log)
    }

    /// Every change is one assignment, so a panic elsewhere leaves nothing half done.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's name.
    pub(super) fn name(&self) -> &str {
        self.key.log()
    }

    pub(super) fn end(&self) -> Position {
        *self.end.borrow()
    }

    /// Where the log ends and since when that is known: a verifier that cannot read its database, or has not looked yet,
    /// must not say that the log ends now where it ended then.
    pub(super) fn seen(&self) -> Seen {
        // The time first. An entry that comes in between was made later: then the head says less than is known.
        let at_ms = self.seen_ms.load(Ordering::Acquire);
        Seen {
            end: self.end(),
            at_ms,
        }
    }

    /// Changes with every entry.
    pub(super) fn watch(&self) -> watch::Receiver<Position> {
        self.end.subscribe()
    }

    /// What the log last said of a node.
    pub(super) fn known(&self, node: &NodeId) -> Option<Known> {
        self.inner().nodes.get(node).cloned()
    }

    /// The entry that revoked the node, if it is revoked now.
    pub(super) fn revocation(&self, node: &NodeId) -> Option<Known> {
        self.known(node)
            .filter(|known| known.action == Action::Revoke)
    }

    /// Takes in what other verifiers have appended. Who asks while somebody reads waits for the next reading, and all of
    /// them share it.
    pub(super) async fn refresh(&self) -> Result<(), VerifierError> {
        let asked = Instant::now();
        let mut last = self.reading.lock().await;
        if last.is_some_and(|began| began >= asked) {
            return Ok(());
        }
        loop {
            let (began, at_ms) = (Instant::now(), now_ms());
            if self.table.end().await?.sequence <= self.end().sequence {
                self.seen_ms.store(at_ms, Ordering::Release);
                *last = Some(began);
                return Ok(());
            }
            let rows = self.table.after(self.end().sequence, RECENT).await?;
            if rows.is_empty() {
                return Err(VerifierError::Revocation("entries are missing".to_owned()));
            }
            for row in rows {
                self.take(row);
            }
        }
    }

    /// Takes the next entry; one that is known or that is not the next is passed over.
    fn take(&self, row: Row) {
        let position = row.position;
        self.end.send_if_modified(|end| {
            if position.sequence != end.sequence + 1 {
                return false;
            }
            let mut inner = self.inner();
            inner.nodes.insert(row.node.clone(), row.known.clone());
            if inner.recent.len() == RECENT {
                inner.recent.pop_front();
            }
            inner.recent.push_back(Arc::new(row));
            *end = position;
            true
        });
    }

    /// Revokes a node, unless it is revoked with all its certificates. Durable, and told to every link, when it returns.
    pub(super) async fn revoke(
        &self,
        draft: Draft,
        enrolment: &str,
    ) -> Result<Option<Signed>, VerifierError> {
        let serials = draft.serials.clone();
        let wanted = |known: Option<&Known>| !known.is_some_and(|known| known.covers(&serials));
        self.append(draft, enrolment, wanted).await
    }

    /// Takes a revocation back, unless it was made under this very enrolment.
    pub(super) async fn reinstate(
        &self,
        draft: Draft,
        enrolment: &str,
    ) -> Result<Option<Signed>, VerifierError> {
        let wanted = |known: Option<&Known>| {
            known
                .is_some_and(|known| known.action == Action::Revoke && known.enrolment != enrolment)
        };
        self.append(draft, enrolment, wanted).await
    }

    async fn append(
        &self,
        draft: Draft,
        enrolment: &str,
        wanted: impl FnOnce(Option<&Known>) -> bool,
    ) -> Result<Option<Signed>, VerifierError> {
        let Some(new) = self
            .table
            .append(&self.key, draft, enrolment, wanted)
            .await?
        else {
            return Ok(None);
        };
        let row = Row {
            position: new.position,
            envelope: new.envelope.clone(),
            node: new.entry.node_id.clone(),
            known: Known {
                sequence: new.entry.sequence,
                action: new.entry.action,
                enrolment: enrolment.to_owned(),
                serials: new.entry.serials.clone(),
            },
            ca_at_ms: None,
        };
        self.take(row);
        if self.end().sequence < new.entry.sequence {
            self.refresh().await?;
        } else {
            // The time was taken while nobody else could append.
            self.seen_ms.store(new.entry.at_ms, Ordering::Release);
        }
        Ok(Some(new))
    }

    /// Signed entries after this one and not after `end`, at most as many as one message carries.
    ///
    /// `end` is the caller's: the head that goes with them must not speak of fewer.
    pub(super) async fn after(
        &self,
        sequence: u64,
        end: &Position,
    ) -> Result<Vec<Envelope>, VerifierError> {
        let missing = usize::try_from(end.sequence.saturating_sub(sequence)).unwrap_or(usize::MAX);
        let most = missing.min(MAX_REVOCATIONS);
        if most == 0 {
            return Ok(Vec::new());
        }
        if let Some(rows) = self.recent_after(sequence, most) {
            return Ok(rows.iter().map(|row| row.envelope.clone()).collect());
        }
        let rows = self.table.after(sequence, most).await?;
        Ok(rows.into_iter().map(|row| row.envelope).collect())
    }

    /// From memory; `None` when it does not go back so far.
    fn recent_after(&self, sequence: u64, most: usize) -> Option<Vec<Arc<Row>>> {
        let inner = self.inner();
        let first = inner.recent.front()?.position.sequence;
        let skip = usize::try_from((sequence + 1).checked_sub(first)?).ok()?;
        let rows = inner.recent.iter().skip(skip).take(most);
        Some(rows.cloned().collect())
    }

    /// Digest of one entry; `None` when there is no such entry.
    pub(super) async fn digest(&self, sequence: u64) -> Result<Option<[u8; 32]>, VerifierError> {
        if sequence == 0 {
            return Ok(Some(Position::START.digest));
        }
        let recent = self.recent_after(sequence - 1, 1);
        if let Some(row) = recent.as_ref().and_then(|rows| rows.first()) {
            return Ok(Some(row.position.digest));
        }
        self.table.digest(sequence).await
    }

    /// The signed head that says this, one for everybody.
    pub(super) fn head(&self, seen: &Seen) -> Result<Envelope, VerifierError> {
        if let Some((said, head)) = &self.inner().head {
            if said == seen {
                return Ok(head.clone());
            }
        }
        let head = self
            .key
            .head(&seen.end, seen.at_ms)
            .map_err(|error| VerifierError::Revocation(error.to_string()))?;
        self.inner().head = Some((*seen, head.clone()));
        Ok(head)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use bootkeep_revocation::{read_entry, read_head};
    use bootkeep_signed::{SigningKey, VerifyingKeys};
    use bootkeep_store::Store;

    use super::*;
    use crate::store::MIGRATOR;

    struct Pair {
        _folder: tempfile::TempDir,
        keys: VerifyingKeys,
        logs: [Log; 2],
    }

    /// Two verifiers on one database.
    async fn pair() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("log.db").display());
        let key = SigningKey::generate().unwrap();
        let mut logs = Vec::new();
        for _ in 0..2 {
            let store = Store::connect(&url, &MIGRATOR).await.unwrap();
            let key = SigningKey::from_pem(&key.to_pem()).unwrap();
            logs.push(Log::open(Table::new(store), key).await.unwrap());
        }
        Pair {
            _folder: folder,
            keys: VerifyingKeys::from_pem(&key.public_pem()).unwrap(),
            logs: logs.try_into().unwrap(),
        }
    }

    async fn append(log: &Log, nodes: &[&str]) {
        for node in nodes {
            let id = NodeId::of_ek_public(node.as_bytes());
            let draft = Draft::new(Action::Revoke, id, node);
            log.revoke(draft, "").await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn what_goes_with_a_head_is_not_beyond_it() {
        let pair = pair().await;
        let [log, other] = &pair.logs;
        append(log, &["a", "b"]).await;
        let seen = log.seen();
        // Appended between the look at the end and the look at the entries: here, and by another verifier.
        append(log, &["c"]).await;
        append(other, &["d"]).await;
        for log in [log, other] {
            let entries = log.after(0, &seen.end).await.unwrap();
            let last = read_entry(&pair.keys, entries.last().unwrap()).unwrap();
            assert_eq!((entries.len(), last.1), (2, seen.end));
        }
        // From the database as well.
        other.inner().recent.clear();
        assert_eq!(other.after(0, &seen.end).await.unwrap().len(), 2);
        assert!(log.after(2, &seen.end).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_head_is_as_old_as_the_last_look() {
        let pair = pair().await;
        let [log, other] = &pair.logs;
        let head = |log: &Log| {
            let head = log.head(&log.seen()).unwrap();
            read_head(&pair.keys, &head).unwrap().0
        };
        let before = head(other);
        tokio::time::sleep(Duration::from_millis(20)).await;
        append(log, &["a"]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        // It has not looked: its head is of then, and older than the entry.
        let behind = head(other);
        assert_eq!((behind.sequence, behind.at_ms), (0, before.at_ms));
        assert!(behind.at_ms < head(log).at_ms);
        other.refresh().await.unwrap();
        let looked = now_ms();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = head(other);
        assert_eq!(now.sequence, 1);
        assert!(now.at_ms <= looked);
        assert!(now.at_ms > head(log).at_ms);
        // A database that cannot be read makes no head younger.
        other.table.close().await;
        assert!(other.refresh().await.is_err());
        assert_eq!(head(other), now);
    }
}
