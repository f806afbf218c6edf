//! A node that keeps its U, made of code: two slots in turn and one for a staged K, as the TPM's NV has them.

use std::time::Duration;

use bootkeep_link::ClientTls;
use bootkeep_protocol::{
    kept::{Authority, Kept, SignedPcrPolicy, WrappedShare},
    link::{Event, ShareCall},
    verifier::{Enrolment, Unattended},
    Nonce, Phase, ShareId,
};
use bootkeep_tpkd::{BootstrapKey, Share, Wrapped, U, V};
use sha2::{Digest, Sha256};

use super::{enrolment, machine::Machine, node::Node, World};

/// What the tenant made: K, split once.
pub struct Owner {
    pub key: BootstrapKey,
    pub id: ShareId,
    pub u: Share<U>,
}

/// What the latch extends PCR 15 with in a boot with this K.
pub fn latch(key: &BootstrapKey) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"latch")
        .chain_update(key.expose())
        .finalize()
        .into()
}

/// An envelope that shows whether a K is the right one.
pub fn envelope(key: &[u8; 32]) -> Vec<u8> {
    [b"envelope ".as_slice(), &Sha256::digest(key)].concat()
}

pub fn pcr_policy(byte: u8) -> SignedPcrPolicy {
    SignedPcrPolicy {
        pcrs: vec![4, 7, 9, 15],
        policy: vec![byte; 32].into(),
        signature: vec![byte; 72].into(),
    }
}

/// An enrolment of a machine that keeps its U.
pub fn unattended(machine: &Machine, staged: bool) -> (Enrolment, Owner) {
    let key = BootstrapKey::generate().unwrap();
    let (u, v) = key.split().unwrap();
    let id = ShareId::fresh().unwrap();
    let mut latched = machine.clone();
    latched.pcrs[15] = [0; 32];
    latched.extend(15, &latch(&key));
    let enrolment = Enrolment {
        share_v: v.expose().as_slice().into(),
        envelope: envelope(key.expose()).into(),
        latched_pcr15: latched.pcrs[15].as_slice().into(),
        unattended: Some(Unattended {
            share_id: id,
            authorities: vec![Authority {
                public: vec![1; 90].into(),
                policy_ref: b"base".as_slice().into(),
            }],
            pcr_policies: vec![pcr_policy(1)],
            staged,
        }),
        ..enrolment(machine)
    };
    (enrolment, Owner { key, id, u })
}

#[derive(Clone)]
struct Slot {
    id: ShareId,
    u: [u8; 32],
}

/// How a boot came to its K.
#[derive(Clone)]
pub struct Opened {
    pub key: BootstrapKey,
    /// The split that gave it.
    pub id: ShareId,
    /// Place of its K set in the message.
    pub set: usize,
}

/// The slots; they outlive boots and links.
#[derive(Clone, Default)]
pub struct Keeper {
    slots: [Option<Slot>; 3],
}

const STAGED: usize = 2;

impl Keeper {
    /// The K of the newest set that one of the slots gives.
    pub fn open(&self, kept: &Kept, v: impl Fn(&WrappedShare) -> Share<V>) -> Option<Opened> {
        let bootable = kept.sets.iter().enumerate().filter(|(_, set)| set.boots);
        for (place, set) in bootable {
            for share in set.shares.iter().chain([&set.next]) {
                let mut slots = self.slots.iter().flatten();
                let Some(slot) = slots.find(|slot| slot.id == share.id) else {
                    continue;
                };
                let key = BootstrapKey::combine(&Share::<U>::from_bytes(slot.u), &v(share));
                assert_eq!(set.envelope.0, envelope(key.expose()), "another K");
                return Some(Opened {
                    key,
                    id: share.id,
                    set: place,
                });
            }
        }
        None
    }

    /// Writes the next U into the slot that is not in use.
    pub fn renew(&mut self, opened: &Opened, kept: &Kept, v: impl Fn(&WrappedShare) -> Share<V>) {
        let next = &kept.sets[opened.set].next;
        if self.holds(&next.id) {
            return;
        }
        let used = self.slots[0]
            .as_ref()
            .is_some_and(|slot| slot.id == opened.id);
        self.slots[usize::from(used)] = Some(Slot {
            id: next.id,
            u: *opened.key.u_for(&v(next)).expose(),
        });
    }

    /// The tenant's U of a staged K.
    pub fn stage(&mut self, owner: &Owner) {
        self.slots[STAGED] = Some(Slot {
            id: owner.id,
            u: *owner.u.expose(),
        });
    }

    pub fn holds(&self, id: &ShareId) -> bool {
        self.slots.iter().flatten().any(|slot| slot.id == *id)
    }
}

impl Node {
    /// A share that came in a call, unwrapped.
    pub fn unwrap_kept(&self, nonce: &Nonce, share: &WrappedShare) -> Share<V> {
        let wrapped = Wrapped {
            encapsulated: share.encapsulated.0.clone(),
            ciphertext: share.ciphertext.0.clone(),
        };
        let id = self.machine.lock().unwrap().node.clone();
        let opened = self
            .nk
            .unwrap_share(nonce.as_bytes(), id.as_str(), &wrapped);
        opened.unwrap()
    }
}

/// One boot as far as its K.
pub struct Boot {
    pub node: Node,
    pub call: ShareCall,
    pub opened: Option<Opened>,
}

impl Boot {
    /// Boots the machine and takes V.
    pub async fn begin(world: &World, machine: &mut Machine, keeper: &Keeper) -> Self {
        machine.boot(b"quiet");
        Self::again(world, machine, keeper).await
    }

    /// Opens a link in the boot the machine is in, and takes V.
    pub async fn again(world: &World, machine: &Machine, keeper: &Keeper) -> Self {
        Self::at(&world.node_tls, &world.url, machine, keeper).await
    }

    /// The same at the verifier with this URL.
    pub async fn at(tls: &ClientTls, url: &str, machine: &Machine, keeper: &Keeper) -> Self {
        let mut node = Node::connect(tls, url, machine).await.unwrap();
        let call = node.share().await;
        let kept = call.kept.as_ref();
        let v = |share: &WrappedShare| node.unwrap_kept(&call.nonce, share);
        let opened = kept.and_then(|kept| keeper.open(kept, v));
        Self { node, call, opened }
    }

    pub fn kept(&self) -> &Kept {
        self.call.kept.as_ref().unwrap()
    }

    /// The tenant's U comes, too.
    pub fn with_tenant(mut self, owner: &Owner) -> Self {
        let key = BootstrapKey::combine(&owner.u, &self.node.unwrap(&self.call));
        assert_eq!(
            self.call.envelope.as_ref().unwrap().0,
            envelope(key.expose())
        );
        self.opened = Some(Opened {
            key,
            id: owner.id,
            set: 0,
        });
        self
    }

    /// The next U is in the TPM.
    pub fn renew(&self, keeper: &mut Keeper) -> ShareId {
        let v = |share: &WrappedShare| self.node.unwrap_kept(&self.call.nonce, share);
        let opened = self.opened.as_ref().unwrap();
        keeper.renew(opened, self.kept(), v);
        self.kept().sets[opened.set].next.id
    }

    /// The next U is in the TPM, and the node says so.
    pub async fn acknowledge(&self, keeper: &mut Keeper) -> ShareId {
        let id = self.renew(keeper);
        self.node.event(Event::ShareKept { id }).await;
        id
    }

    /// The system runs; gives its machine.
    pub async fn run(self, machine: &Machine) -> Machine {
        let key = self.opened.unwrap().key;
        self.node.close().await;
        running_with(machine, &key)
    }
}

/// The machine after a boot with this K.
pub fn running_with(machine: &Machine, key: &BootstrapKey) -> Machine {
    let mut machine = machine.clone();
    machine.extend(15, &latch(key));
    machine.phase = Phase::Runtime;
    machine
}

impl World {
    /// A machine that is enrolled to keep its U, and has booted once with the tenant's.
    pub async fn keeping(&self, name: &str) -> (Machine, Enrolment, Owner, Keeper) {
        let mut machine = Machine::booted(name);
        self.register(&machine, 1);
        let (enrolment, owner) = unattended(&machine, false);
        self.enrol(&machine.node, &enrolment).await.unwrap();
        let mut keeper = Keeper::default();
        let boot = Boot::begin(self, &mut machine, &keeper).await;
        let boot = boot.with_tenant(&owner);
        let id = boot.acknowledge(&mut keeper).await;
        self.keeps(&machine, &[id]).await;
        boot.node.close().await;
        (machine, enrolment, owner, keeper)
    }

    /// Waits until the verifier holds the V of these splits and no others, newest first.
    pub async fn keeps(&self, machine: &Machine, splits: &[ShareId]) {
        for _ in 0..600 {
            if self.splits(machine).await == splits {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {splits:?}: {:?}", self.splits(machine).await);
    }

    pub async fn splits(&self, machine: &Machine) -> Vec<ShareId> {
        let status = self.status(&machine.node).await;
        status.unattended.map_or_else(Vec::new, |kept| kept.shares)
    }
}
