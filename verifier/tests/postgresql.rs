//! The same promises on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/fleet_policies.rs"]
mod fleet_policies;
#[path = "../../crates/store/tests/postgres/mod.rs"]
mod postgres;

use bootkeep_protocol::verifier::{NodeStatus, RevokeRequest, State};
use common::{
    code,
    node::{running, Node},
    policies, World, ENVELOPE, SHARE_V,
};
use fleet_policies::runtime_object;

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

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_checkpoints_survive_on_postgresql() {
    let cluster = postgres::Postgres::start();
    let mut world = World::new().await;
    world.database_url = cluster.url();
    world.start().await;
    let (machine, _) = world.following("node").await;
    let (_, runtime) = policies(&machine);
    world
        .put_policy(&runtime_object(2, &runtime))
        .await
        .unwrap();
    world.retire(&runtime_object(1, &runtime)).await.unwrap();
    world.start().await;
    let status = world.status(&machine.node).await;
    assert_eq!(status.policies[1].generations, [2]);
    assert_eq!(
        code(world.put_policy(&runtime_object(1, &runtime)).await),
        "policy-exists"
    );
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    for _ in 0..2 {
        world.verifier().close().await;
        world.start().await;
        let machine = running(&machine);
        let node = Node::connect(&world.node_tls, &world.url, &machine)
            .await
            .unwrap();
        assert_eq!(node.first_offset().await, machine.ima.len() as u64);
        world.until(&machine.node, State::Trusted).await;
        node.close().await;
    }
}
