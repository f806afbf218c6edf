//! Policy files: documents in JSON or YAML, and signed objects.

use std::path::Path;

use bootkeep_policy::{BootPolicy, PolicyError, RuntimePolicy};
use bootkeep_protocol::dsse::Envelope;
use serde_json::Value;

use super::MAX_POLICY;
use crate::{files, Error};

/// A signed policy is larger than what it signs: base64.
const MAX_SIGNED: u64 = MAX_POLICY * 3 / 2;

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

fn is_json(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// A document of either notation, as a value.
fn value(text: &[u8]) -> Result<Value, String> {
    if is_json(text) {
        return serde_json::from_slice(text).map_err(|error| error.to_string());
    }
    serde_yaml::from_slice(text).map_err(|error| error.to_string())
}

fn read_boot(text: &[u8]) -> Result<BootPolicy, String> {
    if is_json(text) {
        return BootPolicy::from_json(text).map_err(|error| error.to_string());
    }
    BootPolicy::from_value(value(text)?).map_err(|error| error.to_string())
}

fn read_runtime(text: &[u8]) -> Result<RuntimePolicy, String> {
    RuntimePolicy::from_text(text).map_err(|error| error.to_string())
}

/// Reads a boot policy that accepts something.
///
/// # Errors
/// [`Error::Usage`] naming the file; errors of files.
pub fn boot_policy(path: &Path) -> Result<(BootPolicy, Value), Error> {
    let text = files::read(path, MAX_POLICY)?;
    let policy = read_boot(&text).map_err(|error| unusable(path, error))?;
    if policy.is_empty() {
        return Err(unusable(
            path,
            "this boot policy names no PCR and accepts nothing",
        ));
    }
    let value = policy.to_value().map_err(|error| unusable(path, error))?;
    Ok((policy, value))
}

/// Reads a runtime policy that accepts something.
///
/// # Errors
/// [`Error::Usage`] naming the file; errors of files.
pub fn runtime_policy(path: &Path) -> Result<(RuntimePolicy, Value), Error> {
    let text = files::read(path, MAX_POLICY)?;
    let policy = read_runtime(&text).map_err(|error| unusable(path, error))?;
    if policy.is_empty() {
        return Err(unusable(
            path,
            "this runtime policy lists no file and accepts nothing",
        ));
    }
    let value = policy.to_value().map_err(|error| unusable(path, error))?;
    Ok((policy, value))
}

/// A policy of either kind.
#[derive(Clone, Debug)]
pub enum AnyPolicy {
    /// For the boot.
    Boot(BootPolicy),
    /// For every measured file.
    Runtime(Box<RuntimePolicy>),
}

impl AnyPolicy {
    /// Whether it accepts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Boot(policy) => policy.is_empty(),
            Self::Runtime(policy) => policy.is_empty(),
        }
    }

    /// The document, as a value for another document.
    ///
    /// # Errors
    /// [`PolicyError`], never for a policy that was read.
    pub fn to_value(&self) -> Result<Value, PolicyError> {
        match self {
            Self::Boot(policy) => policy.to_value(),
            Self::Runtime(policy) => policy.to_value(),
        }
    }
}

/// What a policy file holds.
#[derive(Clone, Debug)]
pub enum PolicyFile {
    /// A document.
    Document(AnyPolicy),
    /// A signed object; nothing in it is believed yet.
    Signed(Envelope),
}

/// Reads a policy file and finds out what it holds; a document may accept nothing.
///
/// # Errors
/// [`Error::Usage`] with the problem of the kind it resembles; errors of files.
pub fn policy_file(path: &Path) -> Result<PolicyFile, Error> {
    let text = files::read(path, MAX_SIGNED)?;
    let value = value(&text).map_err(|error| unusable(path, error))?;
    if value.get("payloadType").is_some() {
        let envelope = serde_json::from_value(value).map_err(|error| unusable(path, error))?;
        return Ok(PolicyFile::Signed(envelope));
    }
    if text.len() as u64 > MAX_POLICY {
        return Err(unusable(path, format!("larger than {MAX_POLICY} bytes")));
    }
    document(&text, &value)
        .map(PolicyFile::Document)
        .map_err(|error| unusable(path, error))
}

/// Each kind refuses the fields of the other, so a document is of one kind at most.
fn document(text: &[u8], value: &Value) -> Result<AnyPolicy, String> {
    let runtime = match read_runtime(text) {
        Ok(policy) => return Ok(AnyPolicy::Runtime(Box::new(policy))),
        Err(error) => error,
    };
    match read_boot(text) {
        Ok(policy) => Ok(AnyPolicy::Boot(policy)),
        Err(_) if value.get("files").is_some() => Err(runtime),
        Err(boot) if value.get("version").is_some() => Err(boot),
        Err(_) => Err(
            "neither a boot policy (pcrs, boot_stages …) nor a runtime policy (files), nor a signed one".into(),
        ),
    }
}

/// Reads a policy document and finds out which kind it is; it may accept nothing.
///
/// # Errors
/// As [`policy_file`]; [`Error::Usage`] for a signed one.
pub fn any_policy(path: &Path) -> Result<AnyPolicy, Error> {
    match policy_file(path)? {
        PolicyFile::Document(policy) => Ok(policy),
        PolicyFile::Signed(_) => Err(unusable(path, "this is a signed policy, not a document")),
    }
}
