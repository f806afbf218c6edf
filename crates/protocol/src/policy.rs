//! Policies as objects of their own: named, numbered, signed, with a time in which they count.
//!
//! An object is the payload of a DSSE envelope signed with the owner's policy key. All objects of one name and kind are
//! *generations* of one policy; at most two count at one time, so that an update can roll through a fleet: evidence is
//! good when one of them accepts it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{dsse::Envelope, kept::SignedPcrPolicy};

/// Payload type of a [`PolicyObject`].
pub const POLICY_TYPE: &str = "application/vnd.bootkeep.policy+json";

/// Which evidence a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// The boot.
    Boot,
    /// The running system.
    Runtime,
}

impl PolicyKind {
    /// The word used in JSON, paths and by the CLI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Runtime => "runtime",
        }
    }
}

/// One generation of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyObject {
    /// 1.
    pub version: u32,
    /// 1 to 64 of `a-z 0-9 - .`, starting with a letter or digit.
    pub name: String,
    /// Which evidence it is about.
    pub kind: PolicyKind,
    /// Number of the generation, from 1; a later one is newer.
    pub generation: u64,
    /// Counts from then on, milliseconds since 1970 (UTC).
    pub valid_from_ms: u64,
    /// Counts until then, milliseconds since 1970 (UTC).
    pub valid_until_ms: u64,
    /// The policy document (`bootkeep-policy`).
    pub policy: Value,
    /// For a boot policy: PCR policies of the boots it accepts, which open the U that nodes keep. At most
    /// [`crate::kept::MAX_PCR_POLICIES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcr_policies: Vec<SignedPcrPolicy>,
}

/// What an enrolment says about a policy: a document of its own, or the name of a policy the verifier has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PolicySource {
    /// Follows the named policy through its generations.
    Named(String),
    /// This document, for this node alone, without an end.
    Document(Value),
}

/// A policy object as the verifier has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// Its name.
    pub name: String,
    /// Which evidence it is about.
    pub kind: PolicyKind,
    /// Number of the generation.
    pub generation: u64,
    /// Counts from then on, milliseconds since 1970 (UTC).
    pub valid_from_ms: u64,
    /// Counts until then, milliseconds since 1970 (UTC).
    pub valid_until_ms: u64,
    /// SHA-256 of the signed payload, lower-case hex.
    pub digest: String,
    /// SHA-256 of the signer's public key, lower-case hex.
    pub key_id: String,
    /// Whether it counts now.
    pub live: bool,
    /// Retired by the tenant: it never counts again, and no generation up to this one is taken any more.
    pub retired: bool,
    /// Nodes that follow this name.
    pub nodes: u64,
}

/// Answer of `GET /v1/policies/{kind}/{name}/{generation}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyAnswer {
    /// What the verifier makes of it.
    pub record: PolicyRecord,
    /// The signed object.
    pub envelope: Envelope,
}
