//! Evidence in a file, with all that is needed to check it again another day.

use std::path::Path;

use bootkeep_policy::KnownGood;
use bootkeep_protocol::{
    link::{Evidence, QuoteCall},
    registrar::NodeRecord,
    Bytes, Phase, EXPORTER_LEN,
};
use serde::{Deserialize, Serialize};

use crate::{
    appraisal,
    files::{self, PUBLIC},
    look::Look,
    record, Error, Home,
};

const FORMAT: &str = "bootkeep-evidence-1";
/// Largest file that is read (bytes).
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// A look at a node, as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceFile {
    format: String,
    /// The node's registration.
    record: NodeRecord,
    /// Which agent answered.
    phase: Phase,
    /// The question.
    asked: QuoteCall,
    /// TLS exporter of the link.
    exporter: Bytes,
    /// The answer.
    evidence: Evidence,
}

impl EvidenceFile {
    /// What a node with this registration showed.
    #[must_use]
    pub fn new(record: NodeRecord, phase: Phase, look: Look) -> Self {
        Self {
            format: FORMAT.into(),
            record,
            phase,
            asked: look.asked,
            exporter: look.exporter.as_slice().into(),
            evidence: look.evidence,
        }
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// As [`files::write_new`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Failed(error.to_string()))?;
        files::write_new(path, &text, PUBLIC)
    }

    /// Reads a file; nothing in it is believed yet.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is not one; errors of files.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let not_one = |why: String| Error::Usage(format!("{}: {why}", path.display()));
        let text = files::read(path, MAX_FILE)?;
        let file: Self = serde_json::from_slice(&text)
            .map_err(|error| not_one(format!("not a file of `bootkeep attest --save`: {error}")))?;
        if file.format != FORMAT {
            return Err(not_one(format!("the format is not {FORMAT}")));
        }
        Ok(file)
    }

    /// Checks registration and quote again, with the home's roots.
    ///
    /// # Errors
    /// [`Error::Untrusted`] naming the check.
    pub fn known_good(self, home: &Home) -> Result<KnownGood, Error> {
        let record = record::check(home, &self.record.node_id.clone(), &self.record)?;
        let exporter = <[u8; EXPORTER_LEN]>::try_from(self.exporter.as_slice())
            .map_err(|_| Error::Usage("the evidence names no TLS exporter".into()))?;
        let look = Look {
            asked: self.asked,
            exporter,
            evidence: self.evidence,
        };
        appraisal::known_good(&record, &look, self.phase)
    }
}
