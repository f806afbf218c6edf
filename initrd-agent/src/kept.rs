//! The U this node keeps in its TPM, joined with the V shares the verifier has sent for it.

use bootkeep_authorize::{access_policy, from_pcr_signatures, from_wire};
use bootkeep_node::tpm::TpmThread;
use bootkeep_protocol::{
    kept::{
        Kept, KeySet, SignedPcrPolicy, WrappedShare, MAX_KEPT_SHARES, MAX_KEY_SETS,
        MAX_PCR_POLICIES,
    },
    limits::MAX_PCR_SIGNATURES,
    NodeId, Problem, ProblemKind, ShareId,
};
use bootkeep_tpkd::{
    open_envelope, Authority, BootstrapKey, Envelope, NodeKey, Share, WrapError, Wrapped, U, V,
};
use bootkeep_tpm::{KeptError, KeptShare, KeptSlot, Tpm};

use crate::{Console, GaveUp, Settings};

/// What came with V, unwrapped.
#[derive(Debug)]
pub(crate) struct KeySets {
    sets: Vec<Set>,
    policies: Vec<SignedPcrPolicy>,
}

#[derive(Debug)]
struct Set {
    envelope: Vec<u8>,
    authorities: Vec<Authority>,
    shares: Vec<(ShareId, Share<V>)>,
    next: (ShareId, Share<V>),
    boots: bool,
}

/// A K that the TPM's U and one of the verifier's V shares gave.
#[derive(Debug)]
pub(crate) struct Reunited {
    pub(crate) set: usize,
    pub(crate) id: ShareId,
    pub(crate) slot: KeptSlot,
    pub(crate) key: BootstrapKey,
    pub(crate) envelope: Envelope,
    pub(crate) boots: bool,
}

/// A U to be kept for the next boot.
#[derive(Debug)]
pub(crate) struct Next {
    id: ShareId,
    slot: KeptSlot,
    /// `None` when the slot holds it already: it is only acknowledged.
    write: Option<([u8; 32], Share<U>)>,
}

/// A U that the TPM keeps now. Nothing older is needed any more.
#[derive(Debug)]
pub(crate) struct KeptNow {
    pub(crate) id: ShareId,
    slot: KeptSlot,
}

fn malformed(detail: &str) -> Problem {
    Problem::new(ProblemKind::Malformed, "kept-shares", detail)
}

impl KeySets {
    /// Unwraps everything.
    pub(crate) fn unwrap(
        kept: &Kept,
        nonce: &[u8; 32],
        node_key: &NodeKey,
        node: &NodeId,
    ) -> Result<Self, Problem> {
        if !(1..=MAX_KEY_SETS).contains(&kept.sets.len()) {
            return Err(malformed("one or two K sets come with V"));
        }
        if kept.policies.len() > MAX_PCR_POLICIES {
            return Err(malformed("too many PCR policies"));
        }
        let unwrap = |share: &WrappedShare| {
            let wrapped = Wrapped {
                encapsulated: share.encapsulated.0.clone(),
                ciphertext: share.ciphertext.0.clone(),
            };
            let opened = node_key.unwrap_share::<V>(nonce, node.as_str(), &wrapped);
            opened.map(|opened| (share.id, opened))
        };
        let set = |set: &KeySet| Set::unwrap(set, unwrap);
        Ok(Self {
            sets: kept.sets.iter().map(set).collect::<Result<_, _>>()?,
            policies: kept.policies.clone(),
        })
    }

    /// Reads what the TPM keeps and joins what fits, newest K set first. Why a slot gives nothing is said at the console.
    pub(crate) async fn reunite(
        &self,
        settings: &Settings,
        tpm: &TpmThread,
        node: &NodeId,
        console: &Console,
    ) -> Result<Vec<Reunited>, GaveUp> {
        let mut policies = self.policies.clone();
        policies.extend(image_policies(settings, console));
        let mut reunited = Vec::new();
        for slot in KeptSlot::ALL {
            match self.read(slot, tpm, &policies).await? {
                Ok(share) => reunited.extend(self.join(slot, &share, node, console)),
                Err(KeptError::Absent) => {}
                Err(error) => console.say(&format!("kept share {slot:?}: {error}")),
            }
        }
        reunited.sort_by_key(|reunited| reunited.set);
        Ok(reunited)
    }

    /// One slot, with the authorities of each K set.
    async fn read(
        &self,
        slot: KeptSlot,
        tpm: &TpmThread,
        policies: &[SignedPcrPolicy],
    ) -> Result<Result<KeptShare, KeptError>, GaveUp> {
        let mut last = Err(KeptError::Absent);
        let mut tried: Vec<&[Authority]> = Vec::new();
        for set in &self.sets {
            if tried.contains(&set.authorities.as_slice()) {
                continue;
            }
            tried.push(&set.authorities);
            let (authorities, policies) = (set.authorities.clone(), policies.to_vec());
            last = tpm
                .run(move |tpm| tpm.read_kept(slot, &authorities, &policies))
                .await?;
            if last.is_ok() {
                break;
            }
        }
        Ok(last)
    }

    fn join(
        &self,
        slot: KeptSlot,
        kept: &KeptShare,
        node: &NodeId,
        console: &Console,
    ) -> Option<Reunited> {
        let u = Share::<U>::from_bytes(*kept.u);
        let id = ShareId::from(kept.id);
        for (index, set) in self.sets.iter().enumerate() {
            let Some((_, v)) = set.shares.iter().find(|(of, _)| *of == id) else {
                continue;
            };
            let key = BootstrapKey::combine(&u, v);
            match open_envelope(&key, node.as_str(), &set.envelope) {
                Ok(envelope) => {
                    let boots = set.boots;
                    return Some(Reunited {
                        set: index,
                        id,
                        slot,
                        key,
                        envelope,
                        boots,
                    });
                }
                Err(error) => console.say(&format!("kept share {slot:?}: {error}")),
            }
        }
        None
    }

    /// The U of the next boot for this K, which is of the set `set`; `used` is the slot it came from, if any. It goes
    /// where nothing is that this boot has used, and no older K if that can be.
    pub(crate) fn next(
        &self,
        key: &BootstrapKey,
        set: usize,
        authorities: &[Authority],
        used: Option<(KeptSlot, ShareId)>,
        reunited: &[Reunited],
    ) -> Option<Next> {
        let (id, v) = &self.sets.get(set)?.next;
        if let Some((slot, _)) = used.filter(|(_, used)| used == id) {
            return Some(Next {
                id: *id,
                slot,
                write: None,
            });
        }
        let policy = access_policy(authorities).ok()?;
        let used = used.map(|(slot, _)| slot);
        let slots = [KeptSlot::A, KeptSlot::B];
        let free = |slot: &&KeptSlot| reunited.iter().all(|other| other.slot != **slot);
        let slot = *slots
            .iter()
            .find(free)
            .or_else(|| slots.iter().find(|slot| Some(**slot) != used))?;
        Some(Next {
            id: *id,
            slot,
            write: Some((policy, key.u_for(v))),
        })
    }
}

impl Set {
    fn unwrap(
        set: &KeySet,
        unwrap: impl Fn(&WrappedShare) -> Result<(ShareId, Share<V>), WrapError>,
    ) -> Result<Self, Problem> {
        if !(1..=MAX_KEPT_SHARES).contains(&set.shares.len()) {
            return Err(malformed("one to four shares belong to a K set"));
        }
        let refused = |error: WrapError| {
            Problem::new(ProblemKind::Untrusted, "share-refused", error.to_string())
        };
        let shares: Result<_, _> = set.shares.iter().map(&unwrap).collect();
        Ok(Self {
            envelope: set.envelope.0.clone(),
            authorities: set.authorities.iter().map(from_wire).collect(),
            shares: shares.map_err(refused)?,
            next: unwrap(&set.next).map_err(refused)?,
            boots: set.boots,
        })
    }
}

impl Next {
    /// Writes it, if it is not there yet.
    pub(crate) async fn keep(self, tpm: &TpmThread) -> Result<KeptNow, GaveUp> {
        let (id, slot) = (self.id, self.slot);
        if let Some((policy, u)) = self.write {
            tpm.run(move |tpm| tpm.write_kept(slot, &policy, id.as_bytes(), u.expose()))
                .await??;
        }
        Ok(KeptNow { id, slot })
    }
}

impl KeptNow {
    /// Removes every other U, so that a V that was copied before finds none.
    pub(crate) async fn forget_others(&self, tpm: &TpmThread) -> Result<(), GaveUp> {
        let kept = self.slot;
        let forget = move |tpm: &mut Tpm| {
            let mut others = KeptSlot::ALL.into_iter().filter(|slot| *slot != kept);
            others.try_for_each(|slot| tpm.forget_kept(slot))
        };
        Ok(tpm.run(forget).await??)
    }
}

/// Signatures that the unified kernel image brought with it.
fn image_policies(settings: &Settings, console: &Console) -> Vec<SignedPcrPolicy> {
    let read = settings.pcr_signatures.iter().find_map(|path| {
        let size = std::fs::metadata(path).ok()?.len();
        (size <= MAX_PCR_SIGNATURES as u64).then(|| std::fs::read(path).ok())?
    });
    let Some(document) = read else {
        return Vec::new();
    };
    from_pcr_signatures(&document).unwrap_or_else(|error| {
        console.say(&error.to_string());
        Vec::new()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ShareId {
        ShareId::from([byte; 16])
    }

    fn sets() -> KeySets {
        let set = |next| Set {
            envelope: Vec::new(),
            authorities: Vec::new(),
            shares: Vec::new(),
            next: (id(next), Share::generate().unwrap()),
            boots: true,
        };
        KeySets {
            sets: vec![set(1), set(2)],
            policies: Vec::new(),
        }
    }

    fn reunited(set: usize, slot: KeptSlot) -> Reunited {
        Reunited {
            set,
            id: id(9),
            slot,
            key: BootstrapKey::from_bytes([1; 32]),
            envelope: Envelope::default(),
            boots: true,
        }
    }

    #[test]
    fn the_slot_in_use_is_never_written() {
        let (sets, key) = (sets(), BootstrapKey::from_bytes([1; 32]));
        let authority = [bootkeep_authorize::p256_authority(&[1; 32], &[2; 32], b"x")];
        let slot = |used: Option<KeptSlot>, found: &[KeptSlot]| {
            let found: Vec<_> = found.iter().map(|slot| reunited(0, *slot)).collect();
            let used = used.map(|slot| (slot, id(9)));
            let next = sets.next(&key, 0, &authority, used, &found).unwrap();
            next.write.map(|_| next.slot)
        };
        use KeptSlot::{Staged, A, B};
        for (used, found, written) in [
            (None, &[][..], A),
            (Some(A), &[A], B),
            (Some(B), &[B], A),
            (Some(A), &[A, B], B),
            (Some(B), &[A, B], A),
            (Some(Staged), &[Staged, A], B),
            (Some(Staged), &[Staged, B], A),
            (Some(Staged), &[Staged, A, B], A),
            (None, &[A], B),
        ] {
            assert_eq!(slot(used, found), Some(written), "{used:?} {found:?}");
        }
    }

    #[test]
    fn what_is_kept_already_is_only_acknowledged() {
        let (sets, key) = (sets(), BootstrapKey::from_bytes([1; 32]));
        let authority = [bootkeep_authorize::p256_authority(&[1; 32], &[2; 32], b"x")];
        let used = Some((KeptSlot::B, id(2)));
        let next = sets.next(&key, 1, &authority, used, &[]).unwrap();
        assert!(next.write.is_none());
        assert_eq!(next.id, id(2));
        assert!(sets.next(&key, 0, &[], None, &[]).is_none());
    }
}
