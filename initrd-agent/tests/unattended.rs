//! Boots with nobody at the tenant's desk: U out of the TPM, V anew each time, the volume's own key, and every cut.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/service/tests/common/mod.rs"]
mod common;
mod machine;
#[path = "../../runtime-agent/tests/verifier/mod.rs"]
mod verifier;

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use bootkeep_authorize::{to_wire, AuthorityKey};
use bootkeep_initrd_agent::GaveUp;
use bootkeep_protocol::{
    kept::{Kept, KeySet, WrappedShare},
    link::{Call, Claim, Event, NodeFrame, Open, Outcome, QuoteCall, Reply, ShareCall, SharePart},
    Nonce, ShareId,
};
use bootkeep_tpkd::{
    seal_envelope, wrap_share, BootstrapKey, Envelope, Item, Share, SharePart as Part, U, V,
};
use bootkeep_tpm::KeptSlot;
use machine::{Machine, LUKS_KEY};
use verifier::Link;

const VOLUME: &str = "cryptroot";
const NONCE: [u8; 32] = [3; 32];

fn authority() -> AuthorityKey {
    AuthorityKey::from_pem(include_str!("authorize.key"), b"web").unwrap()
}

/// A K with the V shares the verifier holds for it.
struct Set {
    key: BootstrapKey,
    shares: Vec<(ShareId, Share<V>)>,
    next: (ShareId, Share<V>),
    boots: bool,
    luks_key: Vec<u8>,
}

fn fresh() -> (ShareId, Share<V>) {
    (ShareId::fresh().unwrap(), Share::generate().unwrap())
}

impl Set {
    /// A new K, its first split and the V that the first boot renews to.
    fn new() -> Self {
        Self {
            key: BootstrapKey::generate().unwrap(),
            shares: vec![fresh()],
            next: fresh(),
            boots: true,
            luks_key: LUKS_KEY.to_vec(),
        }
    }

    /// What the verifier does before it sends V: a fresh one beside those it has.
    fn begin_boot(&mut self) {
        self.shares.push(std::mem::replace(&mut self.next, fresh()));
    }

    /// What it does on an acknowledgement.
    fn acknowledged(&mut self, id: ShareId) {
        assert_eq!(id, self.next.0);
        self.shares.clear();
    }

    fn first_u(&self) -> Share<U> {
        self.key.u_for(&self.shares[0].1)
    }

    fn own_key(&self) -> Vec<u8> {
        self.key.luks_key(VOLUME).to_vec()
    }

    fn recovery_key(&self) -> Vec<u8> {
        self.key.recovery_key(VOLUME).as_bytes().to_vec()
    }

    fn envelope(&self, node: &str) -> Vec<u8> {
        let items = vec![
            Item::LuksKey {
                volume: VOLUME.into(),
                key: self.luks_key.clone(),
            },
            Item::OwnKey {
                volume: VOLUME.into(),
                recovery: true,
            },
            Item::Unattended {
                authorities: vec![authority().authority().clone()],
            },
        ];
        seal_envelope(&self.key, node, &Envelope { items }).unwrap()
    }
}

/// The holders' side of one boot.
struct Holders<'a> {
    link: Link,
    open: Open,
    sets: &'a [&'a Set],
}

impl Holders<'_> {
    fn wrap<P: Part>(&self, share: &Share<P>) -> (Vec<u8>, Vec<u8>) {
        let nk = self.open.nk_public.as_slice();
        let wrapped = wrap_share(nk, &NONCE, self.open.node_id.as_str(), share).unwrap();
        (wrapped.encapsulated, wrapped.ciphertext)
    }

    fn wrapped(&self, (id, share): &(ShareId, Share<V>)) -> WrappedShare {
        let (encapsulated, ciphertext) = self.wrap(share);
        WrappedShare {
            id: *id,
            encapsulated: encapsulated.into(),
            ciphertext: ciphertext.into(),
        }
    }

    /// V for the PCRs of a machine that has just started, all zero.
    fn v(&self) -> ShareCall {
        let node = self.open.node_id.as_str();
        let zeros: BTreeMap<u8, [u8; 32]> = (0..16).map(|pcr| (pcr, [0; 32])).collect();
        let key_set = |set: &&Set| KeySet {
            envelope: set.envelope(node).into(),
            authorities: vec![to_wire(authority().authority())],
            shares: set.shares.iter().map(|share| self.wrapped(share)).collect(),
            next: self.wrapped(&set.next),
            boots: set.boots,
        };
        let (encapsulated, ciphertext) = self.wrap(&self.sets[0].shares[0].1);
        ShareCall {
            part: SharePart::V,
            nonce: Nonce::from(NONCE),
            encapsulated: encapsulated.into(),
            ciphertext: ciphertext.into(),
            envelope: Some(self.sets[0].envelope(node).into()),
            kept: Some(Box::new(Kept {
                sets: self.sets.iter().map(key_set).collect(),
                policies: vec![authority().sign(&[4, 7], &zeros).unwrap()],
            })),
        }
    }

    fn u(&self, share: &Share<U>) -> ShareCall {
        let (encapsulated, ciphertext) = self.wrap(share);
        ShareCall {
            part: SharePart::U,
            nonce: Nonce::from(NONCE),
            encapsulated: encapsulated.into(),
            ciphertext: ciphertext.into(),
            envelope: None,
            kept: None,
        }
    }

    async fn quotes(&mut self) {
        for part in [SharePart::U, SharePart::V] {
            let question = QuoteCall {
                nonce: Nonce::from(NONCE),
                asker: part.holder(),
                pcrs: vec![15],
                event_log: false,
                ima_offset: None,
            };
            let answer = self.link.ask(Call::Quote(question)).await;
            assert!(matches!(answer, Outcome::Ok(Reply::Quote(_))), "{answer:?}");
        }
    }

    async fn give(&mut self, share: ShareCall) -> bool {
        match self.link.ask(Call::Share(share)).await {
            Outcome::Ok(Reply::Share { confirmation }) => confirmation.is_some(),
            other => panic!("{other:?}"),
        }
    }
}

/// What one boot came to.
#[derive(Debug)]
struct Boot {
    unlocked: Result<(), GaveUp>,
    /// What systemd-cryptsetup was given.
    given: Vec<u8>,
    kept: Option<ShareId>,
    claims: Vec<Claim>,
}

/// One boot; with the tenant's U, if it is at its desk.
async fn boot(machine: &mut Machine, sets: &[&Set], u: Option<&Share<U>>) -> Boot {
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    let holders = async {
        let mut link = machine.verifier.link().await;
        let open = link.accept_any().await;
        let mut holders = Holders { link, open, sets };
        holders.quotes().await;
        let done = holders.give(holders.v()).await;
        if let (Some(u), false) = (u, done) {
            assert!(holders.give(holders.u(u)).await);
        }
        let (mut kept, mut claims) = (None, Vec::new());
        while let Some(frame) = holders.link.next().await {
            match frame {
                NodeFrame::Event {
                    event: Event::ShareKept { id },
                } => kept = Some(id),
                NodeFrame::Event {
                    event: Event::Claim(claim),
                } => claims.push(claim),
                _ => {}
            }
        }
        (kept, claims)
    };
    let (unlocked, (kept, claims)) = tokio::join!(agent.unlock(), holders);
    let given = match &unlocked {
        Ok(()) => cryptsetup.join().unwrap(),
        Err(_) => Vec::new(),
    };
    Boot {
        unlocked,
        given,
        kept,
        claims,
    }
}

/// A machine that was provisioned once with the tenant at its desk.
async fn provisioned() -> (Machine, Set) {
    let mut machine = Machine::booting(60).await;
    let mut set = Set::new();
    let first = boot(&mut machine, &[&set], Some(&set.first_u())).await;
    first.unlocked.unwrap();
    assert_eq!(first.given, LUKS_KEY);
    assert_eq!(first.claims, []);
    set.acknowledged(first.kept.unwrap());
    set.begin_boot();
    (machine, set)
}

#[tokio::test]
async fn after_the_first_boot_nobody_is_needed_and_both_halves_are_new_each_time() {
    let (mut machine, mut set) = provisioned().await;
    // The image's key, which every clone has, is gone.
    assert!(!machine.opens(LUKS_KEY));
    assert!(machine.opens(&set.own_key()));
    assert!(machine.opens(&set.recovery_key()));
    for _ in 0..3 {
        machine.reboot();
        let next = boot(&mut machine, &[&set], None).await;
        next.unlocked.unwrap();
        assert_eq!(next.given, set.own_key());
        assert_eq!(next.claims, []);
        set.acknowledged(next.kept.unwrap());
        set.begin_boot();
        assert!(!machine.has_on_disk(&set.own_key()));
        // Nothing older is left that a copied V would fit.
        let kept = KeptSlot::ALL.map(|slot| machine.keeps(slot));
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 1);
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_does_not_lock_the_machine() {
    let (mut machine, mut set) = provisioned().await;
    for _ in 0..3 {
        machine.reboot();
        let next = boot(&mut machine, &[&set], None).await;
        next.unlocked.unwrap();
        // The verifier never hears of it, and sends all it has, with one more.
        set.begin_boot();
    }
    // It has four now: the newest serves again, and is only acknowledged.
    set.next = set.shares.last().unwrap().clone();
    machine.reboot();
    let again = boot(&mut machine, &[&set], None).await;
    again.unlocked.unwrap();
    assert_eq!(again.kept, Some(set.next.0));
}

#[tokio::test]
async fn an_old_v_is_worth_nothing() {
    let mut machine = Machine::booting(3).await;
    let mut set = Set::new();
    let copied = Set {
        key: set.key.clone(),
        shares: set.shares.clone(),
        next: fresh(),
        boots: true,
        luks_key: LUKS_KEY.to_vec(),
    };
    let first = boot(&mut machine, &[&set], Some(&set.first_u())).await;
    set.acknowledged(first.kept.unwrap());
    machine.reboot();
    let stale = boot(&mut machine, &[&copied], None).await;
    assert!(
        matches!(stale.unlocked, Err(GaveUp::Deadline { .. })),
        "{stale:?}"
    );
    set.begin_boot();
    machine.reboot();
    boot(&mut machine, &[&set], None).await.unlocked.unwrap();
}

#[tokio::test]
async fn another_boot_than_the_signed_one_gets_nothing() {
    let mut machine = Machine::booting(3).await;
    let mut set = Set::new();
    let first = boot(&mut machine, &[&set], Some(&set.first_u())).await;
    set.acknowledged(first.kept.unwrap());
    set.begin_boot();
    machine.reboot();
    machine.tpm().pcr_extend(4, &[1; 32]).unwrap();
    let other = boot(&mut machine, &[&set], None).await;
    assert!(
        matches!(other.unlocked, Err(GaveUp::Deadline { .. })),
        "{other:?}"
    );
    assert!(!machine.handover().directory().exists());
}

#[tokio::test]
async fn a_staged_k_takes_over_and_the_volumes_key_with_it() {
    let (mut machine, old) = provisioned().await;
    let mut new = Set::new();
    let (id, _) = new.shares[0];
    machine
        .tpm()
        .stage_kept(id.as_bytes(), new.first_u().expose())
        .unwrap();
    machine.reboot();
    let rotated = boot(&mut machine, &[&new, &old], None).await;
    rotated.unlocked.unwrap();
    assert_eq!(rotated.given, old.own_key());
    assert_eq!(rotated.kept, Some(new.next.0));
    for (key, opens) in [
        (old.own_key(), false),
        (old.recovery_key(), false),
        (new.own_key(), true),
        (new.recovery_key(), true),
    ] {
        assert_eq!(machine.opens(&key), opens);
    }
    new.acknowledged(rotated.kept.unwrap());
    new.begin_boot();
    machine.reboot();
    let after = boot(&mut machine, &[&new], None).await;
    after.unlocked.unwrap();
    assert_eq!(after.given, new.own_key());
}

#[tokio::test]
async fn a_staged_k_whose_u_never_came_leaves_the_old_one_booting() {
    let (mut machine, mut old) = provisioned().await;
    let new = Set::new();
    machine.reboot();
    let next = boot(&mut machine, &[&new, &old], None).await;
    next.unlocked.unwrap();
    assert_eq!(next.given, old.own_key());
    old.acknowledged(next.kept.unwrap());
    assert!(machine.opens(&old.own_key()));
}

#[tokio::test]
async fn provisioned_anew_the_machine_still_finds_the_key_of_its_volume() {
    let (mut machine, mut old) = provisioned().await;
    old.boots = false;
    let new = Set::new();
    machine.reboot();
    let again = boot(&mut machine, &[&new, &old], Some(&new.first_u())).await;
    again.unlocked.unwrap();
    assert_eq!(again.given, old.own_key());
    assert_eq!(again.kept, Some(new.next.0));
    assert!(machine.opens(&new.own_key()) && !machine.opens(&old.own_key()));
}

/// The kernel was updated and nobody has signed it: the owner provisions again, and the volume's key is of a K whose U does
/// not open in this boot. The agent waits until the verifier has a PCR policy for it.
#[tokio::test]
async fn a_volume_of_another_k_is_waited_for() {
    let (mut machine, mut old) = provisioned().await;
    old.boots = false;
    let new = Set::new();
    machine.reboot();
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    let verifier = async {
        let mut link = machine.verifier.link().await;
        let open = link.accept_any().await;
        let mut holders = Holders {
            link,
            open,
            sets: &[&new, &old],
        };
        holders.quotes().await;
        let mut unsigned = holders.v();
        unsigned.kept.as_mut().unwrap().policies.clear();
        assert!(!holders.give(unsigned).await);
        assert!(holders.give(holders.u(&new.first_u())).await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert!(!holders.give(holders.v()).await);
        while holders.link.next().await.is_some() {}
    };
    let (unlocked, ()) = tokio::join!(agent.unlock(), verifier);
    unlocked.unwrap();
    assert_eq!(cryptsetup.join().unwrap(), old.own_key());
    assert!(machine.opens(&new.own_key()) && !machine.opens(&old.own_key()));
}

/// Another board: nothing is known of the K before, and the owner gives the recovery key in the image key's place.
#[tokio::test]
async fn the_recovery_key_brings_a_volume_to_a_new_machine() {
    let (machine, old) = provisioned().await;
    let mut other = Machine::booting(60).await;
    other.take_disk(&machine);
    let mut owner = Set::new();
    owner.luks_key = old.recovery_key();
    let moved = boot(&mut other, &[&owner], Some(&owner.first_u())).await;
    moved.unlocked.unwrap();
    assert_eq!(moved.given, old.recovery_key());
    for key in [old.own_key(), old.recovery_key()] {
        assert!(!other.opens(&key));
    }
    assert!(other.opens(&owner.own_key()) && other.opens(&owner.recovery_key()));
}

/// Power cuts while the volume's keys are exchanged: cryptsetup ends after so many runs.
#[tokio::test]
async fn an_exchange_of_keys_cut_at_any_run_is_finished_by_the_next_boot() {
    for runs in 0..9 {
        let mut machine = Machine::booting(60).await;
        let mut set = Set::new();
        let (program, count) = (machine.folder().join("cut"), machine.folder().join("runs"));
        let script = format!(
            "#!/bin/sh\nn=$(cat {count} 2>/dev/null || echo 0)\necho $((n + 1)) > {count}\n\
             [ $n -lt {runs} ] || exit 1\nexec /sbin/cryptsetup \"$@\"\n",
            count = count.display()
        );
        let text = machine.folder().join("text");
        std::fs::write(&text, script).unwrap();
        // Written by another process: what a child of ours holds open for writing cannot be run.
        let copied = std::process::Command::new("cp")
            .args([&text, &program])
            .status();
        assert!(copied.unwrap().success());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        machine.set_cryptsetup(&program);
        let cut = boot(&mut machine, &[&set], Some(&set.first_u())).await;
        cut.unlocked.unwrap();
        if cut.kept.is_some() {
            assert!(runs > 5, "an exchange of {runs} runs");
            return;
        }
        assert_eq!(cut.claims[0].code, "rekey-failed", "{runs}");
        machine.set_cryptsetup("/sbin/cryptsetup".as_ref());
        machine.reboot();
        // Without an acknowledgement the tenant's first split is still good; the TPM may have the next one already.
        let first_u = set.first_u();
        set.begin_boot();
        let next = boot(&mut machine, &[&set], Some(&first_u)).await;
        next.unlocked.unwrap();
        assert_eq!(next.claims, [], "{runs}");
        assert!(!machine.opens(LUKS_KEY), "{runs}");
        assert!(machine.opens(&set.own_key()) && machine.opens(&set.recovery_key()));
    }
    panic!("the exchange never came to its end");
}
