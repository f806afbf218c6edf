//! Registration: which AK lives in the TPM of which EK.
//!
//! | route | who | body → answer |
//! |---|---|---|
//! | `POST /v1/nodes` | node | [`RegisterRequest`] → [`Challenge`] |
//! | `POST /v1/nodes/{id}/activate` | node | [`ActivateRequest`] → [`Activated`] |
//! | `GET /v1/nodes?after={id}&limit=N`, `GET /v1/nodes/{id}` | verifier, tenant | → [`NodeRecord`]; all of them without `limit` |
//! | `DELETE /v1/nodes/{id}` | tenant | forgets the node |
//! | `GET /v1/approvals`, `PUT`/`DELETE /v1/approvals/{id}` | tenant | EKs accepted without a certificate |

use serde::{Deserialize, Serialize};

use crate::{Bytes, NodeId};

/// A node asks to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// EK public area: marshalled `TPMT_PUBLIC`, no size prefix.
    pub ek_public: Bytes,
    /// EK certificate, DER, as read from NV; absent when the TPM has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate: Option<Bytes>,
    /// AK public area: marshalled `TPMT_PUBLIC`, no size prefix.
    pub ak_public: Bytes,
}

/// The registrar's challenge: only a TPM that holds both EK and AK can open it (TPM2_ActivateCredential).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The id derived from the EK.
    pub node_id: NodeId,
    /// Names this challenge; one answer, within [`crate::limits::CHALLENGE_SECONDS`].
    pub challenge_id: String,
    /// Contents of `TPM2B_ID_OBJECT` (no size prefix).
    pub credential_blob: Bytes,
    /// Contents of `TPM2B_ENCRYPTED_SECRET` (no size prefix).
    pub encrypted_secret: Bytes,
}

/// The node's answer to a [`Challenge`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// The challenge answered.
    pub challenge_id: String,
    /// `HMAC-SHA256(secret, "bootkeep activate v1" || challenge_id || node_id)`, see [`activation_message`].
    pub proof: Bytes,
}

/// What the secret of a challenge is asked to sign: the tag, the challenge's id and the node's id, each with its
/// length before it as a big-endian `u32`.
#[must_use]
pub fn activation_message(challenge_id: &str, node: &NodeId) -> Vec<u8> {
    let mut message = Vec::new();
    for part in ["bootkeep activate v1", challenge_id, node.as_str()] {
        message.extend_from_slice(&(part.len() as u32).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message
}

/// The registrar's last word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activated {
    /// The registered node.
    pub node_id: NodeId,
    /// 1 for the first AK of this EK, one more for each new AK.
    pub generation: u64,
}

/// Why an EK is believed to be of a real TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", deny_unknown_fields)]
pub enum EkAssurance {
    /// Its certificate chains to one of the roots.
    Certificate {
        /// Subject of the root the chain ends in.
        root: String,
    },
    /// An operator approved this EK's hash.
    Approval {
        /// What the operator wrote beside it.
        note: String,
    },
}

/// What the registrar knows of a node. Only activated nodes have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// The node.
    pub node_id: NodeId,
    /// Counts the AKs this EK has had.
    pub generation: u64,
    /// EK public area (`TPMT_PUBLIC`).
    pub ek_public: Bytes,
    /// EK certificate, DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate: Option<Bytes>,
    /// Why the EK is believed.
    pub assurance: EkAssurance,
    /// AK public area (`TPMT_PUBLIC`).
    pub ak_public: Bytes,
    /// When this AK was activated, seconds since 1970 (UTC).
    pub registered_at: u64,
}

/// Body of `PUT /v1/approvals/{id}`: accept this EK without a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Why, for whoever reads it later.
    pub note: String,
}

/// One line of `GET /v1/approvals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedEk {
    /// The approved EK: the id its node will have.
    pub node_id: NodeId,
    /// Why.
    pub note: String,
}
