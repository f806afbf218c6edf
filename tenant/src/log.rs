//! The revocation log as the owner follows it: from its first entry, with the verifier's public key, and never behind
//! what was seen before.

use std::path::PathBuf;

use bootkeep_protocol::{
    limits::{clean_text, MAX_REVOCATIONS},
    revocation::{Entry, Head, Record, Revocations, RevocationsCall},
    Bytes,
};
use bootkeep_revocation::Follower;
use bootkeep_signed::payload_digest;
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
        self.done = self.sequence() == accepted.head.sequence;
        self.head = Some(accepted.head);
        if !self.done && count == 0 {
            return Err(refuse(
                "the head names entries that the verifier does not give",
            ));
        }
        let entries: Vec<(Entry, Record)> =
            accepted.entries.into_iter().zip(page.records).collect();
        self.compare(&entries)?;
        Ok(entries)
    }

    /// What was seen before must be on this way.
    fn compare(&self, entries: &[(Entry, Record)]) -> Result<(), Error> {
        let Some(seen) = &self.seen else {
            return Ok(());
        };
        if self.follower.log() != Some(&seen.log) {
            return Err(refuse(format!(
                "this is not log {}, which was seen before; if the verifier was set up anew, remove revocations.json from this home",
                seen.log
            )));
        }
        let same = entries
            .iter()
            .find(|(entry, _)| entry.sequence == seen.sequence);
        match same.map(|(_, record)| payload_digest(&record.entry)) {
            Some(digest) if seen.digest.as_slice() != digest => Err(refuse(format!(
                "entry {} is not the one seen before",
                seen.sequence
            ))),
            _ => Ok(()),
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_protocol::revocation::Action;
    use bootkeep_revocation::{Draft, LogKey, Position, Signed};
    use bootkeep_signed::SigningKey;
    use tempfile::TempDir;

    use super::*;

    const NAME: &str = "00112233445566778899aabbccddeeff";

    /// A home that believes in a key, and the log that is signed with it.
    struct Stage {
        folder: TempDir,
        pem: String,
    }

    impl Stage {
        fn new() -> Self {
            let key = SigningKey::generate().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let yaml = "registrar: https://r\nverifier: https://v\nca: https://c\nserver_ca: a\n\
                        certificate: b\nkey: c\nek_roots: d\n";
            std::fs::write(folder.path().join("tenant.yaml"), yaml).unwrap();
            std::fs::write(folder.path().join("revocation.pem"), key.public_pem()).unwrap();
            Self {
                pem: key.to_pem().to_string(),
                folder,
            }
        }

        fn log(&self, name: &str) -> LogKey {
            LogKey::new(SigningKey::from_pem(&self.pem).unwrap(), name)
        }

        fn read(&self, pages: Vec<Revocations>) -> Result<Vec<u64>, Error> {
            let home = Home::at(self.folder.path());
            let mut follow = Follow::begin(&home)?;
            let mut sequences = Vec::new();
            for page in pages {
                let taken = follow.take(page)?;
                sequences.extend(taken.iter().map(|(entry, _)| entry.sequence));
            }
            assert!(follow.is_done());
            follow.finish(&home)?;
            Ok(sequences)
        }
    }

    fn entries(log: &LogKey, labels: &[&str]) -> Vec<Signed> {
        let mut entries: Vec<Signed> = Vec::new();
        for label in labels {
            let last = entries
                .last()
                .map_or(Position::START, |entry| entry.position);
            let node = "ab".repeat(32).parse().unwrap();
            entries.push(
                log.entry(&last, 1_000, Draft::new(Action::Revoke, node, label))
                    .unwrap(),
            );
        }
        entries
    }

    /// A page with some of the entries, of a log that ends at the last of `all`.
    fn page(log: &LogKey, all: &[Signed], some: std::ops::Range<usize>) -> Revocations {
        let end = all.last().map_or(Position::START, |entry| entry.position);
        let record = |entry: &Signed| Record {
            entry: entry.envelope.clone(),
            ca_at_ms: None,
            acknowledgements: Vec::new(),
        };
        Revocations {
            head: log.head(&end, 2_000).unwrap(),
            records: all[some].iter().map(record).collect(),
        }
    }

    #[test]
    fn pages_follow_each_other_and_are_remembered() {
        let stage = Stage::new();
        let log = stage.log(NAME);
        assert!(stage.read(vec![page(&log, &[], 0..0)]).unwrap().is_empty());
        let all = entries(&log, &["a", "b", "c"]);
        let pages = vec![page(&log, &all, 0..2), page(&log, &all, 2..3)];
        assert_eq!(stage.read(pages).unwrap(), [1, 2, 3]);
        let pages = vec![page(&log, &all, 0..3)];
        assert_eq!(stage.read(pages).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn another_past_is_refused() {
        let stage = Stage::new();
        let log = stage.log(NAME);
        let all = entries(&log, &["a", "b"]);
        stage.read(vec![page(&log, &all, 0..2)]).unwrap();

        let forked = entries(&log, &["a", "x", "c"]);
        let other = stage.log("ffeeddccbbaa99887766554433221100");
        let renamed = entries(&other, &["a", "b"]);
        let stranger = Stage::new().log(NAME);
        let forged = entries(&stranger, &["a", "b"]);
        let cases = [
            ("set back", vec![page(&log, &all[..1], 0..1)], "set back"),
            (
                "forked",
                vec![page(&log, &forked, 0..2), page(&log, &forked, 2..3)],
                "not the one seen",
            ),
            (
                "another log",
                vec![page(&other, &renamed, 0..2)],
                "revocations.json",
            ),
            (
                "another key",
                vec![page(&stranger, &forged, 0..2)],
                "signature",
            ),
            (
                "withheld",
                vec![page(&log, &all, 0..1), page(&log, &all, 1..1)],
                "does not give",
            ),
            ("a gap", vec![page(&log, &all, 1..2)], "does not follow"),
        ];
        for (name, pages, words) in cases {
            let error = stage.read(pages).unwrap_err();
            assert_eq!(error.exit_code(), 4, "{name}: {error}");
            assert!(error.to_string().contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn a_fork_within_one_page_is_refused_too() {
        let stage = Stage::new();
        let log = stage.log(NAME);
        stage
            .read(vec![page(&log, &entries(&log, &["a", "b"]), 0..2)])
            .unwrap();
        let forked = entries(&log, &["a", "x", "c"]);
        let error = stage.read(vec![page(&log, &forked, 0..3)]).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
    }
}
