//! The same promises on PostgreSQL.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/fleet_policies.rs"]
mod fleet_policies;
#[path = "../../crates/store/tests/postgres/mod.rs"]
mod postgres;

use bootkeep_protocol::{
    verifier::{NodeStatus, RevokeRequest, State},
    Role,
};
use common::{
    code,
    keeper::{unattended, Boot},
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

/// Two verifiers on one database; the node's links come to either.
#[tokio::test(flavor = "multi_thread")]
async fn two_verifiers_make_one_rotation_on_postgresql() {
    let cluster = postgres::Postgres::start();
    let mut world = World::new().await;
    world.database_url = cluster.url();
    world.start().await;
    let other = world.open().await;
    let (other_url, _serving) = world.serve(Role::Verifier, other.router()).await;
    // Enrolled at the first after the second has started.
    let (mut machine, _, owner, mut keeper) = world.keeping("node").await;
    let mut urls = [world.url.clone(), other_url];
    for _ in 0..3 {
        urls.swap(0, 1);
        world.url = urls[0].clone();
        let boot = Boot::begin(&world, &mut machine, &keeper).await;
        let opened = boot.opened.as_ref().unwrap();
        assert_eq!(opened.key.expose(), owner.key.expose());
        let id = boot.acknowledge(&mut keeper).await;
        world.keeps(&machine, &[id]).await;
        boot.node.close().await;
    }

    // Both are asked in one boot: neither takes the other's next V for its own.
    machine.boot(b"quiet");
    let at = |url| Boot::at(&world.node_tls, url, &machine, &keeper);
    let (one, two) = tokio::join!(at(&urls[0]), at(&urls[1]));
    let next = |boot: &Boot| boot.kept().sets[0].next.id;
    assert_ne!(next(&one), next(&two));
    let id = one.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    drop((one, two));

    // A new enrolment and a revocation at one bind the other.
    let (enrolment, new) = unattended(&machine, false);
    world.url = urls[0].clone();
    world.enrol(&machine.node, &enrolment).await.unwrap();
    world.url = urls[1].clone();
    let boot = Boot::begin(&world, &mut machine, &keeper).await;
    assert!(boot.opened.is_none());
    let boot = boot.with_tenant(&new);
    let id = boot.acknowledge(&mut keeper).await;
    world.keeps(&machine, &[id]).await;
    drop(boot);
    world.url = urls[0].clone();
    let url = format!("{}/revoke", world.node_url(&machine.node));
    let revoke = RevokeRequest {
        reason: "stolen".into(),
    };
    let _: NodeStatus = world.tenant.post(&url, &revoke).await.unwrap();
    machine.boot(b"quiet");
    let refused = Node::connect(&world.node_tls, &urls[1], &machine).await;
    assert_eq!(refused.err().unwrap().code, "revoked");
}
