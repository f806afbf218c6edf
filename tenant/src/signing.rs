//! The owner's keys: policies and PCR policies are signed here, revocations by the verifier.

use std::path::Path;

use bootkeep_authorize::AuthorityKey;
use bootkeep_protocol::{policy::PolicySource, NodeId};
use bootkeep_signed::{SigningKey, VerifyingKeys};
use zeroize::Zeroizing;

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
    SigningKey::from_pem(&private_text(path)?)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// The text of a key file that only its owner may read.
pub(crate) fn private_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let bytes = files::read_private(path, MAX_KEYS)?;
    let text = std::str::from_utf8(&bytes);
    text.map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| Error::Usage(format!("{} is not PEM", path.display())))
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

/// The key that signs PCR policies, under one policy reference ([`policy_reference`]).
///
/// # Errors
/// [`Error::NotFound`] with what to do; as [`load_private`].
pub fn authority_key(home: &Home, reference: &[u8]) -> Result<AuthorityKey, Error> {
    let path = home.resolve(&home.config()?.authorize_key);
    let pem = private_text(&path).map_err(with_advice)?;
    AuthorityKey::from_pem(&pem, reference)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// What keeps a signed PCR policy to where it belongs: the name of the boot policy that a node follows, or the node
/// itself when it has a document of its own. Names have no `:`.
#[must_use]
pub fn policy_reference(boot: &PolicySource, node: &NodeId) -> Vec<u8> {
    match boot {
        PolicySource::Named(name) => name.clone().into_bytes(),
        PolicySource::Document(_) => {
            let id: String = node.as_str().chars().take(16).collect();
            format!("node:{id}").into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_tell_names_and_nodes_apart() {
        let node = NodeId::of_ek_public(b"ek");
        let named = policy_reference(&PolicySource::Named("web".into()), &node);
        assert_eq!(named, b"web");
        let own = policy_reference(&PolicySource::Document(serde_json::json!({})), &node);
        assert_eq!(own, format!("node:{}", &node.as_str()[..16]).as_bytes());
    }
}
