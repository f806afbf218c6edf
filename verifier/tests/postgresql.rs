//! The same promises on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../crates/store/tests/postgres/mod.rs"]
mod postgres;

use bootkeep_protocol::verifier::{NodeStatus, RevokeRequest, State};
use common::{
    node::{running, Node},
    World, ENVELOPE, SHARE_V,
};

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_v_verdict_and_revocation_survive_on_postgresql() {
    let cluster = postgres::Postgres::start();
    let mut world = World::new().await;
    world.database_url = cluster.url();
    world.start().await;
    let (machine, enrolment) = world.enrolled("node").await;
    world.start().await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(node.unwrap(&share).expose(), &SHARE_V);
    assert_eq!(share.envelope.unwrap().0, ENVELOPE);
    world.until(&machine.node, State::BootTrusted).await;
    world.start().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    node.run_file("/usr/bin/evil", b"evil").await;
    world.until(&machine.node, State::Untrusted).await;
    world.start().await;
    assert_eq!(world.status(&machine.node).await.state, State::Untrusted);
    let url = format!("{}/revoke", world.node_url(&machine.node));
    let revoke = RevokeRequest {
        reason: "stolen".into(),
    };
    let _: NodeStatus = world.tenant.post(&url, &revoke).await.unwrap();
    world.start().await;
    assert_eq!(world.status(&machine.node).await.state, State::Revoked);
    world.enrol(&machine.node, &enrolment).await.unwrap();
    world
        .tenant
        .delete(&world.node_url(&machine.node))
        .await
        .unwrap();
    world.start().await;
    let all: Vec<NodeStatus> = world
        .tenant
        .get(&format!("{}/v1/nodes", world.url))
        .await
        .unwrap();
    assert!(all.is_empty());
}
