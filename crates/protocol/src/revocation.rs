//! The revocation log: what the verifier tells every node about nodes that failed, or that are good again.
//!
//! Entries and heads travel as DSSE envelopes ([`crate::dsse::Envelope`]), signed with the verifier's revocation key. A
//! node takes entries only in order: each names the digest of the one before it.
//!
//! ```text
//! verifier → node   request { call: revocations { head, entries, crl } }    at once, at each link, and as a heartbeat
//! node → verifier   reply   { reply: revocations { sequence, digest, done } }   the acknowledgement
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{dsse::Envelope, verifier::Reason, Bytes, NodeId};

/// Payload type of an [`Entry`].
pub const ENTRY_TYPE: &str = "application/vnd.bootkeep.revocation+json";
/// Payload type of a [`Head`].
pub const HEAD_TYPE: &str = "application/vnd.bootkeep.revocation-head+json";
/// Version of both.
pub const REVOCATION_VERSION: u32 = 1;

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not to be spoken with any more.
    Revoke,
    /// It was provisioned anew and is good again: with another certificate.
    Reinstate,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`REVOCATION_VERSION`].
    pub version: u32,
    /// Names the log: 32 random hex digits, made with it.
    pub log: String,
    /// Counts from 1, without gaps.
    pub sequence: u64,
    /// SHA-256 of the payload of the entry before, 32 bytes; zeros for the first.
    pub previous: Bytes,
    /// Milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// What happened.
    pub action: Action,
    /// To which node.
    pub node_id: NodeId,
    /// Its human name.
    pub label: String,
    /// Serial numbers of its certificates, lower-case hex.
    pub serials: Vec<String>,
    /// Addresses it has in the owner's network, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// The state of the log now; also the heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`REVOCATION_VERSION`].
    pub version: u32,
    /// Names the log.
    pub log: String,
    /// Of the newest entry; 0 when there is none.
    pub sequence: u64,
    /// SHA-256 of the payload of the newest entry, 32 bytes; zeros when there is none.
    pub digest: Bytes,
    /// Milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// Tell a node of revocations. Entries follow each other and come in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsCall {
    /// A signed [`Head`].
    pub head: Envelope,
    /// Signed [`Entry`]s that the node has not acknowledged, at most [`crate::limits::MAX_REVOCATIONS`].
    pub entries: Vec<Envelope>,
    /// The CA's revocation list, DER, when there is one the node was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<Bytes>,
}

/// The acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsReply {
    /// Of the last entry the node holds, durably; 0 when none.
    pub sequence: u64,
    /// SHA-256 of that entry's payload, 32 bytes; zeros when none.
    pub digest: Bytes,
    /// What was done about the entries of this call.
    pub done: Vec<Done>,
}

/// What a node did about one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Of the entry.
    pub sequence: u64,
    /// How it ended.
    pub outcome: Enforcement,
    /// From the entry's arrival to this outcome (microseconds).
    pub took_us: u64,
    /// One line for people: associations ended, policies set, actions run, what failed.
    pub detail: String,
}

/// How a revocation was enforced at a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// The IKE daemon ended the associations with the node, or has none.
    Ike,
    /// The kernel's states were removed and its policies block the node: the IKE daemon did not answer.
    Kernel,
    /// This node speaks no IPsec.
    NothingToDo,
    /// Neither way worked; it is tried again.
    Failed,
}

/// A peer's acknowledgement, as the verifier keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Of the peer.
    pub node_id: NodeId,
    /// Its human name.
    pub label: String,
    /// When the verifier had it, milliseconds since 1970 (UTC); absent while it has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// What the peer did; absent while it has not come, or when it came by way of a later entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
}

/// An entry with everything known about it, for the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The signed entry: the tenant verifies it itself.
    pub entry: Envelope,
    /// When the CA had put it on its list, milliseconds since 1970 (UTC); absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_at_ms: Option<u64>,
    /// One for each enrolled node but the entry's own.
    pub acknowledgements: Vec<Acknowledgement>,
}

/// Answer of `GET /v1/revocations?after=N`: at most [`crate::limits::MAX_REVOCATIONS`] records, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// The signed [`Head`].
    pub head: Envelope,
    /// Later than asked.
    pub records: Vec<Record>,
}
