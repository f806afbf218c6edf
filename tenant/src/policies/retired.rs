//! What this owner has retired, kept here too: no verifier brings a retired policy back before U leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bootkeep_protocol::policy::PolicyKind;
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, PRIVATE},
    Error, Home,
};

/// Largest file that is read (bytes).
const MAX_FILE: u64 = 1024 * 1024;

/// `KIND/NAME` → retired generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Retired(BTreeMap<String, BTreeSet<u64>>);

fn path(home: &Home) -> PathBuf {
    home.folder().join("retired.json")
}

fn key(kind: PolicyKind, name: &str) -> String {
    format!("{}/{name}", kind.as_str())
}

impl Retired {
    /// What is kept; none when there is no file.
    ///
    /// # Errors
    /// [`Error::Failed`] when it is damaged; errors of files.
    pub fn load(home: &Home) -> Result<Self, Error> {
        let path = path(home);
        let text = match files::read_private(&path, MAX_FILE) {
            Err(Error::NotFound(_)) => return Ok(Self::default()),
            other => other?,
        };
        serde_json::from_slice(&text)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))
    }

    /// Whether this generation was retired from here.
    #[must_use]
    pub fn has(&self, kind: PolicyKind, name: &str, generation: u64) -> bool {
        self.0
            .get(&key(kind, name))
            .is_some_and(|numbers| numbers.contains(&generation))
    }

    /// Remembers a generation.
    ///
    /// # Errors
    /// Errors of files.
    pub fn add(
        mut self,
        home: &Home,
        kind: PolicyKind,
        name: &str,
        generation: u64,
    ) -> Result<(), Error> {
        self.0
            .entry(key(kind, name))
            .or_default()
            .insert(generation);
        let text = serde_json::to_vec(&self).map_err(|error| Error::Failed(error.to_string()))?;
        files::replace(&path(home), &text, PRIVATE)
    }
}
