//! The envelope: what a node gets once it has shown what it is. Typed items only: nothing in it is ever run.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{container, container::ContainerError, BootstrapKey};

const FORMAT: &str = "bootkeep-envelope-1";
const MAX_ITEMS: usize = 64;

/// Why an envelope cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Made for another node.
    #[error("the envelope is for node {0}, not for this one")]
    OtherNode(String),
    /// The header names another format.
    #[error("the envelope has the unknown format {0:?}; update the agent")]
    Format(String),
    /// What was sealed is not an envelope.
    #[error("the envelope's contents are not valid: {0}")]
    Contents(String),
}

/// What is sealed for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// At most 64.
    pub items: Vec<Item>,
}

/// One thing in the envelope. Wiped when dropped; the debug form shows no contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "kebab-case", tag = "item", deny_unknown_fields)]
pub enum Item {
    /// Opens one LUKS volume.
    LuksKey {
        /// Name of the mapped volume, e.g. `cryptroot`.
        volume: String,
        /// The key slot's secret.
        #[serde(with = "base64_bytes")]
        key: Vec<u8>,
    },
    /// A sealed document for cloud-init.
    UserData {
        /// The sealed container.
        #[serde(with = "base64_bytes")]
        document: Vec<u8>,
    },
    /// A key that opens sealed documents.
    UserDataKey {
        /// Id in the document's header.
        key_id: String,
        /// 32 bytes.
        #[serde(with = "base64_bytes")]
        key: Vec<u8>,
    },
    /// A file to put in place.
    File {
        /// Absolute, without `..`.
        path: String,
        /// Permission bits, at most 0o7777.
        mode: u32,
        /// Owner's name.
        owner: String,
        /// Group's name.
        group: String,
        /// Contents.
        #[serde(with = "base64_bytes")]
        contents: Vec<u8>,
    },
    /// The node's certificate with its key.
    Identity(Identity),
    /// The volume gets a key of this node alone ([`BootstrapKey::luks_key`]); the image's key is removed.
    OwnKey {
        /// Name of the mapped volume.
        volume: String,
        /// Whether [`BootstrapKey::recovery_key`] opens it too.
        recovery: bool,
    },
    /// The node keeps its U in the TPM for boots with nobody at the tenant's desk.
    Unattended {
        /// Who signs PCR policies, 1 to [`MAX_AUTHORITIES`].
        authorities: Vec<Authority>,
    },
}

/// Authorities of one node.
pub const MAX_AUTHORITIES: usize = 4;

/// A key whose signature of a PCR policy opens the U a node keeps (`TPM2_PolicyAuthorize`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Marshalled `TPMT_PUBLIC`.
    #[serde(with = "base64_bytes")]
    pub public: Vec<u8>,
    /// The policy reference its signatures carry; empty for signatures of systemd-measure.
    #[serde(with = "base64_bytes")]
    pub policy_ref: Vec<u8>,
}

/// A certificate, its private key and its issuer's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// PEM.
    pub certificate_pem: String,
    /// PKCS #8, PEM.
    pub key_pem: String,
    /// PEM, the issuer first.
    pub chain_pem: String,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LuksKey { volume, .. } => write!(f, "LUKS key of {volume}"),
            Self::UserData { .. } => f.write_str("user-data"),
            Self::UserDataKey { key_id, .. } => write!(f, "user-data key {key_id}"),
            Self::File { path, .. } => write!(f, "file {path}"),
            Self::Identity(_) => f.write_str("identity"),
            Self::OwnKey { volume, .. } => write!(f, "own key of {volume}"),
            Self::Unattended { authorities } => {
                write!(f, "unattended boots, {} authorities", authorities.len())
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identity (secret)")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: String,
    node_id: String,
}

pub(crate) fn header(node_id: &str) -> Header {
    Header {
        format: FORMAT.into(),
        node_id: node_id.into(),
    }
}

/// Seals the envelope for one node under the key derived from K for `payload`.
///
/// # Errors
/// [`EnvelopeError`] when an item is not valid or the whole is too large.
pub fn seal_envelope(
    key: &BootstrapKey,
    node_id: &str,
    envelope: &Envelope,
) -> Result<Vec<u8>, EnvelopeError> {
    check(envelope)?;
    let plain = serde_json::to_vec(envelope)
        .map(Zeroizing::new)
        .map_err(|error| EnvelopeError::Contents(error.to_string()))?;
    Ok(container::seal(
        &key.derive("payload"),
        &header(node_id),
        &plain,
    )?)
}

/// Opens an envelope that must be for this node.
///
/// # Errors
/// [`EnvelopeError`]; nothing of the contents is given then.
pub fn open_envelope(
    key: &BootstrapKey,
    node_id: &str,
    sealed: &[u8],
) -> Result<Envelope, EnvelopeError> {
    let parts = container::parse::<Header>(sealed)?;
    if parts.header.format != FORMAT {
        return Err(EnvelopeError::Format(parts.header.format));
    }
    if parts.header.node_id != node_id {
        return Err(EnvelopeError::OtherNode(parts.header.node_id));
    }
    let plain = parts.open(&key.derive("payload"))?;
    let envelope = serde_json::from_slice(&plain)
        .map_err(|error| EnvelopeError::Contents(error.to_string()))?;
    check(&envelope)?;
    Ok(envelope)
}

fn check(envelope: &Envelope) -> Result<(), EnvelopeError> {
    let bad = |text: String| Err(EnvelopeError::Contents(text));
    if envelope.items.len() > MAX_ITEMS {
        return bad(format!("more than {MAX_ITEMS} items"));
    }
    for item in &envelope.items {
        match item {
            Item::LuksKey { volume, key } if volume.is_empty() || key.is_empty() => {
                return bad("a LUKS key without volume or key".into());
            }
            Item::UserDataKey { key_id, key } if key.len() != 32 => {
                return bad(format!("user-data key {key_id:?} is not 32 bytes long"));
            }
            Item::File { path, mode, .. } if !good_path(path) || *mode > 0o7777 => {
                return bad(format!(
                    "file {path:?}: the path must be absolute without '..', the mode at most 7777"
                ));
            }
            Item::OwnKey { volume, .. } if volume.is_empty() => {
                return bad("an own key without a volume".into());
            }
            Item::Unattended { authorities } if !good_authorities(authorities) => {
                return bad(format!(
                    "1 to {MAX_AUTHORITIES} authorities, each with a public area and a policy reference of at most 64 bytes"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn good_authorities(authorities: &[Authority]) -> bool {
    const MAX_PUBLIC: usize = 1024;
    // TPM2B_NONCE: as long as the largest digest (TPM 2.0 Part 2 §10.4.4).
    const MAX_POLICY_REF: usize = 64;
    (1..=MAX_AUTHORITIES).contains(&authorities.len())
        && authorities.iter().all(|authority| {
            (1..=MAX_PUBLIC).contains(&authority.public.len())
                && authority.policy_ref.len() <= MAX_POLICY_REF
        })
}

fn good_path(path: &str) -> bool {
    path.len() > 1
        && path.len() <= 4096
        && path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != ".." && part != ".")
}

mod base64_bytes {
    use base64::{engine::general_purpose::STANDARD, Engine as _};
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        STANDARD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("not standard base64"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            items: vec![
                Item::LuksKey {
                    volume: "cryptroot".into(),
                    key: b"open sesame".to_vec(),
                },
                Item::File {
                    path: "/etc/app/token".into(),
                    mode: 0o600,
                    owner: "root".into(),
                    group: "root".into(),
                    contents: b"t".to_vec(),
                },
            ],
        }
    }

    #[test]
    fn opens_for_its_node_and_key_only() {
        let key = BootstrapKey::from_bytes([1; 32]);
        let sealed = seal_envelope(&key, "node", &envelope()).unwrap();
        assert_eq!(open_envelope(&key, "node", &sealed).unwrap(), envelope());
        assert!(matches!(
            open_envelope(&key, "other", &sealed),
            Err(EnvelopeError::OtherNode(_))
        ));
        assert!(matches!(
            open_envelope(&BootstrapKey::from_bytes([2; 32]), "node", &sealed),
            Err(EnvelopeError::Container(ContainerError::WrongKey))
        ));
    }

    #[test]
    fn every_changed_or_missing_byte_is_refused() {
        let key = BootstrapKey::from_bytes([1; 32]);
        let sealed = seal_envelope(&key, "node", &envelope()).unwrap();
        for index in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[index] ^= 1;
            assert!(open_envelope(&key, "node", &bad).is_err(), "byte {index}");
            assert!(open_envelope(&key, "node", &sealed[..index]).is_err());
        }
    }

    #[test]
    fn files_that_leave_the_root_are_refused() {
        let key = BootstrapKey::from_bytes([1; 32]);
        for path in ["etc/x", "/etc/../x", "/", "/x/", "", "/a/./b", "/a\0b"] {
            let envelope = Envelope {
                items: vec![Item::File {
                    path: path.into(),
                    mode: 0o600,
                    owner: "root".into(),
                    group: "root".into(),
                    contents: Vec::new(),
                }],
            };
            assert!(seal_envelope(&key, "node", &envelope).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_debug_form_shows_no_secret() {
        let text = format!("{:?}", envelope());
        assert!(!text.contains("sesame"), "{text}");
    }
}
