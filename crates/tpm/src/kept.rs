//! The U a node keeps for its next boot: NV indices that open only to a signed PCR policy while PCR 15 is not latched.
//!
//! In NV and not in a sealed blob: no disk is needed to find it, writing overwrites the old U inside the TPM, where a blob
//! could have been copied before, and TPM2_Clear removes it.

use bootkeep_authorize::{access_policy, authorized_policy, pcr_policy, PcrValues};
use bootkeep_protocol::{kept::SignedPcrPolicy, link::LATCH_PCR};
use bootkeep_tpkd::{Authority, KEY_LEN};
use sha2::{Digest as _, Sha256};
use tss_esapi::{
    constants::SessionType,
    handles::KeyHandle,
    interface_types::{
        resource_handles::{Hierarchy, NvAuth},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{Digest, DigestList, Nonce, Public, Signature, VerifiedTicket},
    traits::UnMarshall,
    Context,
};
use zeroize::Zeroizing;

use crate::{pcr, scope, Tpm, TpmError};

const ID_LEN: usize = 16;
const CHECK_LEN: usize = 16;
const SIZE: usize = ID_LEN + KEY_LEN + CHECK_LEN;
/// Signed policies that fit the present PCRs and are tried; there is one, two while keys are changed.
const MOST_TRIED: usize = 8;

/// Where a U is kept: NV indices in the owner's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeptSlot {
    /// One of the two that the initramfs writes in turn: never the one it has just used.
    A,
    /// The other.
    B,
    /// Written by the running system when the owner changes K; only read by the initramfs.
    Staged,
}

impl KeptSlot {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Staged];

    /// Its NV index.
    #[must_use]
    pub fn index(self) -> u32 {
        match self {
            Self::A => 0x0180_0b50,
            Self::B => 0x0180_0b51,
            Self::Staged => 0x0180_0b52,
        }
    }
}

/// A U out of NV.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptShare {
    /// Which split.
    pub id: [u8; ID_LEN],
    /// U.
    pub u: Zeroizing<[u8; KEY_LEN]>,
}

impl std::fmt::Debug for KeptShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("kept share u (secret)")
    }
}

/// Why a slot gives no U.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// Nothing was ever kept there, or the TPM was cleared.
    #[error("the TPM keeps no share there")]
    Absent,
    /// The slot opens to other authorities.
    #[error("the share opens to other authorities than these; provision the node again")]
    OtherAuthorities,
    /// The boot is none that the owner has signed.
    #[error(
        "no signed PCR policy fits the PCRs of this boot (`bootkeep policy authorize` signs one)"
    )]
    NoPolicyFits,
    /// A write was cut short.
    #[error("the kept share is damaged")]
    Damaged,
    /// No slot has a policy that a new one could be given.
    #[error("this TPM keeps no share yet; provision the node with --unattended")]
    NoSlot,
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl From<tss_esapi::Error> for KeptError {
    fn from(error: tss_esapi::Error) -> Self {
        Self::Tpm(error.into())
    }
}

fn check(id: &[u8; ID_LEN], u: &[u8; KEY_LEN]) -> [u8; CHECK_LEN] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"bootkeep kept share v1")
        .chain_update(id)
        .chain_update(u)
        .finalize()
        .into();
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&digest[..CHECK_LEN]);
    check
}

fn encode(id: &[u8; ID_LEN], u: &[u8; KEY_LEN]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&id[..], u, &check(id, u)].concat())
}

fn decode(bytes: &[u8]) -> Option<KeptShare> {
    let (id, rest) = bytes.split_first_chunk::<ID_LEN>()?;
    let (u, sum) = rest.split_first_chunk::<KEY_LEN>()?;
    (sum == check(id, u)).then(|| KeptShare {
        id: *id,
        u: Zeroizing::new(*u),
    })
}

/// Whether key and signature are both of RSA or both of elliptic curves (TPM 2.0 Part 2 §6.3): the TPM need not be asked.
fn same_algorithm(authority: &Authority, signed: &SignedPcrPolicy) -> bool {
    let key = authority.public.first_chunk::<2>();
    let signature = signed.signature.as_slice().first_chunk::<2>();
    matches!(
        (key, signature),
        (Some([0x00, 0x01]), Some([0x00, 0x14])) | (Some([0x00, 0x23]), Some([0x00, 0x18]))
    )
}

/// A signed policy with the authority that is tried for it.
struct Way<'a> {
    authority: &'a Authority,
    signed: &'a SignedPcrPolicy,
    branches: Vec<[u8; 32]>,
}

impl Tpm {
    /// Reads a slot.
    ///
    /// # Errors
    /// [`KeptError`] saying why it does not open.
    pub fn read_kept(
        &mut self,
        slot: KeptSlot,
        authorities: &[Authority],
        policies: &[SignedPcrPolicy],
    ) -> Result<KeptShare, KeptError> {
        let Some(policy) = self.kept_policy(slot)? else {
            return Err(KeptError::Absent);
        };
        if access_policy(authorities).ok() != Some(policy) {
            return Err(KeptError::OtherAuthorities);
        }
        let fitting = self.fitting(policies)?;
        let branches: Vec<[u8; 32]> = authorities.iter().map(authorized_policy).collect();
        let ways = fitting
            .iter()
            .flat_map(|&signed| authorities.iter().map(move |authority| (authority, signed)))
            .filter(|(authority, signed)| same_algorithm(authority, signed));
        let mut last = KeptError::NoPolicyFits;
        for (authority, signed) in ways.take(MOST_TRIED) {
            let way = Way {
                authority,
                signed,
                branches: branches.clone(),
            };
            match self.open_slot(slot, &way) {
                Ok(bytes) => return decode(&bytes).ok_or(KeptError::Damaged),
                Err(TpmError::NvAbsent { .. }) => return Err(KeptError::Absent),
                // Signed by another authority than the one tried, or not for this TPM's eyes: the next.
                Err(error) => {
                    tracing::debug!(%error, "a PCR policy does not open the kept share");
                    last = KeptError::NoPolicyFits;
                }
            }
        }
        Err(last)
    }

    /// Keeps U in a slot in place of what was there, readable under this policy
    /// ([`bootkeep_authorize::access_policy`]) alone.
    ///
    /// # Errors
    /// [`TpmError::Tss`]; the slot may hold nothing then.
    pub fn write_kept(
        &mut self,
        slot: KeptSlot,
        policy: &[u8; 32],
        id: &[u8; ID_LEN],
        u: &[u8; KEY_LEN],
    ) -> Result<(), TpmError> {
        match self.kept_policy(slot)? {
            Some(present) if present == *policy => {}
            Some(_) => {
                self.nv_undefine(slot.index())?;
                self.nv_define_for(slot.index(), SIZE as u16, policy)?;
            }
            None => self.nv_define_for(slot.index(), SIZE as u16, policy)?,
        }
        self.nv_write(slot.index(), &encode(id, u))
    }

    /// Removes what is kept in a slot, if anything is.
    ///
    /// # Errors
    /// [`TpmError::ForeignNv`], [`TpmError::Tss`].
    pub fn forget_kept(&mut self, slot: KeptSlot) -> Result<(), TpmError> {
        match self.kept_policy(slot)? {
            Some(_) => self.nv_undefine(slot.index()),
            None => Ok(()),
        }
    }

    /// Keeps a U for the next boot beside the one in use, under the policy the other slots have.
    ///
    /// # Errors
    /// [`KeptError::NoSlot`] when this TPM keeps none yet; [`KeptError::Tpm`].
    pub fn stage_kept(&mut self, id: &[u8; ID_LEN], u: &[u8; KEY_LEN]) -> Result<(), KeptError> {
        let mut policy = None;
        for slot in [KeptSlot::A, KeptSlot::B] {
            policy = policy.or(self.kept_policy(slot)?);
        }
        let policy = policy.ok_or(KeptError::NoSlot)?;
        Ok(self.write_kept(KeptSlot::Staged, &policy, id, u)?)
    }

    /// The policy of a slot, when it is there.
    fn kept_policy(&mut self, slot: KeptSlot) -> Result<Option<[u8; 32]>, TpmError> {
        let handle = match self.nv_handle(slot.index()) {
            Err(TpmError::NvAbsent { .. }) => return Ok(None),
            other => other?,
        };
        let read = self
            .context
            .execute_without_session(|context| context.nv_read_public(handle));
        let closed = self.context.tr_close(&mut handle.into());
        let (public, _) = read?;
        closed?;
        let ours = public.data_size() == SIZE && public.attributes().policy_read();
        match public.authorization_policy().value().try_into() {
            Ok(policy) if ours => Ok(Some(policy)),
            _ => Err(TpmError::ForeignNv {
                index: slot.index(),
            }),
        }
    }

    /// The signed policies that the PCRs satisfy now.
    fn fitting<'a>(
        &mut self,
        policies: &'a [SignedPcrPolicy],
    ) -> Result<Vec<&'a SignedPcrPolicy>, TpmError> {
        let all: Vec<u8> = (0..24)
            .filter(|&pcr| policies.iter().any(|p| p.pcrs.contains(&pcr)))
            .collect();
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let values: PcrValues = self.pcr_read(&all)?.into_iter().collect();
        let fits = |signed: &&SignedPcrPolicy| {
            pcr_policy(&signed.pcrs, &values)
                .is_ok_and(|policy| policy[..] == *signed.policy.as_slice())
        };
        Ok(policies.iter().filter(fits).collect())
    }

    fn open_slot(&mut self, slot: KeptSlot, way: &Way<'_>) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let ticket = self.verified(way)?;
        let srk = self.srk()?;
        let handle = self.nv_handle(slot.index())?;
        let context = &mut self.context;
        // The salted session keeps U from whoever listens on the bus.
        let read = scope::with_session(
            context,
            SessionType::Policy,
            Some(srk),
            |context, session| {
                satisfy(context, session, way, ticket)?;
                let bytes = context.execute_with_session(Some(session), |context| {
                    context.nv_read(NvAuth::NvIndex(handle), handle, SIZE as u16, 0)
                })?;
                Ok(Zeroizing::new(bytes.value().to_vec()))
            },
        );
        let closed = self.context.tr_close(&mut handle.into());
        let bytes = read?;
        closed?;
        Ok(bytes)
    }

    /// The TPM's word that the authority has signed the policy, and the authority's name.
    fn verified(&mut self, way: &Way<'_>) -> Result<Approval, TpmError> {
        let public = Public::unmarshall(&way.authority.public)?;
        let signature = Signature::unmarshall(way.signed.signature.as_slice())?;
        let digest = Sha256::new()
            .chain_update(way.signed.policy.as_slice())
            .chain_update(&way.authority.policy_ref)
            .finalize();
        let digest = Digest::try_from(digest.as_slice())?;
        self.context.execute_without_session(|context| {
            let key: KeyHandle = context.load_external_public(public, Hierarchy::Owner)?;
            scope::with_object(context, key, |context, key| {
                let ticket = context.verify_signature(key, digest, signature)?;
                let name = context.tr_get_name(key.into())?;
                Ok(Approval { name, ticket })
            })
        })
    }
}

struct Approval {
    name: tss_esapi::structures::Name,
    ticket: VerifiedTicket,
}

/// Brings a policy session to the digest of [`access_policy`].
fn satisfy(
    context: &mut Context,
    session: AuthSession,
    way: &Way<'_>,
    approval: Approval,
) -> Result<(), TpmError> {
    let session = PolicySession::try_from(session)?;
    let pcrs = pcr::selection(&way.signed.pcrs)?;
    let approved = Digest::try_from(way.signed.policy.as_slice())?;
    let reference = Nonce::try_from(way.authority.policy_ref.as_slice())?;
    let latch = pcr::selection(&[LATCH_PCR])?;
    let branches = way
        .branches
        .iter()
        .map(|branch| Digest::try_from(branch.as_slice()))
        .collect::<Result<Vec<_>, _>>()?;
    context.execute_without_session(|context| {
        // An empty digest stands for the present values (TPM 2.0 Part 3 §23.7).
        context.policy_pcr(session, Digest::default(), pcrs)?;
        context.policy_authorize(
            session,
            approved,
            reference,
            &approval.name,
            approval.ticket,
        )?;
        if branches.len() > 1 {
            let mut list = DigestList::new();
            for branch in branches {
                list.add(branch)?;
            }
            context.policy_or(session, list)?;
        }
        context.policy_pcr(session, Digest::default(), latch)
    })?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_write_is_seen() {
        let whole = encode(&[1; 16], &[2; 32]);
        assert_eq!(decode(&whole).unwrap().u[..], [2; 32]);
        for index in 0..SIZE {
            let mut torn = whole.clone();
            torn[index] ^= 1;
            assert!(decode(&torn).is_none(), "{index}");
            assert!(decode(&whole[..index]).is_none());
        }
    }
}
