//! DSSE envelopes (Dead Simple Signing Envelope, protocol version 1): the form of everything that is signed and kept.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// A payload with its signatures. What it says counts only once `bootkeep-signed` has verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// What was signed.
    pub payload: Bytes,
    /// Its media type; part of what is signed.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// At least one.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A hint: SHA-256 of the signer's public key (DER `SubjectPublicKeyInfo`), lower-case hex.
    #[serde(default)]
    pub keyid: String,
    /// ECDSA P-256 with SHA-256, ASN.1 DER.
    pub sig: Bytes,
}
