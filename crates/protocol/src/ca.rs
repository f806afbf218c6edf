//! The CA's API. Issuing and revoking demand a client certificate with the role `tenant`
//! (revoking: also `verifier`); the CRL is public, over plain HTTP, and signed.
//!
//! | route | body → answer |
//! |---|---|
//! | `POST /v1/certificates` | [`IssueRequest`] → [`Issued`] |
//! | `GET /v1/certificates` | → list of [`CertificateRecord`] |
//! | `POST /v1/nodes/{id}/revoke` | [`RevokeCertificates`] → [`RevokedCertificates`] |
//! | `GET /v1/crl` (also `verifier`) | → [`CurrentCrl`] |
//! | `GET /crl.der`, `GET /ca.der` (plain HTTP listener) | the CRL, the CA's certificate |
//! | `POST /ocsp`, `GET /ocsp/{base64 of the request}` (plain HTTP listener) | OCSP, RFC 6960 and RFC 5019 |

use serde::{Deserialize, Serialize};

use crate::{Bytes, NodeId};

/// Ask for a node certificate. The key pair was made by the asker; the CA never sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// For which node.
    pub node_id: NodeId,
    /// A human name, becomes the subject's common name.
    pub label: String,
    /// PKCS #10 request, DER, self-signed with a P-256 key. Only its public key is used.
    pub csr: Bytes,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The CA's certificate, PEM.
    pub chain_pem: String,
}

/// One issued certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRecord {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Whose.
    pub node_id: NodeId,
    /// Seconds since 1970 (UTC).
    pub issued_at: u64,
    /// Seconds since 1970 (UTC).
    pub not_after: u64,
    /// Seconds since 1970 (UTC), when revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
}

/// Revoke the certificates of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeCertificates {
    /// Why, for whoever reads it later.
    pub reason: String,
    /// Serial numbers that stay good, lower-case hex: a notice that comes late must not hit the certificate of a node that
    /// was provisioned anew in between. Named one by one, since clocks of two machines would not tell them apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
}

/// What was revoked now (those that already were are not counted).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedCertificates {
    /// Serial numbers, lower-case hex.
    pub serials: Vec<String>,
    /// Number of the CRL that has them.
    pub crl_number: u64,
    /// That CRL, DER.
    pub crl: Bytes,
}

/// The list in force, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentCrl {
    /// The CRL, DER.
    pub crl: Bytes,
    /// The certificate of the authority that signed it, DER.
    pub authority: Bytes,
}
