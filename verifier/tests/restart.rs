//! A verifier that is started again has lost nothing that it acknowledged.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bootkeep_protocol::{link::Event, verifier::State, Bytes};
use common::{
    machine::Machine,
    node::{running, Node},
    World, ENVELOPE, SHARE_V,
};

#[tokio::test]
async fn an_enrolment_and_v_survive() {
    let mut world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    world.start().await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(node.unwrap(&share).expose(), &SHARE_V);
    assert_eq!(share.envelope.unwrap().0, ENVELOPE);
}

#[tokio::test]
async fn a_boot_that_was_appraised_goes_on() {
    let mut world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    node.event(Event::Combined {
        confirmation: Bytes(vec![4; 32]),
    })
    .await;
    while world.steps(&machine.node, 0).await.confirmation.is_none() {}
    world.start().await;
    assert_eq!(world.status(&machine.node).await.state, State::BootTrusted);
    assert_eq!(world.status(&machine.node).await.ima_entries, 2);
    let _node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Trusted).await;
    assert_eq!(status.ima_entries, 2);
    assert_eq!(
        world.steps(&machine.node, 0).await.confirmation,
        Some(Bytes(vec![4; 32]))
    );
}

/// A node that runs, with a good attestation of all it has measured behind it.
async fn running_node(world: &World, machine: &Machine) -> Node {
    let mut node = Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    let node = Node::connect(&world.node_tls, &world.url, &running(machine))
        .await
        .unwrap();
    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {}
    node
}

async fn database(world: &World) -> sqlx::AnyPool {
    sqlx::any::install_default_drivers();
    sqlx::AnyPool::connect(&world.database_url).await.unwrap()
}

/// The checkpoint, as soon as it is stored.
async fn checkpoint(world: &World) -> String {
    let pool = database(world).await;
    for _ in 0..400 {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT checkpoint FROM checkpoints")
            .fetch_all(&pool)
            .await
            .unwrap();
        if let Some((stored,)) = rows.into_iter().next() {
            return stored;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no checkpoint");
}

/// Connects the machine to a restarted verifier and gives from where in the list it asked first.
async fn first_offset(world: &World, machine: &Machine, entries: u64) -> u64 {
    let node = Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap();
    let offset = node.first_offset().await;
    while world.status(&machine.node).await.ima_entries < entries {}
    world.until(&machine.node, State::Trusted).await;
    node.close().await;
    offset
}

#[tokio::test]
async fn only_new_lines_travel_after_a_restart() {
    let mut world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let node = running_node(&world, &machine).await;
    let known = node.machine.lock().unwrap().ima.len() as u64;
    let mut machine = node.machine.lock().unwrap().clone();
    world.verifier().close().await;
    world.start().await;
    machine.measure("/usr/bin/true", b"true");
    assert_eq!(first_offset(&world, &machine, 4).await, known);

    // It is a cache: without it, or with one that is damaged or another node's, the list is read from its start.
    let pool = database(&world).await;
    for damage in [
        "UPDATE checkpoints SET checkpoint = 'AAAA'",
        "UPDATE checkpoints SET checkpoint = substr(checkpoint, 1, 20)",
        "DELETE FROM checkpoints",
    ] {
        world.verifier().close().await;
        world.start().await;
        sqlx::query(damage).execute(&pool).await.unwrap();
        assert_eq!(first_offset(&world, &machine, 4).await, 0, "{damage}");
    }
}

#[tokio::test]
async fn a_checkpoint_is_of_one_node_and_one_enrolment() {
    let mut world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let node = running_node(&world, &machine).await;
    // Stored without anybody asking for it.
    let stored = checkpoint(&world).await;
    let machine = node.machine.lock().unwrap().clone();
    drop(node);
    // Under another enrolment the list is looked at anew, from its start.
    let mut other = enrolment.clone();
    other.label = "renamed".into();
    world.enrol(&machine.node, &other).await.unwrap();
    world.start().await;
    let pool = database(&world).await;
    sqlx::query("INSERT INTO checkpoints (node_id, checkpoint) VALUES ($1, $2) ON CONFLICT (node_id) DO UPDATE SET checkpoint = excluded.checkpoint")
        .bind(machine.node.as_str())
        .bind(stored)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(first_offset(&world, &machine, 3).await, 0);
}

#[tokio::test]
async fn a10_a_verifier_that_was_dead_leaves_nobody_trusted() {
    let mut world = World::new().await;
    let (machine, mut enrolment) = world.enrolled("node").await;
    enrolment.interval_seconds = 1;
    world.enrol(&machine.node, &enrolment).await.unwrap();
    let node = running_node(&world, &machine).await;
    let trusted = world.until(&machine.node, State::Trusted).await;
    world.stop();
    node.close().await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    world.start().await;
    let status = world.status(&machine.node).await;
    assert_eq!(status.state, State::Unreachable);
    assert_eq!(status.reasons[0].code, "unreachable");
    assert!(status.trusted_until_ms <= trusted.trusted_until_ms);
}

#[tokio::test]
async fn untrusted_is_not_forgotten() {
    let mut world = World::new().await;
    let (mut machine, _) = world.enrolled("node").await;
    machine.boot(b"init=/bin/sh");
    let _node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let before = world.until(&machine.node, State::Untrusted).await;
    world.start().await;
    let after = world.status(&machine.node).await;
    assert_eq!(
        (after.state, after.reasons),
        (State::Untrusted, before.reasons)
    );
    machine.boot(b"quiet");
    let refused = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code, "untrusted");
}

#[tokio::test]
async fn one_bad_row_leaves_the_others_alone() {
    let mut world = World::new().await;
    let (good, _) = world.enrolled("good").await;
    let (bad, _) = world.enrolled("bad").await;
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", world.database().display());
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::query("UPDATE nodes SET trust = '{' WHERE node_id = $1")
        .bind(bad.node.as_str())
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    world.start().await;
    assert_eq!(world.status(&good.node).await.state, State::Waiting);
    let _ = Machine::booted("other");
}
