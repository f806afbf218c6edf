//! Policy digests of the SHA-256 bank, as a TPM computes them.

use std::collections::BTreeMap;

use bootkeep_protocol::link::LATCH_PCR;
use bootkeep_tpkd::{Authority, MAX_AUTHORITIES};
use sha2::{Digest, Sha256};

use crate::{tpm_format::name, AuthorizeError};

/// PCR values of the SHA-256 bank by index.
pub type PcrValues = BTreeMap<u8, [u8; 32]>;

/// The value of PCR 15 before the latch.
pub const UNLATCHED: [u8; 32] = [0; 32];

// TPM 2.0 Part 2 §6.5.2.
const TPM_CC_POLICY_AUTHORIZE: u32 = 0x0000_016a;
const TPM_CC_POLICY_OR: u32 = 0x0000_0171;
const TPM_CC_POLICY_PCR: u32 = 0x0000_017f;
const START: [u8; 32] = [0; 32];
const HIGHEST_PCR: u8 = 23;

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// `TPML_PCR_SELECTION` with one selection of three bytes.
fn selection(pcrs: &[u8]) -> [u8; 10] {
    let mut bits = [0_u8; 3];
    for &pcr in pcrs {
        if let Some(byte) = bits.get_mut(usize::from(pcr / 8)) {
            *byte |= 1 << (pcr % 8);
        }
    }
    let [low, middle, high] = bits;
    [0, 0, 0, 1, 0x00, 0x0b, 3, low, middle, high]
}

fn extended_by_pcrs(before: &[u8; 32], pcrs: &[u8], values: &[&[u8]]) -> [u8; 32] {
    hash(&[
        before,
        &TPM_CC_POLICY_PCR.to_be_bytes(),
        &selection(pcrs),
        &hash(values),
    ])
}

/// The digest of one `TPM2_PolicyPCR` over these PCRs with these values.
///
/// # Errors
/// [`AuthorizeError::Pcrs`], [`AuthorizeError::NoValue`].
pub fn pcr_policy(pcrs: &[u8], values: &PcrValues) -> Result<[u8; 32], AuthorizeError> {
    let ascending = pcrs.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = pcrs
        .iter()
        .all(|&pcr| pcr <= HIGHEST_PCR && pcr != LATCH_PCR);
    if pcrs.is_empty() || !ascending || !in_range {
        return Err(AuthorizeError::Pcrs);
    }
    let values: Vec<&[u8]> = pcrs
        .iter()
        .map(|pcr| {
            let value = values.get(pcr).ok_or(AuthorizeError::NoValue(*pcr))?;
            Ok(value.as_slice())
        })
        .collect::<Result<_, AuthorizeError>>()?;
    Ok(extended_by_pcrs(&START, pcrs, &values))
}

/// The digest after `TPM2_PolicyAuthorize` for this authority, whatever it has signed.
#[must_use]
pub fn authorized_policy(authority: &Authority) -> [u8; 32] {
    let code = TPM_CC_POLICY_AUTHORIZE.to_be_bytes();
    let by_key = hash(&[&START, &code, &name(&authority.public)]);
    hash(&[&by_key, &authority.policy_ref])
}

/// The digest after `TPM2_PolicyOR` over these branches.
#[must_use]
pub fn or_policy(branches: &[[u8; 32]]) -> [u8; 32] {
    let code = TPM_CC_POLICY_OR.to_be_bytes();
    hash(&[&START, &code, &branches.concat()])
}

/// The policy that opens a node's U: a PCR policy that one of the authorities signed, and PCR 15 not latched.
///
/// # Errors
/// [`AuthorizeError::Authorities`].
pub fn access_policy(authorities: &[Authority]) -> Result<[u8; 32], AuthorizeError> {
    let branches: Vec<[u8; 32]> = authorities.iter().map(authorized_policy).collect();
    let authorized = match branches.as_slice() {
        [] => return Err(AuthorizeError::Authorities),
        [one] => *one,
        several if several.len() <= MAX_AUTHORITIES => or_policy(several),
        _ => return Err(AuthorizeError::Authorities),
    };
    Ok(extended_by_pcrs(&authorized, &[LATCH_PCR], &[&UNLATCHED]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bad_selections_are_refused() {
        let values: PcrValues = (0..24).map(|pcr| (pcr, [pcr; 32])).collect();
        assert!(pcr_policy(&[4, 7, 11], &values).is_ok());
        for bad in [&[][..], &[7, 4], &[7, 7], &[24], &[15], &[4, 15]] {
            let refused = pcr_policy(bad, &values);
            assert!(matches!(refused, Err(AuthorizeError::Pcrs)), "{bad:?}");
        }
        let none = pcr_policy(&[4], &PcrValues::new());
        assert!(matches!(none, Err(AuthorizeError::NoValue(4))));
    }

    #[test]
    fn every_part_counts() {
        let values: PcrValues = (0..24).map(|pcr| (pcr, [0; 32])).collect();
        let base = pcr_policy(&[11], &values).unwrap();
        assert_ne!(base, pcr_policy(&[12], &values).unwrap());
        let mut other = values.clone();
        other.insert(11, [1; 32]);
        assert_ne!(base, pcr_policy(&[11], &other).unwrap());
    }

    #[test]
    fn authorities_order_key_and_reference_count() {
        let authority = |public: u8, reference: u8| Authority {
            public: vec![public; 90],
            policy_ref: vec![reference; 4],
        };
        let (a, b, c) = (authority(1, 1), authority(2, 1), authority(1, 2));
        let all = [
            access_policy(std::slice::from_ref(&a)).unwrap(),
            access_policy(std::slice::from_ref(&b)).unwrap(),
            access_policy(&[c]).unwrap(),
            access_policy(&[a.clone(), b.clone()]).unwrap(),
            access_policy(&[b, a.clone()]).unwrap(),
        ];
        for (index, digest) in all.iter().enumerate() {
            assert_eq!(
                all.iter().filter(|other| *other == digest).count(),
                1,
                "{index}"
            );
        }
        assert!(access_policy(&[]).is_err());
        assert!(access_policy(&vec![a; MAX_AUTHORITIES + 1]).is_err());
    }
}
