//! PCR policies that an authority signs, so that a TPM opens what it keeps after an update too.
//!
//! A secret is not bound to PCR values but to a key: `TPM2_PolicyAuthorize` takes any `TPM2_PolicyPCR` digest that the key
//! has signed. Here are the digests (TPM 2.0 Part 3, §23), computed without a TPM, the signatures in the TPM's form, and
//! the reading of what systemd-measure writes. Pure: no I/O, no TPM.
//!
//! ```text
//! owner:  policy = PolicyPCR(values of a boot it accepts);  signature over SHA-256(policy || policy reference)
//! node:   finds the signed policy that its PCRs satisfy now
//! TPM:    PolicyPCR, PolicyAuthorize(authority), PolicyOR over authorities, PolicyPCR(15 = 0)  ->  opens
//! ```

#![forbid(unsafe_code)]

mod authority;
mod digest;
mod measured;
mod sign;
mod tpm_format;

pub use authority::{from_wire, p256_authority, public_from_pem, rsa_authority, to_wire};
pub use digest::{access_policy, authorized_policy, or_policy, pcr_policy, PcrValues, UNLATCHED};
pub use measured::from_pcr_signatures;
pub use sign::AuthorityKey;

/// Why something is not a key, a signature or a set of PCRs.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// Not a P-256 or RSA key in PEM.
    #[error("not a {0} in PEM; P-256 and RSA of 2048 to 4096 bits can sign PCR policies")]
    Key(&'static str),
    /// The crypto library refused.
    #[error("the PCR policy cannot be signed")]
    Sign,
    /// Empty, too high or twice.
    #[error("PCRs of a policy are 0 to 23, in ascending order, at least one; PCR 15 is the latch and belongs to no policy")]
    Pcrs,
    /// A policy names a PCR without a value.
    #[error("there is no value of PCR {0}")]
    NoValue(u8),
    /// Not what systemd-measure writes.
    #[error("the PCR signatures cannot be read: {0}")]
    PcrSignatures(String),
    /// No authority, or more than a node takes.
    #[error("a node has 1 to {} authorities", bootkeep_tpkd::MAX_AUTHORITIES)]
    Authorities,
}
