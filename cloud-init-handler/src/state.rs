//! What the seed step leaves for the others: whose documents are expected, and the keys. In tmpfs, 0600.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

use bootkeep_handover::{DocumentKey, ForCloudInit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Places;

const NAME: &str = "cloud-init/state";
const MAX_FILE: u64 = 1024 * 1024;

/// Of this boot.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// This node; empty when the initramfs handed nothing over.
    pub(crate) node_id: String,
    /// [`digest`]s of the documents that came with the envelope. When there are any, nothing else opens.
    pub(crate) expected: Vec<String>,
    /// Whether keys were handed over.
    pub(crate) had_keys: bool,
    /// The keys; gone after the check.
    pub(crate) keys: Vec<DocumentKey>,
}

/// Names one sealed document.
pub(crate) fn digest(sealed: &[u8]) -> String {
    hex::encode(Sha256::digest(sealed))
}

impl State {
    pub(crate) fn of(handed: ForCloudInit) -> Self {
        Self {
            node_id: handed.node_id,
            expected: handed
                .documents
                .iter()
                .map(|document| digest(document.as_slice()))
                .collect(),
            had_keys: !handed.keys.is_empty(),
            keys: handed.keys,
        }
    }

    pub(crate) fn save(&self, places: &Places) -> io::Result<()> {
        places.handover.write(NAME, self)
    }

    /// `None` before the seed step.
    pub(crate) fn load(places: &Places) -> io::Result<Option<Self>> {
        let path = places.handover.directory().join(NAME);
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(path)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| io::Error::other("what the seed step left cannot be read"))
    }

    /// Forgets the keys: after the check nothing has a use for them in this boot.
    pub(crate) fn forget_keys(mut self, places: &Places) -> io::Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        self.keys.clear();
        fs::remove_file(places.handover.directory().join(NAME))?;
        self.save(places)
    }
}
