//! What a node says about the files of its next boot.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_protocol::{
    boot_files::{BootFile, BootFileRole, BootFiles},
    link::Event,
    verifier::{NodeStatus, State},
};
use common::{
    machine::Machine,
    node::{running, Node},
    World,
};

fn report(at_ms: u64) -> BootFiles {
    BootFiles {
        at_ms,
        version: Some("6.8.0-31-generic".into()),
        files: vec![BootFile {
            role: BootFileRole::Initrd,
            path: "/boot/initrd.img-6.8.0-31-generic".into(),
            size: 60_000_000,
            sha256: "ab".repeat(32),
            authenticode: None,
        }],
    }
}

async fn running_node(world: &World, machine: &Machine) -> Node {
    let mut node = Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap();
    node.share().await;
    // Said in the initramfs, it is not taken.
    node.event(Event::BootFiles(report(1))).await;
    world.counted("refusals_total{code=\"boot-files\"} 1").await;
    node.close().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    node
}

#[tokio::test]
async fn the_last_report_is_kept() {
    let mut world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let node = running_node(&world, &machine).await;
    let status = |world: &World| {
        let (tenant, url) = (world.tenant.clone(), world.node_url(&machine.node));
        async move { tenant.get::<NodeStatus>(&url).await.unwrap().boot_files }
    };
    assert_eq!(status(&world).await, None);
    node.event(Event::BootFiles(report(2))).await;
    assert!(world
        .step(&machine.node, "boot-files")
        .await
        .starts_with("1 files"));
    assert_eq!(status(&world).await, Some(report(2)));
    let mut bad = report(3);
    bad.files[0].sha256 = "not a digest".into();
    node.event(Event::BootFiles(bad)).await;
    world.counted("refusals_total{code=\"boot-files\"} 2").await;
    assert_eq!(status(&world).await, Some(report(2)));
    node.event(Event::BootFiles(report(4))).await;
    while status(&world).await != Some(report(4)) {}

    world.start().await;
    assert_eq!(status(&world).await, Some(report(4)));
    let all: Vec<NodeStatus> = world
        .tenant
        .get(&format!("{}/v1/nodes", world.url))
        .await
        .unwrap();
    assert_eq!(all[0].boot_files, None, "the list stays short");
    world
        .tenant
        .delete(&world.node_url(&machine.node))
        .await
        .unwrap();
    world.start().await;
    world
        .enrol(&machine.node, &common::enrolment(&machine))
        .await
        .unwrap();
    assert_eq!(status(&world).await, None);
}
