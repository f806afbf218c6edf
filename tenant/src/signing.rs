//! The owner's keys for signed documents: policies signed here, revocations signed by the verifier.

use std::path::Path;

use bootkeep_signed::{SigningKey, VerifyingKeys};

use crate::{files, Error, Home};

/// Largest key file that is read (bytes).
pub(crate) const MAX_KEYS: u64 = 16 * 1024;
/// What makes the keys.
const ADD: &str = "`bootkeep init --add` makes what a home of an earlier release lacks";

/// The private key in a file that only its owner may read.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Usage`]; as [`files::read_private`].
pub(crate) fn load_private(path: &Path) -> Result<SigningKey, Error> {
    let text = files::read_private(path, MAX_KEYS)?;
    let pem = std::str::from_utf8(&text)
        .map_err(|_| Error::Usage(format!("{} is not PEM", path.display())))?;
    SigningKey::from_pem(pem).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

fn load_public(path: &Path) -> Result<VerifyingKeys, Error> {
    let pem = files::read_text(path, MAX_KEYS)?;
    VerifyingKeys::from_pem(&pem)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

fn with_advice(error: Error) -> Error {
    match error {
        Error::NotFound(what) => Error::NotFound(format!("{what}; {ADD}")),
        other => other,
    }
}

/// The key that signs policies.
///
/// # Errors
/// [`Error::NotFound`] with what to do; as [`load_private`].
pub fn policy_key(home: &Home) -> Result<SigningKey, Error> {
    let path = home.resolve(&home.config()?.policy_key);
    load_private(&path).map_err(with_advice)
}

/// The keys whose policies count.
///
/// # Errors
/// [`Error::NotFound`] with what to do; [`Error::Usage`] for a file without such keys.
pub fn policy_keys(home: &Home) -> Result<VerifyingKeys, Error> {
    let path = home.resolve(&home.config()?.policy_keys);
    load_public(&path).map_err(with_advice)
}

/// The keys that sign revocations.
///
/// # Errors
/// As [`policy_keys`].
pub fn revocation_keys(home: &Home) -> Result<VerifyingKeys, Error> {
    let path = home.resolve(&home.config()?.revocation_keys);
    load_public(&path).map_err(with_advice)
}
