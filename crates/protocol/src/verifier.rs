//! The verifier's API for the tenant. Every route demands a client certificate with the role `tenant`.
//!
//! | route | body → answer |
//! |---|---|
//! | `PUT /v1/nodes/{id}` | [`Enrolment`] → [`NodeStatus`]; the same enrolment again changes nothing |
//! | `GET /v1/nodes` | → list of [`NodeStatus`] |
//! | `GET /v1/nodes/{id}` | → [`NodeStatus`] |
//! | `GET /v1/nodes/{id}/steps?after=N` | → [`Steps`]; waits up to [`crate::limits::LONG_POLL_SECONDS`] for one newer than N |
//! | `GET /v1/nodes/{id}/links` | → list of [`LinkInfo`]; also for nodes not enrolled |
//! | `POST /v1/nodes/{id}/relay` | [`RelayRequest`] → [`crate::link::Reply`] |
//! | `POST /v1/nodes/{id}/revoke` | [`RevokeRequest`] → [`NodeStatus`] |
//! | `DELETE /v1/nodes/{id}` | forgets the enrolment and V |
//! | `PUT /v1/policies/{kind}/{name}/{generation}` | [`crate::dsse::Envelope`] of a [`crate::policy::PolicyObject`] → [`crate::policy::PolicyRecord`] |
//! | `GET /v1/policies` | → list of [`crate::policy::PolicyRecord`] |
//! | `GET /v1/policies/{kind}/{name}/{generation}` | → [`crate::policy::PolicyAnswer`] |
//! | `POST /v1/policies/{kind}/{name}/{generation}/retire` | → [`crate::policy::PolicyRecord`] |
//! | `GET /v1/nodes/{id}/evidence` | → [`LastEvidence`] |
//! | `GET /v1/revocations?after=N` | → [`crate::revocation::Revocations`] |

use std::net::IpAddr;

use crate::{
    boot_files::BootFiles,
    kept::{Authority, SignedPcrPolicy},
    link::{Call, Claim},
    policy::{PolicyKind, PolicySource},
    BootId, Bytes, NodeId, Phase, ShareId,
};
use serde::{Deserialize, Serialize};

/// What the tenant gives the verifier for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// A human name.
    pub label: String,
    /// Generation of the AK the tenant saw at the registrar: both must speak of the same AK.
    pub generation: u64,
    /// SHA-256 of the AK public area the tenant saw, 32 bytes.
    pub ak_digest: Bytes,
    /// Share V, 32 bytes.
    pub share_v: Bytes,
    /// The sealed envelope.
    pub envelope: Bytes,
    /// The value PCR 15 has after the latch, 32 bytes.
    pub latched_pcr15: Bytes,
    /// Boot policy.
    pub boot_policy: PolicySource,
    /// Runtime policy.
    pub runtime_policy: PolicySource,
    /// Seconds between two attestations, 1 to 86400.
    pub interval_seconds: u32,
    /// Addresses the node has in the owner's network: what its peers block when it is revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Serial numbers of the certificates in the envelope, lower-case hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serials: Vec<String>,
    /// What is done when evidence of the node is refused.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Set for a node that keeps its U and boots with nobody at the tenant's desk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<Unattended>,
}

/// What an enrolment says about a node that keeps its U.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unattended {
    /// Names the split that `share_v` belongs to.
    pub share_id: ShareId,
    /// Whose signed PCR policies open the node's U; the same as in the envelope, which the verifier cannot read.
    pub authorities: Vec<Authority>,
    /// PCR policies signed for this node: of the boot the tenant has appraised.
    pub pcr_policies: Vec<SignedPcrPolicy>,
    /// The node runs and goes on under the K it has; this K begins with its next boot. The K before it is kept until the
    /// node has shown that it uses the new one.
    #[serde(default)]
    pub staged: bool,
}

/// What is done when evidence of a node is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Its certificates are revoked and its peers drop it, at once.
    #[default]
    Revoke,
    /// The owner is told (status, webhooks), nothing else.
    Report,
}

/// Where a node stands (design: silence ends trust).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Enrolled, nothing appraised in this boot.
    Waiting,
    /// Appraised in the initramfs phase; V may be released.
    BootTrusted,
    /// Last attestation good and not expired.
    Trusted,
    /// Was trusted, its time ran out, the link is still there.
    Stale,
    /// Was trusted, its time ran out, and no link is there.
    Unreachable,
    /// Evidence was refused.
    Untrusted,
    /// The tenant revoked it.
    Revoked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::BootTrusted,
        Self::Trusted,
        Self::Stale,
        Self::Unreachable,
        Self::Untrusted,
        Self::Revoked,
    ];

    /// The word used in JSON and by the CLI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::BootTrusted => "boot-trusted",
            Self::Trusted => "trusted",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Revoked => "revoked",
        }
    }
}

/// Why evidence was refused: a stable code and a text that names the entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Kebab-case, stable: `signature`, `pcr-digest`, `boot-event`, `file-not-listed` …
    pub code: String,
    /// One line that names the PCR, event or file.
    pub detail: String,
}

/// A node as the verifier sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeStatus {
    /// The node.
    pub node_id: NodeId,
    /// Its human name.
    pub label: String,
    /// Where it stands now.
    pub state: State,
    /// When it came to that state, milliseconds since 1970 (UTC).
    pub since_ms: u64,
    /// Until when it is trusted, milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_until_ms: Option<u64>,
    /// Why it is not trusted.
    pub reasons: Vec<Reason>,
    /// What the node itself said in this boot.
    pub claims: Vec<Claim>,
    /// Good attestations in this boot.
    pub attestations: u64,
    /// IMA entries appraised in this boot.
    pub ima_entries: u64,
    /// Label of the boot last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<BootId>,
    /// The TPM's `clockInfo.safe` of the last quote: false after an unclean power-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_safe: Option<bool>,
    /// Phases with an open link now.
    pub links: Vec<Phase>,
    /// Seconds between two attestations.
    pub interval_seconds: u32,
    /// The policies that count for the node now.
    #[serde(default)]
    pub policies: Vec<PolicyUse>,
    /// Sequence number of its entry in the revocation log, while it is revoked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<u64>,
    /// For a node that keeps its U.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<UnattendedStatus>,
    /// The node's last report about the files of its next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_files: Option<BootFiles>,
}

/// Where a node that keeps its U stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnattendedStatus {
    /// Splits whose V the verifier holds, newest first. One when the node has acknowledged the last.
    pub shares: Vec<ShareId>,
    /// Whether a K is staged that the node has not used yet.
    pub staged: bool,
    /// When the node last acknowledged a new U, milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_at_ms: Option<u64>,
}

/// A policy that counts for a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyUse {
    /// About which evidence.
    pub kind: PolicyKind,
    /// Its name; absent for a document of the node's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The generations that count now; empty when none does, and for a document of the node's own.
    pub generations: Vec<u64>,
    /// SHA-256 of the document's or the newest object's text, lower-case hex; empty when there is none.
    pub digest: String,
}

/// One step in the life of a node, for people and for timings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// Counts up by one.
    pub number: u64,
    /// When the verifier saw it, milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Kebab-case: a [`crate::link::Step`], or `enrolled`, `link-open`, `link-closed`, `appraised`, `share-v-sent`,
    /// `confirmation`, `refused`, `no-evidence`, `trusted`, `untrusted`, `revoked`, `claim`, `forgotten`.
    pub step: String,
    /// CLOCK_BOOTTIME of the node in milliseconds, for the node's own steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ms: Option<u64>,
    /// One line for people.
    pub detail: String,
}

/// Answer of the steps route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Newer than asked, oldest first; empty when none came in time.
    pub steps: Vec<StepRecord>,
    /// The node now.
    pub status: NodeStatus,
    /// HMAC confirmation of K the node sent in this boot, for the tenant to check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Bytes>,
}

/// An open link of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkInfo {
    /// The node, which has shown that it holds its AK.
    pub node_id: NodeId,
    /// Which agent.
    pub phase: Phase,
    /// Label of the boot.
    pub boot_id: BootId,
    /// TLS exporter of the link, 32 bytes: part of the qualifying data of every quote over it.
    pub exporter: Bytes,
    /// Whether the verifier has an enrolment for the node.
    pub enrolled: bool,
}

/// A call the tenant wants put to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRequest {
    /// Over which link.
    pub phase: Phase,
    /// The call, passed on as it is; share V and quotes for the verifier are refused here.
    pub call: Call,
}

/// The tenant's word that a node is not to be trusted any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Why, for whoever reads it later.
    pub reason: String,
}

/// The last evidence of a node that the verifier appraised, whole: for a dry run of another policy. The verifier keeps
/// it in memory; the IMA list is fetched anew from the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastEvidence {
    /// When it was appraised, milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// Values of the SHA-256 bank in the last verified quote.
    pub pcrs: Vec<crate::link::PcrValue>,
    /// The boot event log as it was appraised, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Bytes>,
}
