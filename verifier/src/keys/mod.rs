//! K sets of nodes that keep their U: what is known of them beside their secrets, and the rules by which they come and go.
//!
//! A set is *bound* when the node may depend on it: it has acknowledged it, or a V of it was sent and nothing since has
//! shown that the node still uses an older one. The volume's header may need a bound set, so no enrolment drops one.

mod plan;

use bootkeep_protocol::{
    kept::{Authority, SignedPcrPolicy, MAX_PCR_POLICIES},
    verifier::UnattendedStatus,
    Bytes, ShareId,
};
use serde::{Deserialize, Serialize};

pub(crate) use plan::{id_used, Change, Plan};

/// What an enrolment says of its K, beside the secrets. Stored with the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyTerms {
    /// Names the split the tenant made.
    pub(crate) share_id: ShareId,
    /// The value PCR 15 has in a boot with this K.
    pub(crate) latched_pcr15: Bytes,
    /// Signed for the boot the tenant appraised.
    pub(crate) pcr_policies: Vec<SignedPcrPolicy>,
    /// Who signs PCR policies for it.
    pub(crate) authorities: Vec<Authority>,
}

/// One K set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySet {
    /// Counts up; a later one is newer.
    pub(crate) number: i64,
    /// Names the split the tenant made; its V goes with the first acknowledgement.
    pub(crate) share_id: ShareId,
    pub(crate) latched: [u8; 32],
    pub(crate) pcr_policies: Vec<SignedPcrPolicy>,
    pub(crate) authorities: Vec<Authority>,
    /// The node may boot with it; otherwise it only serves to find the volume's present key.
    pub(crate) boots: bool,
    /// A V of it was sent since the node last showed that it uses an older K.
    pub(crate) sent: bool,
    /// When the node acknowledged it.
    pub(crate) kept_at_ms: Option<u64>,
    /// Splits whose V is there, oldest first.
    pub(crate) shares: Vec<ShareId>,
}

impl KeySet {
    fn is_bound(&self) -> bool {
        self.sent || self.kept_at_ms.is_some()
    }
}

/// The K sets of one node, newest first; none when the node does not keep its U.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<KeySet>);

impl Keys {
    fn staged(&self) -> Option<&KeySet> {
        let (newest, older) = self.0.split_first()?;
        older.iter().any(|set| set.boots).then_some(newest)
    }

    /// The split of the K that begins with the next boot: its U is on its way to the node.
    pub(crate) fn staged_share(&self) -> Option<&ShareId> {
        Some(&self.staged()?.share_id)
    }

    /// Values PCR 15 may have in the running system, newest first.
    pub(crate) fn latched(&self) -> Vec<[u8; 32]> {
        let boots = self.0.iter().filter(|set| set.boots);
        boots.map(|set| set.latched).collect()
    }

    /// PCR policies of the enrolments with those of the boot policy in their midst: a newer enrolment's come first, an
    /// older one's last. Each once, as many as one message carries.
    pub(crate) fn pcr_policies(
        &self,
        of_policy: impl Iterator<Item = SignedPcrPolicy>,
    ) -> Vec<SignedPcrPolicy> {
        let mut enrolments = self.0.iter().map(|set| set.pcr_policies.iter().cloned());
        let newest = enrolments.next().into_iter().flatten();
        let mut policies = Vec::new();
        for policy in newest.chain(of_policy).chain(enrolments.flatten()) {
            if policies.len() < MAX_PCR_POLICIES && !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        policies
    }

    /// For people and the tenant; `None` when the node does not keep its U.
    pub(crate) fn status(&self) -> Option<UnattendedStatus> {
        let newest = self.0.first()?;
        let staged = self.staged().is_some();
        let current = if staged { self.0.get(1)? } else { newest };
        let shares = self.0.iter().flat_map(|set| set.shares.iter().rev());
        Some(UnattendedStatus {
            shares: shares.copied().collect(),
            staged,
            kept_at_ms: current.kept_at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn set(number: i64, boots: bool, sent: bool, kept_at_ms: Option<u64>) -> KeySet {
        let byte = number as u8;
        KeySet {
            number,
            share_id: ShareId::from([byte; 16]),
            latched: [byte; 32],
            pcr_policies: vec![policy(byte)],
            authorities: Vec::new(),
            boots,
            sent,
            kept_at_ms,
            shares: vec![ShareId::from([byte; 16])],
        }
    }

    fn policy(byte: u8) -> SignedPcrPolicy {
        SignedPcrPolicy {
            pcrs: vec![4],
            policy: vec![byte; 32].into(),
            signature: vec![byte].into(),
        }
    }

    #[test]
    fn a_staged_k_is_told_from_one_that_counts() {
        let kept = |set: KeySet| (set.shares[0], set);
        let (old_id, old) = kept(set(1, true, true, Some(5)));
        let (new_id, new) = kept(set(2, true, false, None));
        let staged = Keys(vec![new.clone(), old.clone()]);
        assert_eq!(staged.staged_share(), Some(&new_id));
        assert_eq!(staged.latched(), [[2; 32], [1; 32]]);
        let status = staged.status();
        let expected = UnattendedStatus {
            shares: vec![new_id, old_id],
            staged: true,
            kept_at_ms: Some(5),
        };
        assert_eq!(status, Some(expected));

        // A new enrolment: the node has not acknowledged the K that counts now.
        let older = KeySet {
            boots: false,
            ..old
        };
        let enrolled = Keys(vec![new, older]);
        assert_eq!(enrolled.staged_share(), None);
        assert_eq!(enrolled.latched(), [[2; 32]]);
        let status = enrolled.status().map(|s| (s.staged, s.kept_at_ms));
        assert_eq!(status, Some((false, None)));
        assert_eq!(Keys::default().status(), None);
    }

    #[test]
    fn pcr_policies_are_each_sent_once_and_bounded() {
        let keys = Keys(vec![set(2, true, false, None), set(1, false, true, None)]);
        let of_policy = [policy(9), policy(2), policy(8)];
        let bytes = |policies: Vec<SignedPcrPolicy>| -> Vec<u8> {
            let first = policies.iter().map(|policy| policy.policy.as_slice()[0]);
            first.collect()
        };
        assert_eq!(
            bytes(keys.pcr_policies(of_policy.into_iter())),
            [2, 9, 8, 1]
        );
        let many = (10..=200).map(policy);
        assert_eq!(keys.pcr_policies(many).len(), MAX_PCR_POLICIES);
    }
}
