//! Puts the files of the hand-over in place, once in each boot.
//!
//! A file that cannot be placed does not keep the others from their places. It is loud: an error in the journal, a
//! failed unit, and a claim for the owner.

mod file;
mod folder;

use std::{io, path::Path};

use bootkeep_handover::{ForAgent, HandedFile, Handover};
use zeroize::Zeroize;

pub use file::{place, FileError};

/// Claim: a file of the envelope is not in its place.
const NOT_PLACED: &str = "file-not-placed";
/// Claim: the hand-over could not be read.
const UNREADABLE: &str = "handover-unreadable";

/// Why not everything is in place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The hand-over folder is not ours alone.
    #[error("the hand-over folder: {0}")]
    Folder(io::Error),
    /// `agent.json` is not what it should be.
    #[error("the hand-over cannot be read: {0}")]
    Unreadable(io::Error),
    /// Files that could not be placed; each has its line in the journal.
    #[error("{failed} of {all} files are not in their places")]
    Files {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
}

/// Takes the hand-over and places its files under `root`; passes its claims on. Without a hand-over there is nothing to
/// do: it was taken before in this boot, or a person unlocked the volume.
///
/// # Errors
/// [`PlaceError`], after everything that can be placed has been.
pub fn run(handover: &Handover, root: &Path) -> Result<(), PlaceError> {
    handover.prepare().map_err(PlaceError::Folder)?;
    let taken = handover.take::<ForAgent>("agent.json");
    let Some(handed) = taken.map_err(|error| {
        claim(handover, UNREADABLE, &error.to_string());
        PlaceError::Unreadable(error)
    })?
    else {
        tracing::info!("no hand-over");
        return Ok(());
    };
    for told in &handed.claims {
        claim(handover, &told.code, &told.detail);
    }
    all(handover, root, handed.files)
}

fn all(handover: &Handover, root: &Path, files: Vec<HandedFile>) -> Result<(), PlaceError> {
    let count = files.len();
    let mut failed = 0;
    for file in files {
        failed += usize::from(!one(handover, root, file));
    }
    match failed {
        0 => Ok(()),
        failed => Err(PlaceError::Files { failed, all: count }),
    }
}

/// Whether the file is in its place. Its contents are wiped from memory.
fn one(handover: &Handover, root: &Path, mut file: HandedFile) -> bool {
    let placed = place(root, &file);
    file.contents.0.zeroize();
    match placed {
        Ok(()) => {
            tracing::info!(path = file.path, "file placed");
            true
        }
        Err(error) => {
            tracing::error!(path = file.path, %error, "file not placed");
            claim(handover, NOT_PLACED, &format!("{}: {error}", file.path));
            false
        }
    }
}

fn claim(handover: &Handover, code: &str, detail: &str) {
    if let Err(error) = handover.claim(code, detail) {
        tracing::error!(code, detail, %error, "a claim is lost");
    }
}
