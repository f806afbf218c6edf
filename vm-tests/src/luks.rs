//! What a volume's header says, and what opens it: by the computer's own cryptsetup, which needs no device for it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// cryptsetup's exit code for a key that opens no slot.
const NO_PERMISSION: i32 = 2;

/// Ids of the keys that tokens of this type name.
///
/// # Errors
/// When the header cannot be read.
pub fn key_ids(disk: &Path, kind: &str) -> Result<Vec<String>> {
    let mut dump = Command::new("cryptsetup");
    dump.args(["luksDump", "--dump-json-metadata"]).arg(disk);
    let header: Value = serde_json::from_str(&command::output(&mut dump)?)?;
    let tokens = header["tokens"].as_object().context("no tokens")?;
    Ok(tokens
        .values()
        .filter(|token| token["type"] == kind)
        .filter_map(|token| token["key_id"].as_str().map(String::from))
        .collect())
}

/// Whether the key in this file opens a slot.
///
/// # Errors
/// When cryptsetup fails otherwise.
pub fn opens(disk: &Path, key: &Path) -> Result<bool> {
    let mut open = Command::new("cryptsetup");
    open.args(["open", "--test-passphrase", "--key-file"])
        .arg(key)
        .arg(disk);
    let output = command::finish(&mut open)?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(NO_PERMISSION) => Ok(false),
        _ => anyhow::bail!(
            "{} said {}",
            command::shown(&open),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
