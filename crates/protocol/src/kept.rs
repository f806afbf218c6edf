//! Shares for a node that keeps its U, so that it can boot with nobody at the tenant's desk.
//!
//! U is in the TPM's NV, readable only while the PCRs have values the owner has signed and PCR 15 is not latched. V comes
//! from the verifier after its appraisal of this boot. After each use both halves are made anew, K stays:
//!
//! ```text
//! verifier   stores V' (new id) beside V                       durable before anything is sent
//! verifier → node   V, V', envelope, signed PCR policies       [`Kept`]
//! node       U from NV (id of V); K = U xor V; U' = K xor V' into the other NV slot
//! node → verifier   share-kept { id of V' }                    [`crate::link::Event::ShareKept`]
//! verifier   drops V and everything older
//! ```

use serde::{Deserialize, Serialize};

use crate::{Bytes, Nonce, ShareId};

/// K sets one message carries: the newest, and those before it until the node has shown that it has the newest.
pub const MAX_KEY_SETS: usize = 4;
/// Shares of one K set.
pub const MAX_KEPT_SHARES: usize = 4;
/// PCR policies one message or policy object carries.
pub const MAX_PCR_POLICIES: usize = 64;
/// Most bytes of a signature, `TPMT_SIGNATURE`.
pub const MAX_PCR_SIGNATURE: usize = 1024;

/// What comes with share V for a node that keeps its U.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Newest first, 1 to [`MAX_KEY_SETS`].
    pub sets: Vec<KeySet>,
    /// PCR policies that open NV, at most [`MAX_PCR_POLICIES`].
    pub policies: Vec<SignedPcrPolicy>,
}

/// One K with its envelope and the V shares that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// Sealed under this K.
    pub envelope: Bytes,
    /// Whose signed PCR policies open the U of this K. Nothing depends on their truth: the TPM knows the right ones.
    pub authorities: Vec<Authority>,
    /// Every V the verifier holds for this K, 1 to [`MAX_KEPT_SHARES`].
    pub shares: Vec<WrappedShare>,
    /// The V that the node's next U is made for; it is among `shares` when an earlier boot did not acknowledge it.
    pub next: WrappedShare,
    /// Whether the node may boot with this K. Otherwise it only serves to find the volume's present key.
    pub boots: bool,
}

/// A key that signs PCR policies. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Marshalled `TPMT_PUBLIC`, at most [`crate::limits::MAX_PUBLIC`] bytes.
    pub public: Bytes,
    /// The policy reference of its signatures, at most 64 bytes.
    pub policy_ref: Bytes,
}

/// A V wrapped to the NK of the appraised quote, as in [`crate::link::ShareCall`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedShare {
    /// Which split.
    pub id: ShareId,
    /// HPKE encapsulated key, 32 bytes.
    pub encapsulated: Bytes,
    /// HPKE ciphertext of the share.
    pub ciphertext: Bytes,
}

/// A `TPM2_PolicyPCR` digest that an authority has signed for `TPM2_PolicyAuthorize`. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPcrPolicy {
    /// PCRs of the SHA-256 bank, ascending, not empty.
    pub pcrs: Vec<u8>,
    /// The policy digest over their values, 32 bytes.
    pub policy: Bytes,
    /// Marshalled `TPMT_SIGNATURE` over `SHA-256(policy || policy reference)`.
    pub signature: Bytes,
}

impl SignedPcrPolicy {
    /// Whether it can be one at all: nothing is said about its signature.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        !self.pcrs.is_empty()
            && self.pcrs.iter().all(|pcr| *pcr < 24)
            && self.pcrs.is_sorted_by(|a, b| a < b)
            && self.policy.as_slice().len() == 32
            && (1..=MAX_PCR_SIGNATURE).contains(&self.signature.as_slice().len())
    }
}

/// Take this U into NV for the next boot. From the tenant to the running system, after its own appraisal of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepCall {
    /// Which split.
    pub id: ShareId,
    /// The nonce of the quote that was appraised; part of the wrapping's context.
    pub nonce: Nonce,
    /// HPKE encapsulated key, 32 bytes.
    pub encapsulated: Bytes,
    /// HPKE ciphertext of U.
    pub ciphertext: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pcr_policy_has_its_form() {
        let good = SignedPcrPolicy {
            pcrs: vec![0, 4, 23],
            policy: vec![1; 32].into(),
            signature: vec![1; 72].into(),
        };
        assert!(good.is_well_formed());
        type Change = fn(&mut SignedPcrPolicy);
        let bad: [(&str, Change); 7] = [
            ("no PCR", |p| p.pcrs.clear()),
            ("PCR 24", |p| p.pcrs.push(24)),
            ("twice", |p| p.pcrs = vec![4, 4]),
            ("descending", |p| p.pcrs = vec![4, 0]),
            ("short", |p| p.policy = vec![1; 31].into()),
            ("no signature", |p| p.signature = Vec::new().into()),
            ("long", |p| {
                p.signature = vec![1; MAX_PCR_SIGNATURE + 1].into()
            }),
        ];
        for (name, change) in bad {
            let mut policy = good.clone();
            change(&mut policy);
            assert!(!policy.is_well_formed(), "{name}");
        }
    }
}
