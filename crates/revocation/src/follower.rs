//! Following the log: the node's side.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bootkeep_protocol::{
    limits::MAX_REVOCATIONS,
    revocation::{Action, Entry, Head, RevocationsCall},
    NodeId,
};
use bootkeep_signed::VerifyingKeys;

use crate::{read_entry, read_head, FollowError, Kept, KeptError, Position};

/// Nodes that may be revoked at one time.
pub const MAX_REVOKED: usize = 100_000;

/// How far the time of a head may be before the newest one's and still count, or after it and still be old news: clocks of
/// several verifiers differ (milliseconds).
pub const HEAD_SKEW_MS: u64 = 5_000;

/// What is known of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Follower {
    keys: Arc<VerifyingKeys>,
    /// The log that is followed; `None` before the first contact.
    log: Option<String>,
    position: Position,
    /// Of the newest head.
    head_ms: u64,
    /// Digests of the last entries, the newest last.
    recent: VecDeque<[u8; 32]>,
    revoked: Arc<BTreeMap<NodeId, Entry>>,
}

/// A call that is good in every part.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Entries that were not known, in order.
    pub entries: Vec<Entry>,
    /// The log now, and when the verifier said so.
    pub head: Head,
    /// What is known with this call: takes the follower's place once it is durable.
    pub next: Follower,
}

impl Accepted {
    /// Whether no entry is missing any more.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.next.position.sequence == self.head.sequence
    }
}

impl Follower {
    /// Knows nothing but the keys; the first head says which log is followed.
    #[must_use]
    pub fn new(keys: VerifyingKeys) -> Self {
        Self {
            keys: Arc::new(keys),
            log: None,
            position: Position::START,
            head_ms: 0,
            recent: VecDeque::new(),
            revoked: Arc::default(),
        }
    }

    /// Goes on where it was.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn restore(keys: VerifyingKeys, kept: Kept) -> Result<Self, KeptError> {
        let opened = kept.open()?;
        let revoked = opened.revoked.into_iter();
        Ok(Self {
            keys: Arc::new(keys),
            log: opened.log,
            position: opened.position,
            head_ms: opened.head_ms,
            recent: opened.recent.into(),
            revoked: Arc::new(
                revoked
                    .map(|entry| (entry.node_id.clone(), entry))
                    .collect(),
            ),
        })
    }

    /// To be written to a disk.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept::new(
            self.log.clone(),
            self.position,
            self.head_ms,
            self.recent.iter().copied(),
            self.revoked.values().cloned().collect(),
        )
    }

    /// The last entry held.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Name of the log, once there was a contact.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// For each node that is revoked now, the entry that says so.
    pub fn revoked(&self) -> impl Iterator<Item = &Entry> {
        self.revoked.values()
    }

    /// The entry that revoked this node, if it is revoked now.
    #[must_use]
    pub fn revocation(&self, node: &NodeId) -> Option<&Entry> {
        self.revoked.get(node)
    }

    /// Checks a call: every signature, the order, the head. Entries that are known already are passed over. Nothing
    /// changes in `self`.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn check(&self, call: &RevocationsCall) -> Result<Accepted, FollowError> {
        if call.entries.len() > MAX_REVOCATIONS {
            return Err(FollowError::TooMany(call.entries.len()));
        }
        let (head, end) = read_head(&self.keys, &call.head)?;
        let mut next = self.clone();
        next.adopt(&head.log)?;
        let mut entries = Vec::new();
        for envelope in &call.entries {
            let (entry, position) = read_entry(&self.keys, envelope)?;
            next.adopt(&entry.log)?;
            if position.sequence > end.sequence {
                return Err(FollowError::BeyondHead {
                    head: end.sequence,
                    carried: position.sequence,
                });
            }
            if next.is_new(&entry, &position)? {
                next.take(&entry, position)?;
                entries.push(entry);
            }
        }
        if next.is_news(&head, &end)? {
            next.hear(head.at_ms, !entries.is_empty())?;
        }
        Ok(Accepted {
            entries,
            head,
            next,
        })
    }

    /// The first log that is signed with our keys is the one that is followed; another one is not.
    fn adopt(&mut self, log: &str) -> Result<(), FollowError> {
        let known = self.log.get_or_insert_with(|| log.to_owned());
        if known == log {
            return Ok(());
        }
        Err(FollowError::OtherLog {
            known: known.clone(),
            found: log.to_owned(),
        })
    }

    /// Whether the entry is the next one; false when it is known.
    fn is_new(&self, entry: &Entry, position: &Position) -> Result<bool, FollowError> {
        let held = self.position.sequence;
        let found = position.sequence;
        if found <= held {
            // One that is older than our memory is passed over unseen: it changes nothing.
            return match self.digest_of(found) {
                Some(known) if known != position.digest => Err(FollowError::Fork(found)),
                _ => Ok(false),
            };
        }
        if found != held + 1 {
            return Err(FollowError::Gap { held, found });
        }
        if entry.previous.as_slice() != self.position.digest {
            return Err(FollowError::Fork(held));
        }
        Ok(true)
    }

    /// Digest of an entry that is held, as far back as they are remembered; of the start while all are.
    fn digest_of(&self, sequence: u64) -> Option<[u8; 32]> {
        let back = usize::try_from(self.position.sequence.checked_sub(sequence)?).ok()?;
        if sequence == 0 && back == self.recent.len() {
            return Some(Position::START.digest);
        }
        let index = self.recent.len().checked_sub(back + 1)?;
        self.recent.get(index).copied()
    }

    fn take(&mut self, entry: &Entry, position: Position) -> Result<(), FollowError> {
        let revoked = Arc::make_mut(&mut self.revoked);
        match entry.action {
            Action::Revoke => revoked.insert(entry.node_id.clone(), entry.clone()),
            Action::Reinstate => revoked.remove(&entry.node_id),
        };
        if revoked.len() > MAX_REVOKED {
            return Err(FollowError::Full);
        }
        if self.recent.len() == MAX_REVOCATIONS {
            self.recent.pop_front();
        }
        self.recent.push_back(position.digest);
        self.position = position;
        Ok(())
    }

    /// Whether the head speaks of the log as it is now; it must not contradict what is held.
    ///
    /// A head that ends before what is held is old news when it was made before the newest one that was heard, as near
    /// as clocks can tell: another verifier had not read the last entry yet. It changes nothing and makes nothing
    /// fresh. One that was made later says that entries are gone.
    fn is_news(&self, head: &Head, end: &Position) -> Result<bool, FollowError> {
        let held = self.position.sequence;
        let known = self.digest_of(end.sequence);
        if known.is_some_and(|known| known != end.digest) {
            return Err(FollowError::Fork(end.sequence));
        }
        if end.sequence >= held {
            return Ok(true);
        }
        self.check_age(head.at_ms)?;
        if known.is_none() || head.at_ms > self.head_ms.saturating_add(HEAD_SKEW_MS) {
            return Err(FollowError::RolledBack {
                held,
                found: end.sequence,
            });
        }
        Ok(false)
    }

    fn check_age(&self, at_ms: u64) -> Result<(), FollowError> {
        let older = self.head_ms.saturating_sub(at_ms);
        if older > HEAD_SKEW_MS {
            return Err(FollowError::StaleHead(older));
        }
        Ok(())
    }

    /// Takes the time of a head. One that comes with new entries is newer whatever its clock says: a verifier whose clock
    /// was set back must still be able to revoke.
    fn hear(&mut self, at_ms: u64, is_newer: bool) -> Result<(), FollowError> {
        if is_newer {
            self.head_ms = at_ms;
        } else {
            self.check_age(at_ms)?;
            self.head_ms = self.head_ms.max(at_ms);
        }
        Ok(())
    }
}
