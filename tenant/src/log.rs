//! The revocation log as the owner follows it: from its first entry, with the verifier's public key, and never behind
//! what was seen before.

use std::path::PathBuf;

use bootkeep_protocol::{
    limits::{clean_text, MAX_REVOCATIONS},
    revocation::{Entry, Head, Record, Revocations, RevocationsCall},
    Bytes,
};
use bootkeep_revocation::{Follower, Position};
use serde::{Deserialize, Serialize};

use crate::{
    error::Party,
    files::{self, PRIVATE},
    signing, Error, Home,
};

/// Largest file that is read (bytes).
const MAX_FILE: u64 = 4096;

/// How far the log was seen from this home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    log: String,
    sequence: u64,
    digest: Bytes,
}

fn path(home: &Home) -> PathBuf {
    home.folder().join("revocations.json")
}

fn load(home: &Home) -> Result<Option<Seen>, Error> {
    let path = path(home);
    let text = match files::read_private(&path, MAX_FILE) {
        Err(Error::NotFound(_)) => return Ok(None),
        other => other?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))
}

/// Reading the log, page by page.
pub(crate) struct Follow {
    follower: Follower,
    head: Option<Head>,
    seen: Option<Seen>,
    done: bool,
}

fn refuse(detail: impl std::fmt::Display) -> Error {
    Error::untrusted(
        Party::OwnAppraisal,
        "revocation-log",
        clean_text(&detail.to_string()),
    )
}

impl Follow {
    /// Before the first entry.
    ///
    /// # Errors
    /// As [`signing::revocation_keys`].
    pub(crate) fn begin(home: &Home) -> Result<Self, Error> {
        Ok(Self {
            follower: Follower::new(signing::revocation_keys(home)?),
            head: None,
            seen: load(home)?,
            done: false,
        })
    }

    /// Number of the last entry taken.
    pub(crate) fn sequence(&self) -> u64 {
        self.follower.position().sequence
    }

    /// Whether the head was reached.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes a page: gives its entries, verified and in order.
    ///
    /// # Errors
    /// [`Error::Untrusted`].
    pub(crate) fn take(&mut self, page: Revocations) -> Result<Vec<(Entry, Record)>, Error> {
        let count = page.records.len();
        if count > MAX_REVOCATIONS {
            return Err(refuse(format!("{count} entries in one answer")));
        }
        let call = RevocationsCall {
            head: page.head,
            entries: page
                .records
                .iter()
                .map(|record| record.entry.clone())
                .collect(),
            crl: None,
        };
        let accepted = self.follower.check(&call).map_err(refuse)?;
        if accepted.entries.len() != count {
            return Err(refuse("an entry came that was not asked for"));
        }
        self.follower = accepted.next;
        self.compare()?;
        self.done = self.sequence() == accepted.head.sequence;
        self.head = Some(accepted.head);
        if !self.done && count == 0 {
            return Err(refuse(
                "the head names entries that the verifier does not give",
            ));
        }
        Ok(accepted.entries.into_iter().zip(page.records).collect())
    }

    /// What was seen before must be on this way.
    fn compare(&self) -> Result<(), Error> {
        let (Some(seen), position) = (&self.seen, self.follower.position()) else {
            return Ok(());
        };
        if self.follower.log() != Some(&seen.log) {
            return Err(refuse(format!(
                "this is not log {}, which was seen before; if the verifier was set up anew, remove revocations.json from this home",
                seen.log
            )));
        }
        let same_place = position.sequence == seen.sequence;
        if same_place && Position::of_parts(seen.sequence, &seen.digest) != Some(*position) {
            return Err(refuse(format!(
                "entry {} is not the one seen before",
                seen.sequence
            )));
        }
        Ok(())
    }

    /// The head, once it was reached; remembers it.
    ///
    /// # Errors
    /// [`Error::Untrusted`] when it is behind what was seen before; errors of files.
    pub(crate) fn finish(self, home: &Home) -> Result<Head, Error> {
        let head = self.head.ok_or_else(|| refuse("there is no head"))?;
        let position = self.follower.position();
        if let Some(seen) = self.seen.filter(|seen| seen.sequence > position.sequence) {
            return Err(refuse(format!(
                "the log ends at {}, entry {} was seen before: the verifier's database was set back",
                position.sequence, seen.sequence
            )));
        }
        let seen = Seen {
            log: head.log.clone(),
            sequence: position.sequence,
            digest: position.digest.as_slice().into(),
        };
        let text = serde_json::to_vec(&seen).map_err(|error| Error::Failed(error.to_string()))?;
        files::replace(&path(home), &text, PRIVATE)?;
        Ok(head)
    }
}
