//! Who fails is revoked: every peer has the signed entry at once and in order, the CA has it until its list says so.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/members.rs"]
mod members;
#[path = "../../crates/store/tests/postgres/mod.rs"]
mod postgres;

use std::time::Duration;

use bootkeep_protocol::{
    revocation::{Action, Revocations, RevocationsReply},
    verifier::{NodeStatus, OnFailure, RevokeRequest, State},
    NodeId, Role,
};
use bootkeep_revocation::{read_entry, read_head};
use common::{
    code,
    machine::Machine,
    node::{running, Node},
    peer::Peer,
    World,
};
use members::{CaServer, Member};

async fn log(world: &World, after: u64) -> Revocations {
    let url = format!("{}/v1/revocations?after={after}", world.url);
    world.tenant.get(&url).await.unwrap()
}

async fn revoke(world: &World, node: &NodeId) -> NodeStatus {
    let url = format!("{}/revoke", world.node_url(node));
    let request = RevokeRequest {
        reason: "stolen".into(),
    };
    world.tenant.post(&url, &request).await.unwrap()
}

/// Waits until the tenant sees that these many acknowledgements of the entry are there.
async fn acknowledged(world: &World, sequence: u64, count: usize) -> Revocations {
    for _ in 0..600 {
        let log = log(world, sequence - 1).await;
        let acks = log.records.first().map_or(0, |record| {
            let acks = record.acknowledgements.iter();
            acks.filter(|ack| ack.at_ms.is_some()).count()
        });
        if acks == count {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("entry {sequence} was not acknowledged by {count}");
}

/// Waits until the CA was told of the entry.
async fn at_ca(world: &World, sequence: u64) {
    for _ in 0..1500 {
        let log = log(world, sequence - 1).await;
        if log.records[0].ca_at_ms.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the CA was not told of entry {sequence}");
}

/// SQL on the world's database, as an operator or a restore would leave it.
async fn sql(world: &World, statements: &[&str]) {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&world.database_url).await.unwrap();
    for statement in statements {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_reaches_every_peer_and_the_list_follows() {
    let mut world = World::new().await;
    let ca = CaServer::start(&world).await;
    world.start_revoking(Some(&ca.url)).await;
    let bad_machine = Machine::booted("c");
    let serial = ca.issue(&world, &bad_machine.node).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let b = Member::enrolled(&world, "b", "0b").await;
    let c = Member::enrolled(&world, "c", &serial).await;
    let _a = a.run(&world).await;
    let _b = b.run(&world).await;
    let bad = c.run(&world).await;
    bad.run_file("/usr/bin/evil", b"evil").await;
    a.peer.holds(1).await;
    b.peer.holds(1).await;

    let (entry, _) = a.peer.taken().remove(0);
    assert_eq!((entry.action, &entry.node_id), (Action::Revoke, c.id()));
    assert_eq!(entry.serials, std::slice::from_ref(&serial));
    assert_eq!(entry.addresses, c.enrolment.addresses);
    assert_eq!(entry.reasons[0].code, "file-not-listed");

    let log = acknowledged(&world, 1, 2).await;
    let keys = world.revocation_keys();
    let (head, end) = read_head(&keys, &log.head).unwrap();
    let (shown, position) = read_entry(&keys, &log.records[0].entry).unwrap();
    assert_eq!((&shown, position), (&entry, end));
    assert_eq!(head.log, entry.log);
    for ack in &log.records[0].acknowledgements {
        assert!(&ack.node_id != c.id() && ack.done.is_some(), "{ack:?}");
    }
    let status = world.status(c.id()).await;
    assert_eq!(
        (status.state, status.revocation),
        (State::Untrusted, Some(1))
    );
    assert_eq!(world.status(a.id()).await.revocation, None);

    at_ca(&world, 1).await;
    assert!(ca.is_revoked(&world, &serial).await);
    let listed = |peer: &Peer| {
        let raw = hex::decode(&serial).unwrap();
        let crl = peer.crl().unwrap_or_default();
        crl.windows(raw.len()).any(|window| window == raw)
    };
    a.peer.until("given the CA's list", listed).await;
    b.peer.until("given the CA's list", listed).await;
    let gauges = world.metrics().await;
    for line in [
        "bootkeep_verifier_revocation_entries 1",
        "bootkeep_verifier_revocation_peers_behind 0",
        "bootkeep_verifier_revocation_ca_notices_pending 0",
    ] {
        assert!(gauges.contains(line), "{line} in {gauges}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_one_entry() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let c = Member::enrolled(&world, "c", "0c").await;
    let bad = c.run(&world).await;
    bad.run_file("/usr/bin/evil", b"evil").await;
    c.peer.holds(1).await;
    // The owner's word on top of it, and a restart, add nothing.
    assert_eq!(revoke(&world, c.id()).await.revocation, Some(1));
    world.start_revoking(None).await;
    assert_eq!(log(&world, 0).await.records.len(), 1);
    assert_eq!(world.status(c.id()).await.revocation, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_wants_to_hear_of_it_revokes_nobody() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let mut c = Member::enrolled(&world, "c", "0c").await;
    c.enrolment.on_failure = OnFailure::Report;
    world.enrol(c.id(), &c.enrolment).await.unwrap();
    let bad = c.run(&world).await;
    bad.run_file("/usr/bin/evil", b"evil").await;
    world.until(c.id(), State::Untrusted).await;
    world.start_revoking(None).await;
    assert!(log(&world, 0).await.records.is_empty());
    // The owner's word counts all the same.
    assert_eq!(revoke(&world, c.id()).await.revocation, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_away_catches_up_in_order() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let node = a.run(&world).await;
    let first = Member::enrolled(&world, "n0", "10").await;
    revoke(&world, first.id()).await;
    a.peer.holds(1).await;
    node.close().await;
    for n in 1..70 {
        let other = Member::enrolled(&world, &format!("n{n}"), "10").await;
        revoke(&world, other.id()).await;
    }
    assert_eq!(a.peer.position().sequence, 1);
    let calls = a.peer.calls().len();
    let _node = a.link(&world).await;
    a.peer.holds(70).await;
    assert_eq!(a.sequences(), (1..=70).collect::<Vec<_>>());
    // First a head alone, then what is missing and no more, in batches.
    let calls: Vec<usize> = a.peer.calls().split_off(calls);
    assert_eq!(calls[..3], [0, 64, 5]);
    assert!(a.peer.refused().is_empty());
    acknowledged(&world, 70, 1).await;

    // A verifier that was started again goes on where the log is.
    world.start_revoking(None).await;
    let last = Member::enrolled(&world, "last", "10").await;
    let _node = a.link(&world).await;
    revoke(&world, last.id()).await;
    a.peer.holds(71).await;
    assert!(a.peer.refused().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_has_it_when_both_were_down_in_between() {
    let mut world = World::new().await;
    let mut ca = CaServer::start(&world).await;
    world.start_revoking(Some(&ca.url)).await;
    let machine = Machine::booted("c");
    let serial = ca.issue(&world, &machine.node).await;
    let c = Member::enrolled(&world, "c", &serial).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let node = a.run(&world).await;
    ca.down().await;
    revoke(&world, c.id()).await;
    // The peers have it without the CA.
    a.peer.holds(1).await;
    assert_eq!(log(&world, 0).await.records[0].ca_at_ms, None);
    node.close().await;
    world.stop();
    ca.up(&world).await;
    assert!(!ca.is_revoked(&world, &serial).await);
    world.start_revoking(Some(&ca.url)).await;
    at_ca(&world, 1).await;
    assert!(ca.is_revoked(&world, &serial).await);
    // And a peer that links now is given the list.
    let _node = a.link(&world).await;
    a.peer
        .until("given the list", |peer| peer.crl().is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_without_its_entry_gets_it_at_the_start() {
    let mut world = World::new().await;
    // Without the log: as if the verifier died between verdict and entry.
    let c = Member::enrolled(&world, "c", "0c").await;
    let bad = c.run(&world).await;
    bad.run_file("/usr/bin/evil", b"evil").await;
    // The step comes when the verdict is stored.
    world.step(c.id(), "untrusted").await;
    world.start_revoking(None).await;
    let log = log(&world, 0).await;
    let (entry, _) = read_entry(&world.revocation_keys(), &log.records[0].entry).unwrap();
    assert_eq!(&entry.node_id, c.id());
    assert_eq!(entry.reasons[0].code, "file-not-listed");
    assert_eq!(world.status(c.id()).await.revocation, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_its_verdict_is_believed_at_the_start() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let c = Member::enrolled(&world, "c", "0c").await;
    let _node = c.run(&world).await;
    let pool = sqlx::AnyPool::connect(&world.database_url).await.unwrap();
    let good: String = sqlx::query_scalar("SELECT trust FROM nodes")
        .fetch_one(&pool)
        .await
        .unwrap();
    revoke(&world, c.id()).await;
    world.stop();
    sqlx::query("UPDATE nodes SET trust = $1")
        .bind(good)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    world.start_revoking(None).await;
    let status = world.status(c.id()).await;
    assert_eq!(status.state, State::Untrusted);
    assert_eq!(status.reasons[0].code, "revoked-in-log");
    assert_eq!(log(&world, 0).await.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_enrolment_is_reinstated_once_its_boot_is_good() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let _a = a.run(&world).await;
    let mut c = Member::enrolled(&world, "c", "0c").await;
    let bad = c.run(&world).await;
    bad.run_file("/usr/bin/evil", b"evil").await;
    a.peer.holds(1).await;
    bad.close().await;
    // What was revoked cannot come back as it was.
    let same = world.enrol(c.id(), &c.enrolment).await;
    assert_eq!(code(same), "revoked-enrolment");
    c.enrolment.serials = vec!["1c".into()];
    c.enrolment.share_v = vec![1; 32].into();
    let status = world.enrol(c.id(), &c.enrolment).await.unwrap();
    // Enrolled is not good yet.
    assert_eq!((status.state, status.revocation), (State::Waiting, Some(1)));
    c.machine.boot(b"quiet");
    let _c = c.run(&world).await;
    a.peer.holds(2).await;
    let (entry, _) = a.peer.taken().remove(1);
    assert_eq!((entry.action, &entry.node_id), (Action::Reinstate, c.id()));
    assert_eq!(entry.serials, ["1c"]);
    assert_eq!(world.status(c.id()).await.revocation, None);
    // And it fails again: a new episode, a new entry.
    _c.run_file("/usr/bin/evil", b"evil").await;
    a.peer.holds(3).await;
    assert_eq!(a.peer.taken()[2].0.serials, ["1c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_a_node_keeps_the_log() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let c = Member::enrolled(&world, "c", "0c").await;
    revoke(&world, c.id()).await;
    world.tenant.delete(&world.node_url(c.id())).await.unwrap();
    world.start_revoking(None).await;
    let log = log(&world, 0).await;
    let (entry, _) = read_entry(&world.revocation_keys(), &log.records[0].entry).unwrap();
    assert_eq!(&entry.node_id, c.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_holds_up_nobody() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let b = Member::enrolled(&world, "b", "0b").await;
    let _a = a.run(&world).await;
    let machine = running(&b.machine);
    let mute = Node::connect_mute(&world.node_tls, &world.url, &machine);
    let _mute = mute.await.unwrap();
    let c = Member::enrolled(&world, "c", "0c").await;
    revoke(&world, c.id()).await;
    a.peer.holds(1).await;
    let log = acknowledged(&world, 1, 1).await;
    let silent = log.records[0].acknowledgements.iter();
    let silent: Vec<_> = silent.filter(|ack| ack.at_ms.is_none()).collect();
    assert_eq!((silent.len(), &silent[0].node_id), (1, b.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_acknowledgement_is_none() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let b = Member::enrolled(&world, "b", "0b").await;
    let c = Member::enrolled(&world, "c", "0c").await;
    revoke(&world, c.id()).await;
    let says = |sequence, digest: &[u8]| RevocationsReply {
        sequence,
        digest: digest.into(),
        done: Vec::new(),
    };
    for (reply, code) in [
        (says(9, &[1; 32]), "revocation-ahead"),
        (says(1, &[1; 32]), "revocation-other-history"),
        (says(1, &[]), "revocation-reply"),
        (says(0, &[0; 32]), "revocation-stuck"),
    ] {
        let liar = Member {
            machine: b.machine.clone(),
            enrolment: b.enrolment.clone(),
            peer: Peer::liar(reply),
        };
        let node = liar.link(&world).await;
        let counted = format!("refusals_total{{code=\"{code}\"}}");
        world.counted(&counted).await;
        let log = log(&world, 0).await;
        let mut acks = log.records[0].acknowledgements.iter();
        assert!(acks.all(|ack| ack.at_ms.is_none()), "{code}");
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_set_back_is_refused_and_said_so() {
    let mut world = World::new().await;
    world.start_revoking(None).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let node = a.run(&world).await;
    for name in ["x", "y"] {
        let other = Member::enrolled(&world, name, "10").await;
        revoke(&world, other.id()).await;
    }
    a.peer.holds(2).await;
    let before = a.peer.position();
    node.close().await;
    world.stop();
    // As a backup from before the second entry.
    sql(
        &world,
        &[
            "DELETE FROM nodes WHERE node_id IN (SELECT node_id FROM revocations WHERE sequence = 2)",
            "DELETE FROM revocations WHERE sequence = 2",
            "UPDATE revocation_log SET sequence = 1, \
             digest = (SELECT digest FROM revocations WHERE sequence = 1)",
        ],
    )
    .await;
    world.start_revoking(None).await;
    let _node = a.link(&world).await;
    let said = world.step(a.id(), "revocations-refused").await;
    assert!(said.contains("set back"), "{said}");
    // Within the difference of two verifiers' clocks it might be old news: nothing is taken of it. Later it is refused.
    let refused = |peer: &Peer| !peer.refused().is_empty();
    a.peer.until("told of a shorter log", refused).await;
    assert_eq!(a.peer.refused()[0].code, "revocation-rolled-back");
    assert_eq!(a.peer.position(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_verifiers_make_one_log_without_gaps() {
    const NODES: usize = 40;
    let cluster = postgres::Postgres::start();
    let mut world = World::new().await;
    world.database_url = cluster.url();
    world.start_revoking(None).await;
    let a = Member::enrolled(&world, "a", "0a").await;
    let first = a.run(&world).await;
    let mut ids = Vec::new();
    for n in 0..NODES {
        let member = Member::enrolled(&world, &format!("n{n}"), "10").await;
        ids.push(member.id().clone());
    }
    // The second one loads what is enrolled and serves the other half.
    let second = world.open().await;
    world.revoke_with(&second, None).await;
    let (url, _serving) = world.serve(Role::Verifier, second.router()).await;
    let halves = ids.iter().enumerate().map(|(n, id)| {
        let base = if n % 2 == 0 { &world.url } else { &url };
        let url = format!("{base}/v1/nodes/{id}/revoke");
        let client = world.tenant.clone();
        tokio::spawn(async move {
            let request = RevokeRequest {
                reason: "stolen".into(),
            };
            let status: NodeStatus = client.post(&url, &request).await.unwrap();
            status.revocation.unwrap()
        })
    });
    let mut sequences = Vec::new();
    for task in halves.collect::<Vec<_>>() {
        sequences.push(task.await.unwrap());
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=NODES as u64).collect::<Vec<_>>());
    // A follower takes it whole, linked to one verifier and then to the other.
    a.peer.holds(NODES as u64).await;
    first.close().await;
    let machine = running(&a.machine);
    let moved = Node::connect_as(&world.node_tls, &url, &machine, &a.peer).await;
    let _moved = moved.unwrap();
    let calls = a.peer.calls().len();
    a.peer
        .until("heard by the second", |peer| peer.calls().len() > calls)
        .await;
    assert_eq!(a.sequences(), (1..=NODES as u64).collect::<Vec<_>>());
    assert!(a.peer.refused().is_empty(), "{:?}", a.peer.refused());
    acknowledged(&world, NODES as u64, 1).await;
}
