//! What this node holds of the revocation log: on disk before it is acknowledged.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use bootkeep_protocol::{
    revocation::{Entry, RevocationsCall},
    NodeId, Problem,
};
use bootkeep_revocation::{Accepted, Follower, Kept, Position};
use bootkeep_signed::VerifyingKeys;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::keep;

/// Version of [`Document`].
const VERSION: u32 = 1;

/// The log as far as it is held.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    log: Follower,
    rest: Rest,
}

/// What is held besides the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    /// This node, as the daemon says. A certificate counts more.
    node_id: Option<NodeId>,
    /// Entries whose actions are not through yet, in order.
    pending: VecDeque<Entry>,
    /// What was held could not be read: the log is followed from its beginning, and is not caught up yet.
    lost: bool,
}

impl Rest {
    fn with(&self, accepted: &Accepted, acting: bool) -> Self {
        let mut rest = self.clone();
        if acting {
            rest.pending.extend(accepted.entries.iter().cloned());
        }
        rest.lost = rest.lost && !accepted.is_caught_up();
        rest
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    log: Kept,
    rest: Rest,
}

impl Held {
    /// Reads the file. With one that cannot be read the node is closed until the verifier has told the log again.
    pub(super) fn load(path: &Path, keys: VerifyingKeys) -> Self {
        let (log, rest) = match read(path, &keys) {
            Ok(Some(held)) => held,
            Ok(None) => (Follower::new(keys), Rest::default()),
            Err(problem) => {
                tracing::error!(path = %path.display(), problem, "what was held of the revocation log is lost");
                let lost = Rest {
                    lost: true,
                    ..Rest::default()
                };
                (Follower::new(keys), lost)
            }
        };
        Self {
            path: path.into(),
            log,
            rest,
        }
    }

    /// Whether the node does not know what is revoked.
    pub(super) fn is_lost(&self) -> bool {
        self.rest.lost
    }

    pub(super) fn log(&self) -> &Follower {
        &self.log
    }

    pub(super) fn node_id(&self) -> Option<&NodeId> {
        self.rest.node_id.as_ref()
    }

    /// The daemon says which node this is. Written with the next entry.
    pub(super) fn learn_node(&mut self, node_id: &NodeId) {
        self.rest.node_id = Some(node_id.clone());
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.rest.pending.iter()
    }

    /// Checks a call; nothing changes.
    pub(super) fn check(&self, call: &RevocationsCall) -> Result<Accepted, Problem> {
        self.log.check(call).map_err(|error| Problem::from(&error))
    }

    /// Writes what will be held with this call; with `acting` its entries are pending until [`Self::acted`]. Does not touch
    /// the disk when nothing is new.
    pub(super) async fn write(&self, accepted: &Accepted, acting: bool) -> io::Result<()> {
        let new_log = self.log.log() != accepted.next.log();
        if accepted.entries.is_empty() && !new_log && !self.rest.lost {
            return Ok(());
        }
        write(
            &self.path,
            &accepted.next,
            &self.rest.with(accepted, acting),
        )
        .await
    }

    /// It is written: now it is held.
    pub(super) fn commit(&mut self, accepted: &Accepted, acting: bool) {
        self.rest = self.rest.with(accepted, acting);
        self.log = accepted.next.clone();
    }

    /// The actions of this entry are through.
    pub(super) async fn acted(&mut self, sequence: u64) -> io::Result<()> {
        self.rest.pending.retain(|entry| entry.sequence > sequence);
        write(&self.path, &self.log, &self.rest).await
    }

    /// The last entry that is held and was acted on: what is acknowledged.
    pub(super) fn position(&self) -> Position {
        match self.rest.pending.front() {
            None => *self.log.position(),
            // The digest of the entry before is in the first that is not through.
            Some(first) => {
                Position::of_parts(first.sequence - 1, &first.previous).unwrap_or(Position::START)
            }
        }
    }
}

fn read(path: &Path, keys: &VerifyingKeys) -> Result<Option<(Follower, Rest)>, String> {
    let Some(bytes) = keep::read(path).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        return Err(format!("version {} is not known here", document.version));
    }
    let log = Follower::restore(keys.clone(), document.log).map_err(|error| error.to_string())?;
    Ok(Some((log, document.rest)))
}

/// On a thread of its own: a slow disk must not hold up what is enforced meanwhile.
async fn write(path: &Path, log: &Follower, rest: &Rest) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        log: log.kept(),
        rest: rest.clone(),
    };
    let path = path.to_owned();
    let written = spawn_blocking(move || {
        keep::write(
            &path,
            &serde_json::to_vec(&document).map_err(io::Error::other)?,
        )
    });
    written.await.map_err(io::Error::other)?
}
