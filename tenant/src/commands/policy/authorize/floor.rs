//! The version floor: what a generation signed that is retired does not come back.

use bootkeep_authorize::pcr_policy;
use bootkeep_evidence::PcrValues;
use bootkeep_protocol::kept::SignedPcrPolicy;

use super::Foretold;
use crate::Error;

/// PCR policies by whether a generation that is not retired carries them.
#[derive(Debug, Default)]
pub(super) struct Floor {
    retired: Vec<SignedPcrPolicy>,
    kept: Vec<SignedPcrPolicy>,
}

impl Floor {
    /// Those of one generation.
    pub(super) fn note(&mut self, policies: &[SignedPcrPolicy], retired: bool) {
        let known = match retired {
            true => &mut self.retired,
            false => &mut self.kept,
        };
        known.extend_from_slice(policies);
    }

    /// Refuses a boot that only retired generations signed, whichever PCRs are chosen now.
    pub(super) fn check(&self, boots: &[Foretold], allow: bool) -> Result<(), Error> {
        let values = boots.iter().flat_map(|boot| boot.next.pcrs_in_initramfs());
        let old = |values: &PcrValues| has(&self.retired, values) && !has(&self.kept, values);
        if allow || !values.into_iter().any(|values| old(&values)) {
            return Ok(());
        }
        Err(Error::Failed(
            "only retired generations of this policy signed such a boot: accepting it again would be a roll-back to it. \
             Say --allow-rollback if that is what you want"
                .into(),
        ))
    }
}

/// Whether one of the policies is over these values.
fn has(policies: &[SignedPcrPolicy], values: &PcrValues) -> bool {
    let values = values.iter().map(|(pcr, value)| (pcr, *value)).collect();
    policies.iter().any(|signed| {
        pcr_policy(&signed.pcrs, &values).is_ok_and(|digest| signed.policy.as_slice() == digest)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn signed(value: u8) -> SignedPcrPolicy {
        let values = [(4, [value; 32])].into_iter().collect();
        SignedPcrPolicy {
            pcrs: vec![4],
            policy: pcr_policy(&[4], &values).unwrap().as_slice().into(),
            signature: vec![1].into(),
        }
    }

    #[test]
    fn what_only_retired_generations_signed_is_below_the_floor() {
        let values = |value: u8| [(4, [value; 32]), (9, [7; 32])].into_iter().collect();
        let mut floor = Floor::default();
        floor.note(&[signed(1), signed(2)], true);
        floor.note(&[signed(2), signed(3)], false);
        let below = |value: u8| {
            let values: PcrValues = values(value);
            has(&floor.retired, &values) && !has(&floor.kept, &values)
        };
        assert!(below(1));
        assert!(!below(2), "a live generation still accepts it");
        assert!(!below(3) && !below(4));
    }
}
