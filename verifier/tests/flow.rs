//! From enrolment to a trusted node and to an untrusted one, over real links.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_protocol::{
    link::{Call, Claim, Event, Reply, ShareCall, SharePart, Step},
    policy::PolicySource,
    verifier::{LinkInfo, State},
    Bytes, Phase,
};
use common::{
    code, enrolment,
    machine::Machine,
    node::{running, Node},
    tenant_quote, World, ENVELOPE, SHARE_V,
};

#[tokio::test]
async fn a_good_node_gets_v_and_becomes_trusted() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    assert_eq!(world.status(&machine.node).await.state, State::Waiting);
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(share.part, SharePart::V);
    assert_eq!(node.unwrap(&share).expose(), &SHARE_V);
    assert_eq!(share.envelope.unwrap().0, ENVELOPE);
    let status = world.until(&machine.node, State::BootTrusted).await;
    assert_eq!((status.ima_entries, status.clock_safe), (2, Some(true)));
    node.event(Event::Progress {
        step: Step::Unlocked,
        at_ms: 1234,
    })
    .await;
    node.event(Event::Combined {
        confirmation: Bytes(vec![4; 32]),
    })
    .await;
    world.step(&machine.node, "unlocked").await;
    node.close().await;

    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Trusted).await;
    assert_eq!(status.attestations, 1);
    assert_eq!(status.links, [Phase::Runtime]);
    let claim = Claim {
        code: "cloud-init-cidata".into(),
        detail: "a\u{1b}b".into(),
    };
    node.event(Event::Claim(claim)).await;
    assert_eq!(
        world.step(&machine.node, "claim").await,
        "cloud-init-cidata: a?b"
    );
    let steps = world.steps(&machine.node, 0).await;
    assert_eq!(steps.confirmation, Some(Bytes(vec![4; 32])));
    assert_eq!(steps.status.claims.len(), 1);

    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {}
    node.run_file("/usr/bin/evil", b"evil").await;
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "file-not-listed");
    assert!(
        status.reasons[0].detail.contains("/usr/bin/evil"),
        "{:?}",
        status.reasons
    );
    assert_eq!(status.trusted_until_ms, None);
}

#[tokio::test]
async fn a_changed_command_line_gets_nothing_and_stays_untrusted() {
    let world = World::new().await;
    let (good, enrolment) = world.enrolled("node").await;
    let mut machine = good.clone();
    machine.boot(b"quiet init=/bin/sh");
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "boot-event");
    assert!(status.reasons[0].detail.contains("kernel command line"));
    assert!(!node.has_share());
    let problem = node.ended().await.unwrap();
    assert_eq!(problem.code, "boot-event");

    // The right command line comes too late: the tenant has to act first.
    machine.boot(b"quiet");
    let refused = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code, "untrusted");
    let mut changed = enrolment.clone();
    changed.share_v = Bytes(vec![6; 32]);
    world.enrol(&machine.node, &changed).await.unwrap();
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let share = node.share().await;
    assert_eq!(node.unwrap(&share).expose(), &[6; 32]);
}

#[tokio::test]
async fn a_node_that_waits_is_served_as_soon_as_it_is_enrolled() {
    let world = World::new().await;
    let machine = Machine::booted("node");
    world.register(&machine, 1);
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let url = format!("{}/links", world.node_url(&machine.node));
    let links: Vec<LinkInfo> = world.tenant.get(&url).await.unwrap();
    assert_eq!(links.len(), 1);
    assert!(!links[0].enrolled);
    assert_eq!(links[0].exporter.0, node.exporter);
    let call = Call::Quote(tenant_quote());
    let reply = world
        .relay(&machine.node, Phase::Initramfs, call)
        .await
        .unwrap();
    assert!(matches!(reply, Reply::Quote(_)));
    world
        .enrol(&machine.node, &enrolment(&machine))
        .await
        .unwrap();
    assert_eq!(node.share().await.part, SharePart::V);
}

#[tokio::test]
async fn the_relay_passes_on_what_is_the_tenants_and_nothing_else() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    let share = |part, envelope| {
        Call::Share(ShareCall {
            part,
            nonce: tenant_quote().nonce,
            encapsulated: Bytes(vec![1; 32]),
            ciphertext: Bytes(vec![1; 48]),
            envelope,
            kept: None,
        })
    };
    let mut for_verifier = tenant_quote();
    for_verifier.asker = bootkeep_protocol::Role::Verifier;
    for call in [
        Call::Quote(for_verifier),
        share(SharePart::V, None),
        share(SharePart::U, Some(Bytes(vec![1]))),
    ] {
        let result = world.relay(&machine.node, Phase::Initramfs, call).await;
        assert_eq!(code(result), "not-relayed");
    }
    let result = world
        .relay(&machine.node, Phase::Runtime, Call::Quote(tenant_quote()))
        .await;
    assert_eq!(code(result), "no-link");
    let result = world
        .relay(&machine.node, Phase::Initramfs, share(SharePart::U, None))
        .await;
    assert_eq!(result.unwrap(), Reply::Share { confirmation: None });
    assert_eq!(node.share().await.part, SharePart::U);
}

#[tokio::test]
async fn a_new_policy_for_a_running_node_needs_no_new_boot() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node.close().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    node.run_file("/usr/bin/new", b"new").await;
    world.until(&machine.node, State::Untrusted).await;
    let mut wider = enrolment.clone();
    let digest = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437";
    let PolicySource::Document(document) = &mut wider.runtime_policy else {
        panic!("a document");
    };
    document["files"]["/usr/bin/new"] = digest.into();
    world.enrol(&machine.node, &wider).await.unwrap();
    let status = world.until(&machine.node, State::Trusted).await;
    assert_eq!(status.ima_entries, 3);
}
