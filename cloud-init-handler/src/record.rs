//! What happened in this boot, one JSON line each, for the check at the end.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
};

use bootkeep_protocol::limits::clean_text;
use serde::{Deserialize, Serialize};

use crate::Places;

/// Largest record (bytes): a cloud that sends parts without end fills no memory.
const MAX_RECORD: u64 = 256 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// A sealed document, by digest, was opened and walked by cloud-init.
    Applied(String),
    /// Something was refused.
    Refused { code: String, detail: String },
}

/// Writes one line. A record that is full has refusals enough for the check to fail.
pub(crate) fn note(places: &Places, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
    text.push(b'\n');
    let mut file = open(OpenOptions::new().append(true).create(true), places)?;
    if file.metadata()?.len() > MAX_RECORD {
        return Err(io::Error::other("the record of this boot is full"));
    }
    file.write_all(&text)
}

/// Refuses something: on the console, in the record and as a claim.
pub(crate) fn refuse(places: &Places, code: &str, detail: &str) {
    let detail = clean_text(detail);
    eprintln!("bootkeep: refused: {detail} ({code})");
    let line = Line::Refused {
        code: code.into(),
        detail: detail.clone(),
    };
    let noted = note(places, &line).and(places.handover.claim(code, &detail));
    if let Err(error) = noted {
        eprintln!("bootkeep: the refusal could not be noted: {error}");
    }
}

/// All lines of this boot.
pub(crate) fn read(places: &Places) -> io::Result<Vec<Line>> {
    let file = match open(OpenOptions::new().read(true), places) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    BufReader::new(file.take(MAX_RECORD * 2))
        .lines()
        .map(|line| serde_json::from_str(&line?).map_err(io::Error::other))
        .collect()
}

fn open(options: &mut OpenOptions, places: &Places) -> io::Result<File> {
    options
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(places.memory().join("record"))
}
