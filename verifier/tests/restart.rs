//! A verifier that is started again has lost nothing that it acknowledged.
#![allow(clippy::unwrap_used)]

mod common;

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
    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Trusted).await;
    assert_eq!(status.ima_entries, 2);
    assert_eq!(
        world.steps(&machine.node, 0).await.confirmation,
        Some(Bytes(vec![4; 32]))
    );
    // And again while it runs: the list is read from its start.
    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {}
    let machine = node.machine.lock().unwrap().clone();
    world.start().await;
    let _node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    while world.status(&machine.node).await.ima_entries < 3 {}
    world.until(&machine.node, State::Trusted).await;
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
