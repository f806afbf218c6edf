//! From the software TPM to the key in systemd-cryptsetup's hands, and every way to get nothing.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/service/tests/common/mod.rs"]
mod common;
mod machine;
#[path = "../../runtime-agent/tests/verifier/mod.rs"]
mod verifier;

use bootkeep_handover::{ForAgent, ForCloudInit};
use bootkeep_initrd_agent::GaveUp;
use bootkeep_protocol::{
    link::{Call, Event, Open, Outcome, QuoteCall, Reply, ShareCall, SharePart, Step},
    Bytes, NodeId, Nonce, Phase,
};
use bootkeep_tpkd::{
    latch_digest, latched_pcr15, seal_envelope, wrap_share, BootstrapKey, Envelope, Item, Wrapped,
};
use machine::{Machine, LUKS_KEY, PATIENCE};
use tokio::time::timeout;
use verifier::Link;

type MakeEnvelope = fn(&Owner) -> Bytes;

const VOLUME: &str = "cryptroot";

/// Tenant and verifier in one: they know K and what the node said of itself.
struct Owner {
    key: BootstrapKey,
    node: NodeId,
    nk: [u8; 32],
}

impl Owner {
    fn of(open: &Open) -> Self {
        Self {
            key: BootstrapKey::generate().unwrap(),
            node: open.node_id.clone(),
            nk: open.nk_public.as_slice().try_into().unwrap(),
        }
    }

    fn envelope(&self, node: &str, volume: &str) -> Bytes {
        let items = vec![
            Item::LuksKey {
                volume: volume.into(),
                key: LUKS_KEY.to_vec(),
            },
            Item::File {
                path: "/etc/app/token".into(),
                mode: 0o600,
                owner: "root".into(),
                group: "root".into(),
                contents: b"a token".to_vec(),
            },
        ];
        seal_envelope(&self.key, node, &Envelope { items })
            .unwrap()
            .into()
    }

    fn good_envelope(&self) -> Bytes {
        self.envelope(self.node.as_str(), VOLUME)
    }

    /// Both shares, wrapped for the quote with this nonce, V with this envelope.
    fn shares(&self, nonce: u8, envelope: Bytes) -> (ShareCall, ShareCall) {
        let (u, v) = self.key.split().unwrap();
        let node = self.node.as_str();
        let u = wrap_share(&self.nk, &[nonce; 32], node, &u).unwrap();
        let v = wrap_share(&self.nk, &[nonce; 32], node, &v).unwrap();
        (
            call(SharePart::U, nonce, u, None),
            call(SharePart::V, nonce, v, Some(envelope)),
        )
    }
}

fn call(part: SharePart, nonce: u8, wrapped: Wrapped, envelope: Option<Bytes>) -> ShareCall {
    ShareCall {
        part,
        nonce: Nonce::from([nonce; 32]),
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
        envelope,
        kept: None,
    }
}

/// Asks for the quotes that both holders appraise.
async fn quotes(link: &mut Link, nonce: u8) {
    for part in [SharePart::U, SharePart::V] {
        let question = QuoteCall {
            nonce: Nonce::from([nonce; 32]),
            asker: part.holder(),
            pcrs: vec![15],
            event_log: true,
            ima_offset: Some(0),
        };
        let answer = link.ask(Call::Quote(question)).await;
        assert!(matches!(answer, Outcome::Ok(Reply::Quote(_))), "{answer:?}");
    }
}

/// PCR 15 of a boot that has used this K.
fn latched(key: &BootstrapKey) -> [u8; 32] {
    latched_pcr15(&latch_digest(VOLUME, &*key.latch_secret()))
}

async fn give(link: &mut Link, share: ShareCall) -> Result<Option<Bytes>, String> {
    match link.ask(Call::Share(share)).await {
        Outcome::Ok(Reply::Share { confirmation }) => Ok(confirmation),
        Outcome::Refused(problem) => Err(problem.code),
        other => panic!("{other:?}"),
    }
}

/// The steps of the boot that are still to come, until the node closes the link.
async fn steps(mut link: Link) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(frame) = link.next().await {
        if let bootkeep_protocol::link::NodeFrame::Event {
            event: Event::Progress { step, .. },
        } = frame
        {
            steps.push(step);
        }
    }
    steps
}

async fn opened(machine: &mut Machine) -> (Link, Owner) {
    let mut link = machine.verifier.link().await;
    let open = link.accept_any().await;
    assert_eq!(open.phase, Phase::Initramfs);
    let owner = Owner::of(&open);
    (link, owner)
}

/// Plays the owner's part until the volume is open.
async fn provision(machine: &mut Machine, u_first: bool) -> (BootstrapKey, Vec<Step>) {
    let (mut link, owner) = opened(machine).await;
    quotes(&mut link, 1).await;
    let (u, v) = owner.shares(1, owner.good_envelope());
    let (first, second) = if u_first { (u, v) } else { (v, u) };
    assert_eq!(give(&mut link, first).await, Ok(None));
    let confirmation = give(&mut link, second).await.unwrap().unwrap();
    let confirmed = owner
        .key
        .confirms(&[1; 32], owner.node.as_str(), confirmation.as_slice());
    assert!(confirmed);
    (owner.key, steps(link).await)
}

#[tokio::test]
async fn the_volume_opens_in_either_order_of_shares_and_the_boot_is_latched() {
    for u_first in [true, false] {
        let mut machine = Machine::booting(60).await;
        let agent = machine.agent();
        let cryptsetup = machine.cryptsetup();
        let (unlocked, (key, steps)) =
            tokio::join!(agent.unlock(), provision(&mut machine, u_first));
        unlocked.unwrap();
        assert_eq!(cryptsetup.join().unwrap(), LUKS_KEY);
        let last = &steps[steps.len() - 4..];
        let order = [
            Step::Combined,
            Step::Latched,
            Step::KeyHandedOver,
            Step::Unlocked,
        ];
        assert_eq!(last, order);
        assert_eq!(machine.pcr15(), latched(&key));
        assert!(!machine.has_on_disk(LUKS_KEY));
        let handed: ForAgent = machine.handover().take("agent.json").unwrap().unwrap();
        assert_eq!(handed.files[0].path, "/etc/app/token");
        let cloud: ForCloudInit = machine.handover().take("user-data.json").unwrap().unwrap();
        assert_eq!(cloud.node_id.len(), 64);
    }
}

#[tokio::test]
async fn a_boot_that_is_latched_asks_for_nothing() {
    let mut machine = Machine::booting(60).await;
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    let (unlocked, _) = tokio::join!(agent.unlock(), provision(&mut machine, true));
    unlocked.unwrap();
    cryptsetup.join().unwrap();
    let again = machine.agent().unlock().await;
    assert!(matches!(again, Err(GaveUp::AlreadyLatched)), "{again:?}");
    assert!(machine.verifier.no_link());
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_right_shares_still_open() {
    let mut machine = Machine::booting(60).await;
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    let owner = async {
        let (mut link, owner) = opened(&mut machine).await;
        let (u, _) = owner.shares(7, owner.good_envelope());
        assert_eq!(give(&mut link, u).await, Err("share-without-quote".into()));
        let wrong: [(&str, MakeEnvelope); 3] = [
            ("another node", |owner| owner.envelope("another", VOLUME)),
            ("another volume", |owner| {
                owner.envelope(owner.node.as_str(), "data")
            }),
            ("no envelope", |_| vec![0; 64].into()),
        ];
        for (name, envelope) in wrong {
            // Each refusal makes the link anew.
            let mut link = machine.verifier.link().await;
            let owner = Owner::of(&link.accept_any().await);
            quotes(&mut link, 2).await;
            let (u, v) = owner.shares(2, envelope(&owner));
            assert_eq!(give(&mut link, u).await, Ok(None), "{name}");
            assert!(give(&mut link, v).await.is_err(), "{name}");
        }
        provision(&mut machine, true).await
    };
    let (unlocked, _) = timeout(PATIENCE, async { tokio::join!(agent.unlock(), owner) })
        .await
        .unwrap();
    unlocked.unwrap();
    assert_eq!(cryptsetup.join().unwrap(), LUKS_KEY);
}

#[tokio::test]
async fn without_shares_the_deadline_ends_the_wait_and_the_volume_stays_shut() {
    let mut machine = Machine::booting(3).await;
    let agent = machine.agent();
    let verifier = async {
        let (mut link, owner) = opened(&mut machine).await;
        quotes(&mut link, 1).await;
        let (_, v) = owner.shares(1, owner.good_envelope());
        assert_eq!(give(&mut link, v).await, Ok(None));
        link
    };
    let (unlocked, _link) = tokio::join!(agent.unlock(), verifier);
    assert!(
        matches!(unlocked, Err(GaveUp::Deadline { .. })),
        "{unlocked:?}"
    );
    assert!(!machine.handover().directory().exists());
}

#[tokio::test]
async fn a_person_may_open_the_volume_and_the_boot_gets_no_key_any_more() {
    let machine = Machine::booting(2).await;
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    agent.unlock_or_ask().await.unwrap();
    assert_eq!(cryptsetup.join().unwrap(), b"");
    assert_ne!(machine.pcr15(), [0; 32]);
    let handed: ForAgent = machine.handover().take("agent.json").unwrap().unwrap();
    assert_eq!(handed.claims[0].code, "unlocked-by-passphrase");
    let again = machine.agent().unlock().await;
    assert!(matches!(again, Err(GaveUp::AlreadyLatched)), "{again:?}");
}

#[tokio::test]
async fn a_person_at_the_console_need_not_wait_for_the_deadline() {
    let mut machine = Machine::booting(100_000).await;
    machine.typed(b"help\np\n");
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    agent.unlock_or_ask().await.unwrap();
    assert_eq!(cryptsetup.join().unwrap(), b"");
    assert_ne!(machine.pcr15(), [0; 32], "shares could still be asked for");
    let handed: ForAgent = machine.handover().take("agent.json").unwrap().unwrap();
    assert_eq!(handed.claims[0].code, "unlocked-by-passphrase");
    assert!(handed.claims[0].detail.contains("did not want to wait"));
}

/// A25: a disk with a copied UUID, which the owner's key does not open, and a person who opens it.
#[tokio::test]
async fn a_volume_that_a_person_has_opened_gets_no_hand_over_and_no_latch() {
    let mut machine = Machine::booting(60).await;
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup_of_another_disk();
    let (unlocked, (key, steps)) =
        tokio::join!(agent.unlock_or_ask(), provision(&mut machine, true));
    unlocked.unwrap();
    assert_eq!(cryptsetup.join().unwrap(), LUKS_KEY);
    assert!(!steps.contains(&Step::Unlocked), "{steps:?}");
    assert_ne!(machine.pcr15(), latched(&key));
    let handed: ForAgent = machine.handover().take("agent.json").unwrap().unwrap();
    assert!(handed.files.is_empty(), "{handed:?}");
    assert_eq!(handed.claims[0].code, "unlocked-by-passphrase");
    let cloud: Option<ForCloudInit> = machine.handover().take("user-data.json").unwrap();
    assert!(cloud.is_none());
}

/// A25: the owner's key has opened it, but its header lets other keys in, too.
#[tokio::test]
async fn a_volume_whose_header_is_not_sound_gets_no_hand_over_and_no_latch() {
    let mut machine = Machine::booting(60).await;
    machine.spoil_disk();
    let agent = machine.agent();
    let cryptsetup = machine.cryptsetup();
    let (unlocked, (key, steps)) =
        tokio::join!(agent.unlock_or_ask(), provision(&mut machine, true));
    assert!(
        matches!(unlocked, Err(GaveUp::NotTheOwners { .. })),
        "{unlocked:?}"
    );
    cryptsetup.join().unwrap();
    assert!(!steps.contains(&Step::Unlocked), "{steps:?}");
    assert_ne!(machine.pcr15(), latched(&key));
    let handed: Option<ForAgent> = machine.handover().take("agent.json").unwrap();
    assert!(handed.is_none());
    let cloud: Option<ForCloudInit> = machine.handover().take("user-data.json").unwrap();
    assert!(cloud.is_none());
}
