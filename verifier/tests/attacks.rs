//! What went wrong for others (field facts, A01 to A34) and what a hostile node or client may try.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashSet, time::Duration};

use bootkeep_link::HttpError;
use bootkeep_protocol::{
    link::{Call, Event, Evidence, NodeFrame, QuoteCall, ServerFrame},
    policy::PolicySource,
    verifier::{NodeStatus, RelayRequest, RevokeRequest, State},
    Bytes, Phase, Role,
};
use common::{
    code, enrolment,
    machine::Machine,
    node::{hello, open_frame, running, verdict, Answer, Node},
    tenant_quote, World, ENVELOPE, SHARE_V,
};

/// Through boot and V to a running system that is trusted.
async fn trusted(world: &World, machine: &Machine) -> Node {
    let mut node = Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node.close().await;
    let node = Node::connect(&world.node_tls, &world.url, &running(machine))
        .await
        .unwrap();
    world.until(&machine.node, State::Trusted).await;
    node
}

async fn refused(world: &World, machine: &Machine) -> String {
    let result = Node::connect(&world.node_tls, &world.url, machine).await;
    result
        .err()
        .map_or_else(|| "accepted".into(), |problem| problem.code)
}

#[tokio::test]
async fn a02_nobody_but_the_tenant_sets_v_and_the_same_again_changes_nothing() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let node = trusted(&world, &machine).await;
    let mut other = enrolment.clone();
    other.share_v = Bytes(vec![1; 32]);
    let url = world.node_url(&machine.node);
    for role in [
        None,
        Some(Role::Verifier),
        Some(Role::Registrar),
        Some(Role::Ca),
    ] {
        let result: Result<NodeStatus, HttpError> = world.client(role).put(&url, &other).await;
        let expected = if role.is_none() {
            "no-certificate"
        } else {
            "wrong-role"
        };
        assert_eq!(code(result), expected);
    }
    let status = world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!((status.state, status.attestations), (State::Trusted, 1));
    let mut later = enrolment.clone();
    let PolicySource::Document(document) = &mut later.boot_policy else {
        panic!("a document");
    };
    document["event_log"]["required"] = false.into();
    let status = world.enrol(&machine.node, &later).await.unwrap();
    assert_eq!((status.state, status.attestations), (State::Waiting, 0));
    drop(node);
}

#[tokio::test]
async fn a03_tenant_verifier_and_registrar_speak_of_one_ak() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let mut swapped = Machine::booted("node");
    swapped.boot_id = machine.boot_id.clone();
    world.register(&swapped, 1);
    assert_eq!(refused(&world, &swapped).await, "other-ak");
    world.register(&machine, 2);
    assert_eq!(refused(&world, &machine).await, "other-ak");
    // The other way round: the link is open with one AK, the tenant enrols another.
    world.register(&machine, 1);
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    let mut other = enrolment.clone();
    other.ak_digest = Bytes(vec![1; 32]);
    world.enrol(&machine.node, &other).await.unwrap();
    assert_eq!(node.ended().await.unwrap().code, "other-ak");
}

#[tokio::test]
async fn a10_a_node_that_falls_silent_is_not_trusted_any_more() {
    let world = World::new().await;
    let (machine, mut enrolment) = world.enrolled("node").await;
    enrolment.interval_seconds = 1;
    world.enrol(&machine.node, &enrolment).await.unwrap();
    trusted(&world, &machine).await.close().await;
    // Answers once, then never again; the link stays.
    let answered = std::sync::atomic::AtomicBool::new(false);
    let once: Answer = Box::new(move |machine, call, exporter| {
        let first = !answered.swap(true, std::sync::atomic::Ordering::Relaxed);
        first.then(|| machine.evidence(call, exporter))
    });
    let node = Node::connect_with(&world.node_tls, &world.url, &running(&machine), once)
        .await
        .unwrap();
    world.until(&machine.node, State::Stale).await;
    node.close().await;
    world.until(&machine.node, State::Unreachable).await;
}

#[tokio::test]
async fn a16_every_route_of_the_tenant_refuses_everybody_else() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let node = world.node_url(&machine.node);
    let relay = RelayRequest {
        phase: Phase::Initramfs,
        call: Call::Quote(tenant_quote()),
    };
    let revoke = RevokeRequest { reason: "x".into() };
    for role in [
        None,
        Some(Role::Verifier),
        Some(Role::Registrar),
        Some(Role::Ca),
    ] {
        let client = world.client(role);
        let expected = if role.is_none() {
            "no-certificate"
        } else {
            "wrong-role"
        };
        let results: Vec<Result<serde_json::Value, HttpError>> = vec![
            client.get(&format!("{}/v1/nodes", world.url)).await,
            client.get(&node).await,
            client.get(&format!("{node}/steps")).await,
            client.get(&format!("{node}/links")).await,
            client.put(&node, &enrolment).await,
            client.post(&format!("{node}/relay"), &relay).await,
            client.post(&format!("{node}/revoke"), &revoke).await,
            client.delete(&node).await.map(|()| serde_json::Value::Null),
        ];
        for result in results {
            assert_eq!(code(result), expected, "{role:?}");
        }
    }
    let stranger = World::new().await;
    let result: Result<Vec<NodeStatus>, HttpError> = stranger
        .tenant
        .get(&format!("{}/v1/nodes", world.url))
        .await;
    assert!(
        matches!(result, Err(HttpError::Unreachable(_))),
        "{result:?}"
    );
    assert_eq!(world.status(&machine.node).await.state, State::Waiting);
}

#[tokio::test]
async fn a17_no_nonce_is_used_twice() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut node = Node::connect(&world.node_tls, &world.url, &machine)
            .await
            .unwrap();
        node.share().await;
        all.extend(node.nonces.lock().unwrap().clone());
        node.close().await;
    }
    let different: HashSet<_> = all.iter().map(|nonce| *nonce.as_bytes()).collect();
    assert_eq!((all.len(), different.len()), (6, 6));
    assert!(!different.contains(&[0; 32]));
}

#[tokio::test]
async fn a18_the_database_holds_no_secret_in_clear() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    node.share().await;
    let mut bytes = std::fs::read(world.database()).unwrap();
    let wal = format!("{}-wal", world.database().display());
    bytes.extend(std::fs::read(wal).unwrap_or_default());
    let text = |value: &Bytes| {
        serde_json::to_string(value)
            .unwrap()
            .trim_matches('"')
            .to_owned()
    };
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(
        holds(text(&enrolment.ak_digest).as_bytes()),
        "the row is in what was read"
    );
    assert!(!holds(&SHARE_V) && !holds(ENVELOPE));
    assert!(!holds(text(&enrolment.share_v).as_bytes()));
    assert!(!holds(text(&enrolment.envelope).as_bytes()));
    assert!(!holds(hex(&SHARE_V).as_bytes()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Lie = fn(&Machine, &QuoteCall, &[u8; 32]) -> Evidence;

#[tokio::test]
async fn a11_a21_a22_false_evidence_is_refused_and_counts() {
    let lies: [(&str, Lie); 9] = [
        ("quote-signature", |machine, call, exporter| {
            let mut evidence = machine.evidence(call, exporter);
            evidence.quote.signature.0[20] ^= 1;
            evidence
        }),
        ("quote-magic", |machine, call, exporter| {
            let mut machine = machine.clone();
            machine.form.magic = 0;
            machine.evidence(call, exporter)
        }),
        ("quote-type", |machine, call, exporter| {
            let mut machine = machine.clone();
            machine.form.kind = 0x8019;
            machine.evidence(call, exporter)
        }),
        ("quote-selection", |machine, call, exporter| {
            let mut call = call.clone();
            call.pcrs = vec![0];
            machine.evidence(&call, exporter)
        }),
        ("quote-selection", |machine, call, exporter| {
            let mut call = call.clone();
            call.pcrs.clear();
            machine.evidence(&call, exporter)
        }),
        ("quote-pcr-digest", |machine, call, exporter| {
            let mut evidence = machine.evidence(call, exporter);
            evidence.quote.pcrs[0].digest.0[0] ^= 1;
            evidence
        }),
        ("quote-qualifying-data", |machine, call, exporter| {
            let mut call = call.clone();
            call.nonce = [0; 32].into();
            machine.evidence(&call, exporter)
        }),
        ("quote-qualifying-data", |machine, call, exporter| {
            let mut evidence = machine.evidence(call, exporter);
            evidence.nk_public = Bytes(vec![9; 32]);
            evidence
        }),
        ("ima-template-hash", |machine, call, exporter| {
            let mut evidence = machine.evidence(call, exporter);
            let list = &mut evidence.ima.as_mut().unwrap().data.0;
            let last = list.len() - 2;
            list[last] ^= 1;
            evidence
        }),
    ];
    let world = World::new().await;
    for (number, (expected, lie)) in lies.into_iter().enumerate() {
        let (machine, _) = world.enrolled(&format!("node {number}")).await;
        let answer: Answer =
            Box::new(move |machine, call, exporter| Some(lie(machine, call, exporter)));
        let mut node = Node::connect_with(&world.node_tls, &world.url, &machine, answer)
            .await
            .unwrap();
        let status = world.until(&machine.node, State::Untrusted).await;
        assert_eq!(status.reasons[0].code, expected);
        assert!(!node.has_share());
        assert_eq!(node.ended().await.unwrap().code, expected);
    }
}

#[tokio::test]
async fn a24_evidence_cannot_be_carried_to_another_connection() {
    let world = World::new().await;
    let (victim, _) = world.enrolled("victim").await;
    let (attacker, _) = world.enrolled("attacker").await;
    // The attacker's own connection, the victim's answer made on another one.
    let (nonce, sender, mut receiver, _) = hello(&world.node_tls, &world.url).await;
    let (_, _other_sender, _other_receiver, other_exporter) =
        hello(&world.node_tls, &world.url).await;
    let open = open_frame(&victim, &nonce, &other_exporter);
    sender.send(&NodeFrame::Open(open)).await.unwrap();
    assert_eq!(
        verdict(&mut receiver).await.unwrap_err().code,
        "quote-qualifying-data"
    );
    // The attacker's TPM, the victim's name.
    let mut liar = attacker.clone();
    liar.node = victim.node.clone();
    assert_eq!(refused(&world, &liar).await, "quote-signature");
    // The victim's quote with the attacker's transport key.
    let (nonce, sender, mut receiver, exporter) = hello(&world.node_tls, &world.url).await;
    let mut open = open_frame(&victim, &nonce, &exporter);
    open.nk_public = Bytes(vec![9; 32]);
    sender.send(&NodeFrame::Open(open)).await.unwrap();
    assert_eq!(
        verdict(&mut receiver).await.unwrap_err().code,
        "quote-qualifying-data"
    );
    // Evidence that another node made for the same question.
    let other = attacker.clone();
    let relayed: Answer = Box::new(move |_, call, exporter| Some(other.evidence(call, exporter)));
    let mut node = Node::connect_with(&world.node_tls, &world.url, &victim, relayed)
        .await
        .unwrap();
    let status = world.until(&victim.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "quote-signature");
    assert!(!node.has_share());
}

#[tokio::test]
async fn a25_a_boot_that_has_opened_its_volume_gets_no_share() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let node = trusted(&world, &machine).await;
    let mut again = running(&machine);
    again.phase = Phase::Initramfs;
    assert_eq!(refused(&world, &again).await, "latched");
    assert_eq!(world.status(&machine.node).await.state, State::Trusted);
    // Another system on the same machine: PCR 15 was latched with another volume.
    drop(node);
    let mut rogue = machine.clone();
    rogue.extend(15, &[1; 32]);
    rogue.phase = Phase::Runtime;
    let _node = Node::connect(&world.node_tls, &world.url, &rogue)
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "latch-value");
}

#[tokio::test]
async fn a31_old_evidence_is_worth_nothing_after_a_reset() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    trusted(&world, &machine).await.close().await;
    // A boot that the verifier did not see in its initramfs.
    let mut unseen = machine.clone();
    unseen.boot(b"quiet");
    unseen.boot_id = "11111111-89ab-cdef-0123-456789abcdef".parse().unwrap();
    let node = Node::connect(&world.node_tls, &world.url, &running(&unseen))
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Waiting).await;
    assert_eq!(status.attestations, 0);
    node.close().await;
    // The boot before it, played again: its reset count is over.
    let mut seen = unseen.clone();
    seen.boot(b"quiet");
    let mut node = Node::connect(&world.node_tls, &world.url, &seen)
        .await
        .unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node.close().await;
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "reset-count");
    assert!(!node.has_share());
}

#[tokio::test]
async fn a_revoked_node_gets_nothing() {
    let world = World::new().await;
    let (machine, enrolment) = world.enrolled("node").await;
    let node = trusted(&world, &machine).await;
    let url = world.node_url(&machine.node);
    let revoke = RevokeRequest {
        reason: "stolen".into(),
    };
    let status: NodeStatus = world
        .tenant
        .post(&format!("{url}/revoke"), &revoke)
        .await
        .unwrap();
    assert_eq!(
        (status.state, status.reasons[0].detail.as_str()),
        (State::Revoked, "stolen")
    );
    assert_eq!(node.ended().await.unwrap().code, "revoked");
    assert_eq!(refused(&world, &machine).await, "revoked");
    assert_eq!(refused(&world, &running(&machine)).await, "revoked");
    let relayed = world
        .relay(&machine.node, Phase::Runtime, Call::Quote(tenant_quote()))
        .await;
    assert_eq!(code(relayed), "revoked");
    // Only a new enrolment ends it, be it with the same words.
    let status = world.enrol(&machine.node, &enrolment).await.unwrap();
    assert_eq!(status.state, State::Waiting);
    let mut again = machine.clone();
    again.boot(b"quiet");
    let mut node = Node::connect(&world.node_tls, &world.url, &again)
        .await
        .unwrap();
    node.share().await;
}

#[tokio::test]
async fn a_removed_node_is_a_stranger() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    world
        .tenant
        .delete(&world.node_url(&machine.node))
        .await
        .unwrap();
    let result: Result<NodeStatus, HttpError> =
        world.tenant.get(&world.node_url(&machine.node)).await;
    assert_eq!(code(result), "not-enrolled");
    let mut node = Node::connect(&world.node_tls, &world.url, &machine)
        .await
        .unwrap();
    let quoted = world
        .relay(&machine.node, Phase::Initramfs, Call::Quote(tenant_quote()))
        .await;
    assert!(quoted.is_ok());
    assert!(!node.has_share());
    world.records.lock().unwrap().clear();
    assert_eq!(refused(&world, &machine).await, "not-registered");
}

#[tokio::test]
async fn malformed_enrolments_are_refused_and_change_nothing() {
    let world = World::new().await;
    let (machine, good) = world.enrolled("node").await;
    let mut cases = Vec::new();
    let mut add = |code: &'static str, change: &dyn Fn(&mut serde_json::Value)| {
        let mut bad = serde_json::to_value(&good).unwrap();
        change(&mut bad);
        cases.push((code, bad));
    };
    add("bad-enrolment", &|e| e["share_v"] = "AAAA".into());
    add("bad-enrolment", &|e| e["ak_digest"] = "AAAA".into());
    add("bad-enrolment", &|e| e["latched_pcr15"] = "AAAA".into());
    add("bad-enrolment", &|e| {
        e["latched_pcr15"] = serde_json::to_value(Bytes(vec![0; 32])).unwrap()
    });
    add("bad-enrolment", &|e| e["envelope"] = "".into());
    add("bad-enrolment", &|e| e["interval_seconds"] = 0.into());
    add("bad-enrolment", &|e| e["interval_seconds"] = 86_401.into());
    add("bad-enrolment", &|e| e["label"] = "x".repeat(257).into());
    add("bad-policy", &|e| {
        e["boot_policy"]["pcrs"] = serde_json::json!({})
    });
    add("bad-policy", &|e| e["boot_policy"]["version"] = 9.into());
    add("bad-policy", &|e| {
        e["runtime_policy"]["files"] = serde_json::json!({})
    });
    add("bad-policy", &|e| {
        e["runtime_policy"] = serde_json::json!([])
    });
    add("bad-json", &|e| e["extra"] = 1.into());
    add("bad-json", &|e| e["share_v"] = "not base64!".into());
    for (expected, bad) in cases {
        let result: Result<NodeStatus, HttpError> =
            world.tenant.put(&world.node_url(&machine.node), &bad).await;
        let error = result.unwrap_err();
        assert_eq!(error.problem().unwrap().code, expected, "{error}");
        assert!(
            !error.to_string().contains("not base64"),
            "nothing is repeated"
        );
    }
    let url = format!("{}/v1/nodes/NODE", world.url);
    let result: Result<NodeStatus, HttpError> = world.tenant.put(&url, &good).await;
    assert_eq!(code(result), "bad-node-id");
    let status = world.enrol(&machine.node, &good).await.unwrap();
    assert_eq!(status.state, State::Waiting);
}

#[tokio::test]
async fn wrong_frames_end_their_link_and_no_other() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let (stranger, _) = world.enrolled("stranger").await;
    let good = trusted(&world, &machine).await;
    let event = NodeFrame::Event {
        event: Event::ImaGrew { count: 1 },
    };
    // Before open: an event, a reply nobody asked for, a second open.
    let (_, sender, mut receiver, _) = hello(&world.node_tls, &world.url).await;
    sender.send(&event).await.unwrap();
    assert_eq!(verdict(&mut receiver).await.unwrap_err().code, "bad-frame");
    let node = Node::connect(&world.node_tls, &world.url, &stranger)
        .await
        .unwrap();
    let reply = NodeFrame::Reply {
        id: 77,
        outcome: bootkeep_protocol::link::Outcome::Ok(bootkeep_protocol::link::Reply::Share {
            confirmation: None,
        }),
    };
    node.sender.send(&reply).await.unwrap();
    let open = open_frame(&stranger, &[0; 32].into(), &node.exporter);
    node.sender.send(&NodeFrame::Open(open)).await.unwrap();
    assert_eq!(node.ended().await.unwrap().code, "bad-frame");
    // A frame before the opening that is larger than an opening may be.
    let (nonce, sender, mut receiver, exporter) = hello(&world.node_tls, &world.url).await;
    let mut open = open_frame(&stranger, &nonce, &exporter);
    open.quote.attest = Bytes(vec![0; 200_000]);
    // Either end may see the break first.
    let _ = sender.send(&NodeFrame::Open(open)).await;
    assert!(!matches!(
        receiver.next().await,
        Ok(Some(ServerFrame::Accepted {}))
    ));
    assert_eq!(world.status(&machine.node).await.state, State::Trusted);
    good.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_newer_link_takes_over_from_an_older_one() {
    let world = World::new().await;
    let (machine, _) = world.enrolled("node").await;
    let old = trusted(&world, &machine).await;
    let _new = Node::connect(&world.node_tls, &world.url, &running(&machine))
        .await
        .unwrap();
    assert_eq!(old.ended().await.unwrap().code, "replaced");
    assert_eq!(world.status(&machine.node).await.links, [Phase::Runtime]);
    let _ = enrolment(&machine);
}
