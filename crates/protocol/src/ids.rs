//! Who and what: node ids, roles, phases, nonces.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("a node id is 64 lower-case hexadecimal digits (the SHA-256 of the EK public area)")]
    NodeId,
    /// Not 64 lower-case hexadecimal digits.
    #[error("a nonce is 64 lower-case hexadecimal digits")]
    Nonce,
    /// Not 32 lower-case hexadecimal digits.
    #[error("a share id is 32 lower-case hexadecimal digits")]
    ShareId,
    /// Not the text form of a boot id.
    #[error("a boot id is 36 characters of lower-case hexadecimal digits and dashes")]
    BootId,
}

/// A node: the SHA-256 of its EK's public area (the marshalled `TPMT_PUBLIC`), as 64 lower-case hex digits.
///
/// Never chosen by the node: whoever reads an EK derives the id itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

impl NodeId {
    /// The id of the node whose EK has this public area (marshalled `TPMT_PUBLIC`, no size prefix).
    #[must_use]
    pub fn of_ek_public(ek_public: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(ek_public)))
    }

    /// The 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name in the node's certificate, which is also its IKE identity: the first 40 digits of the id and a suffix
    /// that no public DNS serves. Never resolved.
    #[must_use]
    pub fn host_name(&self) -> String {
        format!(
            "{}.node.bootkeep.internal",
            self.0.get(..40).unwrap_or(&self.0)
        )
    }

    /// The first 12 digits: enough for a person to tell nodes apart.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for NodeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        is_lower_hex(text, 64)
            .then(|| Self(text.to_owned()))
            .ok_or(IdError::NodeId)
    }
}

impl TryFrom<String> for NodeId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who speaks: the service role that a certificate carries and that a quote is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The owner of the nodes; holds share U.
    Tenant,
    /// Attests nodes; holds share V.
    Verifier,
    /// Keeps which AK lives in the TPM of which EK.
    Registrar,
    /// Issues node certificates.
    Ca,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Verifier, Self::Registrar, Self::Ca];

    /// The word used in URIs and in qualifying data.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Verifier => "verifier",
            Self::Registrar => "registrar",
            Self::Ca => "ca",
        }
    }

    /// The URI a service certificate carries as a subject alternative name.
    #[must_use]
    pub fn uri(self) -> String {
        format!("bootkeep://role/{}", self.as_str())
    }

    /// The role named by such a URI.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.uri() == uri)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which agent of the node holds a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The agent of the initramfs, before the root is unlocked.
    Initramfs,
    /// The agent of the booted system.
    Runtime,
}

impl Phase {
    /// The word used in messages and in qualifying data.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initramfs => "initramfs",
            Self::Runtime => "runtime",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// 32 random bytes, used once; lower-case hex in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// A fresh nonce from the operating system's generator.
    ///
    /// # Errors
    /// The generator's error, when it cannot give bytes.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Nonce {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Nonce {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        if !is_lower_hex(&text, 64) {
            return Err(IdError::Nonce);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(|_| IdError::Nonce)?;
        Ok(Self(bytes))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        hex::encode(nonce.0)
    }
}

/// Names one split of one K: 16 random bytes, lower-case hex in JSON. U and V of one split carry the same id. Not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShareId([u8; 16]);

impl ShareId {
    /// A fresh id from the operating system's generator.
    ///
    /// # Errors
    /// The generator's error, when it cannot give bytes.
    pub fn fresh() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for ShareId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for ShareId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if !is_lower_hex(text, 32) {
            return Err(IdError::ShareId);
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::ShareId)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ShareId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ShareId> for String {
    fn from(id: ShareId) -> Self {
        hex::encode(id.0)
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The kernel's `/proc/sys/kernel/random/boot_id`: a label of one boot, chosen by the node, proof of nothing.
///
/// That two links belong to one boot is shown by the TPM's `resetCount`, not by this.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(String);

impl BootId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let good = text.len() == 36
            && text
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        good.then(|| Self(text.to_owned())).ok_or(IdError::BootId)
    }
}

impl TryFrom<String> for BootId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
