//! Whatever is cut, in whatever order: the next boot opens, and after an acknowledgement the old V is gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use bootkeep_pki::state_key::StateKey;
use bootkeep_policy::{BootPolicy, RuntimePolicy};
use bootkeep_protocol::{kept::MAX_KEPT_SHARES, verifier::OnFailure, Bytes, NodeId, ShareId};
use bootkeep_store::Store;
use bootkeep_tpkd::{BootstrapKey, Share, U};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{SecretSet, Taken};
use crate::{
    fleet::{Enrolled, NewEnrolment, Secrets, Terms, Trust},
    keys::{Change, KeyTerms, Keys},
    policies::Shelf,
    store::{Database, Sealer, MIGRATOR},
    VerifierError,
};

/// Where a boot ends.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Cut {
    /// V' is durable; V never leaves.
    BeforeSend,
    /// V has come; nothing was written on the node.
    AfterSend,
    /// The next U is in the TPM.
    AfterNv,
    /// The volume has the key of this K; the acknowledgement is lost.
    AckLost,
    /// All is done.
    Nowhere,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Boot(Cut),
    Enrol,
    Stage,
    /// The staged U comes to the running node.
    Deliver,
    /// The verifier ends and starts again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let cut = prop_oneof![
        Just(Cut::BeforeSend),
        Just(Cut::AfterSend),
        Just(Cut::AfterNv),
        Just(Cut::AckLost),
        Just(Cut::Nowhere),
    ];
    prop_oneof![
        8 => cut.prop_map(Step::Boot),
        1 => Just(Step::Enrol),
        2 => Just(Step::Stage),
        2 => Just(Step::Deliver),
        1 => Just(Step::Restart),
    ]
}

/// What opens the volume.
#[derive(Clone, Debug, PartialEq)]
enum Header {
    /// In every envelope.
    Image,
    /// Derived from this K.
    Own([u8; 32]),
}

struct Split {
    id: ShareId,
    u: Share<U>,
}

struct World {
    folder: tempfile::TempDir,
    database: Database,
    node: NodeId,
    digest: String,
    /// The TPM's: two in turn, one for a staged K.
    slots: [Option<Split>; 3],
    header: Header,
    /// What the tenant still has: the U of an enrolment that was not acknowledged.
    journal: Option<(Split, bool)>,
    running: bool,
}

async fn open(folder: &Path) -> Database {
    let url = format!("sqlite://{}", folder.join("verifier.db").display());
    let store = Store::connect(&url, &MIGRATOR).await.unwrap();
    Database::new(store, Sealer::new(StateKey::from_bytes([1; 32])))
}

fn envelope(key: &[u8; 32]) -> Vec<u8> {
    Sha256::digest(key).to_vec()
}

fn enrolled(digest: &str) -> Enrolled {
    Enrolled {
        terms: Terms {
            label: "node".into(),
            generation: 1,
            ak_digest: Bytes(vec![1; 32]),
            latched_pcr15: Bytes(vec![1; 32]),
            interval_seconds: 1,
            addresses: Vec::new(),
            serials: Vec::new(),
            on_failure: OnFailure::default(),
            digest: digest.to_owned(),
        },
        latched_pcr15: [1; 32],
        boot: Shelf::<BootPolicy>::default().named("base"),
        runtime: Shelf::<RuntimePolicy>::default().named("web"),
        boot_digest: String::new(),
        runtime_digest: String::new(),
    }
}

/// An enrolment with a fresh K, and the tenant's half of it.
fn enrolment(staged: bool) -> (NewEnrolment, Split) {
    let key = BootstrapKey::generate().unwrap();
    let (u, share) = key.split().unwrap();
    let id = ShareId::fresh().unwrap();
    let new = NewEnrolment {
        enrolled: enrolled(&id.to_string()),
        secrets: Secrets {
            share,
            envelope: envelope(key.expose()),
        },
        change: if staged {
            Change::Staged(id)
        } else {
            Change::Unattended(id)
        },
        keys: Some(KeyTerms {
            share_id: id,
            latched_pcr15: Bytes(envelope(key.expose())),
            pcr_policies: Vec::new(),
            authorities: Vec::new(),
        }),
        boot_document: String::new(),
        runtime_document: String::new(),
    };
    (new, Split { id, u })
}

/// The K of this split, when the set has its V.
fn combine(split: &Split, set: &SecretSet) -> Option<[u8; 32]> {
    let (_, v) = set.shares.iter().find(|(id, _)| *id == Some(split.id))?;
    let key = *BootstrapKey::combine(&split.u, v).expose();
    assert_eq!(set.envelope, envelope(&key), "another K");
    Some(key)
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            database: open(folder.path()).await,
            folder,
            node: NodeId::of_ek_public(b"node"),
            digest: String::new(),
            slots: [None, None, None],
            header: Header::Image,
            journal: None,
            running: false,
        };
        world.enrol(false).await;
        world
    }

    async fn enrol(&mut self, staged: bool) {
        let (new, split) = enrolment(staged);
        match self
            .database
            .enrol(&self.node, &new, &Trust::default())
            .await
        {
            Ok(_) => {
                self.digest = new.enrolled.terms.digest;
                self.journal = Some((split, staged));
                self.running &= staged;
            }
            Err(VerifierError::Refused(problem)) => {
                assert_eq!(problem.code, "boot-first", "{staged}")
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn take(&self) -> Vec<SecretSet> {
        let enrolled = enrolled(&self.digest);
        match self
            .database
            .take_secrets(&self.node, &enrolled)
            .await
            .unwrap()
        {
            Taken::Sets(sets) => sets,
            _ => panic!("nothing for an honest node"),
        }
    }

    /// The newest K the node may boot with, the split that gives it and whether that is in the TPM.
    fn open_set(&self, sets: &[SecretSet]) -> Option<(usize, [u8; 32], ShareId, bool)> {
        let bootable = |set: &SecretSet| set.known.as_ref().unwrap().boots;
        for (place, set) in sets.iter().enumerate().filter(|(_, set)| bootable(set)) {
            for split in self.slots.iter().flatten() {
                if let Some(key) = combine(split, set) {
                    return Some((place, key, split.id, true));
                }
            }
            // The tenant helps at a boot of an enrolment that is not staged.
            if let Some((split, false)) = &self.journal {
                if let Some(key) = combine(split, set) {
                    return Some((place, key, split.id, false));
                }
            }
        }
        None
    }

    fn volume_opens(&self, sets: &[SecretSet], key: &[u8; 32]) -> bool {
        match &self.header {
            Header::Image => true,
            Header::Own(own) if own == key => true,
            Header::Own(own) => sets.iter().any(|set| {
                let mut slots = self.slots.iter().flatten();
                slots.any(|split| combine(split, set).as_ref() == Some(own))
            }),
        }
    }

    async fn boot(&mut self, cut: Cut) {
        self.running = false;
        let sets = self.take().await;
        assert!(sets
            .iter()
            .all(|set| (1..=MAX_KEPT_SHARES).contains(&set.shares.len())));
        if cut == Cut::BeforeSend {
            return;
        }
        let (place, key, read, in_tpm) = self.open_set(&sets).expect("locked out: no K");
        assert!(
            self.volume_opens(&sets, &key),
            "locked out: no key of the volume"
        );
        if cut == Cut::AfterSend {
            return;
        }
        // A boot that gives the volume a new key acknowledges the split it read, if the TPM has it.
        let rekeys = self.header != Header::Own(key);
        let kept = if rekeys && in_tpm {
            read
        } else {
            self.write_next(&sets, place, &key, read)
        };
        if cut == Cut::AfterNv {
            return;
        }
        self.header = Header::Own(key);
        self.running = true;
        if cut == Cut::Nowhere {
            self.acknowledge(kept, &key).await;
        }
    }

    /// Writes the next U into the slot that neither gave this K nor gives the K whose key the volume still has.
    fn write_next(
        &mut self,
        sets: &[SecretSet],
        place: usize,
        key: &[u8; 32],
        read: ShareId,
    ) -> ShareId {
        let (id, v) = sets[place].shares.last().unwrap();
        let id = id.unwrap();
        if self.slots.iter().flatten().any(|split| split.id == id) {
            return id;
        }
        let gives = |split: &Split| sets.iter().find_map(|set| combine(split, set));
        let in_use = |split: &Split| {
            split.id == read || gives(split).is_some_and(|key| self.header == Header::Own(key))
        };
        let first_in_use = self.slots[0].as_ref().is_some_and(in_use);
        let u = BootstrapKey::from_bytes(*key).u_for(v);
        self.slots[usize::from(first_in_use)] = Some(Split { id, u });
        id
    }

    async fn acknowledge(&mut self, id: ShareId, key: &[u8; 32]) {
        let done = self.database.acknowledge(&self.node, id, None, 7).await;
        let Keys(sets) = done.unwrap().expect("a split it has").keys;
        let set = sets.last().unwrap();
        assert_eq!(
            set.latched.as_slice(),
            envelope(key),
            "an older K is there still"
        );
        assert_eq!(set.shares, [id], "an older V is there still");
        if self.journal.as_ref().is_some_and(|_| sets.len() == 1) {
            self.journal = None;
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Boot(cut) => self.boot(cut).await,
            Step::Enrol => self.enrol(false).await,
            Step::Stage if self.running => self.enrol(true).await,
            Step::Stage => {}
            Step::Deliver => {
                if let (Some((split, true)), true) = (&self.journal, self.running) {
                    let u = Share::from_bytes(*split.u.expose());
                    self.slots[2] = Some(Split { id: split.id, u });
                }
            }
            Step::Restart => {
                self.database.close().await;
                self.database = open(self.folder.path()).await;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_next_boot_opens(steps in proptest::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await;
            }
            world.boot(Cut::Nowhere).await;
            world.boot(Cut::Nowhere).await;
        });
    }
}

/// What the database itself refuses, whoever asks.
#[tokio::test]
async fn an_acknowledgement_is_of_a_k_the_node_boots_with() {
    let mut world = World::new().await;
    world.boot(Cut::Nowhere).await;
    let old = world.take().await;
    let shares = |set: &SecretSet| set.known.as_ref().unwrap().shares.clone();
    let (old_id, latched) = {
        let known = old[0].known.as_ref().unwrap();
        (known.shares[0], known.latched)
    };
    let held = shares(&world.take().await[0]);
    let acknowledge = async |world: &World, id, latched| {
        let done = world.database.acknowledge(&world.node, id, latched, 9);
        done.await.unwrap().is_some()
    };
    // This boot has shown the latch of another K.
    assert!(!acknowledge(&world, old_id, Some([7; 32])).await);
    assert_eq!(shares(&world.take().await[0])[..held.len()], held);
    // A K that only serves to find the volume's key.
    world.enrol(false).await;
    assert!(!acknowledge(&world, old_id, None).await);
    assert_eq!(world.take().await.len(), 2);
    assert!(!acknowledge(&world, old_id, Some(latched)).await);
}
