//! Policies as objects: signed, numbered, followed by nodes through their generations.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/fleet_policies.rs"]
mod fleet_policies;

use bootkeep_link::HttpError;
use bootkeep_policy::{RuntimePolicy, SignedPolicy};
use bootkeep_protocol::{
    policy::{PolicyAnswer, PolicyKind, PolicyRecord, PolicySource},
    verifier::{LastEvidence, State},
    Role,
};
use bootkeep_signed::SigningKey;
use common::{
    code, enrolment,
    machine::Machine,
    node::{running, Node},
    policies, World,
};
use fleet_policies::{boot_object, now_ms, object, policy_url, runtime_object};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A runtime policy that lists one file.
fn listing(path: &str) -> RuntimePolicy {
    let mut policy = RuntimePolicy::default();
    policy.accept_file(path, [7; 32]).unwrap();
    policy
}

async fn connect(world: &World, machine: &Machine) -> Node {
    Node::connect(&world.node_tls, &world.url, machine)
        .await
        .unwrap()
}

/// Boots and runs until it is trusted.
async fn trusted(world: &World, machine: &Machine) -> Node {
    let mut node = connect(world, machine).await;
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
    node.close().await;
    let node = connect(world, &running(machine)).await;
    world.until(&machine.node, State::Trusted).await;
    node
}

async fn records(world: &World) -> Vec<PolicyRecord> {
    let url = format!("{}/v1/policies", world.url);
    world.tenant.get(&url).await.unwrap()
}

#[tokio::test]
async fn only_what_the_owner_signed_is_taken_and_only_as_what_it_is() {
    let world = World::new().await;
    let good = runtime_object(3, &listing("/usr/bin/a"));
    let url = policy_url(&world, &good);
    let envelope = world.sign(&good);
    for role in [None, Some(Role::Verifier), Some(Role::Registrar)] {
        let result: Result<PolicyRecord, HttpError> = world.client(role).put(&url, &envelope).await;
        assert!(["no-certificate", "wrong-role"].contains(&code(result).as_str()));
    }
    let mut forged = envelope.clone();
    forged.signatures[0].sig.0[9] ^= 1;
    let mut altered = envelope.clone();
    let text = String::from_utf8(altered.payload.0.clone()).unwrap();
    altered.payload = text.replace("/usr/bin/a", "/usr/bin/b").into_bytes().into();
    let foreign = SignedPolicy::sign(&good, &SigningKey::generate().unwrap()).unwrap();
    for envelope in [&forged, &altered, &foreign] {
        let result: Result<PolicyRecord, HttpError> = world.tenant.put(&url, envelope).await;
        assert_eq!(code(result), "bad-policy");
    }
    for path in ["runtime/web/4", "runtime/other/3", "boot/web/3"] {
        let url = format!("{}/v1/policies/{path}", world.url);
        let result: Result<PolicyRecord, HttpError> = world.tenant.put(&url, &envelope).await;
        assert_eq!(code(result), "other-policy", "{path}");
    }
    for path in ["disk/web/3", "runtime/Web/3", "runtime/-/3"] {
        let url = format!("{}/v1/policies/{path}", world.url);
        let result: Result<PolicyRecord, HttpError> = world.tenant.put(&url, &envelope).await;
        assert_eq!(code(result), "unknown-policy", "{path}");
    }
    assert!(records(&world).await.is_empty());
    let record: PolicyRecord = world.tenant.put(&url, &envelope).await.unwrap();
    assert!(record.live && !record.retired);
    assert_eq!(record.key_id, world.policy_key.key_id());
    let answer: PolicyAnswer = world.tenant.get(&url).await.unwrap();
    assert_eq!((answer.record, answer.envelope), (record, envelope));
}

#[tokio::test]
async fn a34_generations_only_go_forward_and_two_count_at_most() {
    let mut world = World::new().await;
    let put = |generation: u64, path: &str| runtime_object(generation, &listing(path));
    let (one, two) = (put(2, "/usr/bin/a"), put(5, "/usr/bin/b"));
    let first = world.put_policy(&one).await.unwrap();
    assert_eq!(
        world.put_policy(&one).await.unwrap(),
        first,
        "the same again"
    );
    world.put_policy(&two).await.unwrap();
    let other = put(2, "/usr/bin/other");
    assert_eq!(code(world.put_policy(&other).await), "policy-exists");
    let between = put(4, "/usr/bin/old");
    assert_eq!(code(world.put_policy(&between).await), "policy-rolled-back");
    let mut over = put(6, "/usr/bin/c");
    over.valid_until_ms = now_ms() - 1;
    assert_eq!(code(world.put_policy(&over).await), "policy-expired");
    let third = put(7, "/usr/bin/c");
    let refused = world.put_policy(&third).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.code, "too-many-live");
    assert!(problem.detail.contains("retire generation 2"), "{problem}");
    let mut later = third.clone();
    later.valid_from_ms = one.valid_until_ms.max(two.valid_until_ms);
    later.valid_until_ms = later.valid_from_ms + 1000;
    assert!(!world.put_policy(&later).await.unwrap().live);

    assert!(world.retire(&one).await.unwrap().retired);
    world.put_policy(&put(8, "/usr/bin/c")).await.unwrap();
    // A restart forgets nothing of it.
    let before = records(&world).await;
    world.start().await;
    assert_eq!(records(&world).await, before);
    assert_eq!(before.iter().filter(|record| record.live).count(), 2);
    assert!(before[0].retired && before[0].generation == 2);
    assert!(!world.put_policy(&one).await.unwrap().live, "stays retired");
    assert_eq!(code(world.put_policy(&between).await), "policy-rolled-back");
    let missing = put(3, "/usr/bin/c");
    assert_eq!(code(world.retire(&missing).await), "unknown-policy");
}

#[tokio::test]
async fn old_generations_make_room_but_never_for_older_ones() {
    let world = World::new().await;
    let put = |generation: u64| runtime_object(generation, &listing("/usr/bin/a"));
    for generation in 1..=20 {
        world.put_policy(&put(generation)).await.unwrap();
        world.retire(&put(generation)).await.unwrap();
    }
    let kept: Vec<u64> = records(&world).await.iter().map(|r| r.generation).collect();
    assert_eq!(kept, (13..=20).collect::<Vec<_>>());
    assert_eq!(code(world.put_policy(&put(3)).await), "policy-rolled-back");
}

#[tokio::test]
async fn what_nodes_follow_cannot_vanish() {
    let world = World::new().await;
    let (machine, mut enrolment) = world.following("node").await;
    let (boot, runtime) = policies(&machine);
    let (one, two) = (runtime_object(1, &runtime), runtime_object(2, &runtime));
    assert_eq!(code(world.retire(&one).await), "policy-in-use");
    assert_eq!(
        code(world.retire(&boot_object(1, &boot)).await),
        "policy-in-use"
    );
    assert_eq!(
        records(&world).await.iter().map(|r| r.nodes).sum::<u64>(),
        2
    );
    world.put_policy(&two).await.unwrap();
    world.retire(&one).await.unwrap();
    assert_eq!(code(world.retire(&two).await), "policy-in-use");
    let status = world.status(&machine.node).await;
    let uses: Vec<_> = status
        .policies
        .iter()
        .map(|used| (used.kind, &used.generations[..]))
        .collect();
    assert_eq!(
        uses,
        [(PolicyKind::Boot, &[1][..]), (PolicyKind::Runtime, &[2])]
    );
    // A name that is not there, or of which nothing counts, is refused at enrolment.
    for name in ["other", "base"] {
        enrolment.runtime_policy = PolicySource::Named(name.into());
        assert_eq!(
            code(world.enrol(&machine.node, &enrolment).await),
            "bad-policy"
        );
    }
}

/// The update of a fleet: files change one by one while the policy goes from one generation to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_benign_entries_while_the_policy_rolls_over_raise_no_alarm() {
    let world = World::new().await;
    let (machine, _) = world.following("node").await;
    let (_, base) = policies(&machine);
    let file = |n: usize| format!("/usr/lib/lib{n}.so");
    let contents = |n: usize, version: u8| format!("{n} {version}");
    let version = |version: u8| {
        let mut policy = base.clone();
        for n in 0..1000 {
            let digest = Sha256::digest(contents(n, version)).into();
            policy.accept_file(&file(n), digest).unwrap();
        }
        policy
    };
    let (old, new) = (
        runtime_object(2, &version(1)),
        runtime_object(3, &version(2)),
    );
    world.put_policy(&old).await.unwrap();
    world.retire(&runtime_object(1, &base)).await.unwrap();
    let node = trusted(&world, &machine).await;
    let appraised = async |entries: u64| {
        while world.status(&machine.node).await.ima_entries < entries {
            tokio::task::yield_now().await;
        }
    };
    for n in 0..1000 {
        // Up to 300 all is old, up to 700 old and new run side by side, then all is new.
        let updated = n >= 700 || (n >= 300 && n % 2 == 0);
        let contents = contents(n, if updated { 2 } else { 1 });
        node.run_file(&file(n), contents.as_bytes()).await;
        match n {
            299 => drop(world.put_policy(&new).await.unwrap()),
            699 => {
                appraised(702).await;
                world.retire(&old).await.unwrap();
            }
            _ if n % 50 == 0 => {
                let status = world.status(&machine.node).await;
                assert_eq!(
                    (status.state, status.reasons),
                    (State::Trusted, vec![]),
                    "{n}"
                );
            }
            _ => {}
        }
    }
    appraised(1002).await;
    let status = world.status(&machine.node).await;
    assert_eq!((status.state, status.ima_entries), (State::Trusted, 1002));
    let alarms = world.steps(&machine.node, 0).await.steps;
    let alarms = alarms
        .iter()
        .filter(|s| ["untrusted", "refused"].contains(&&*s.step));
    assert_eq!(alarms.count(), 0);
    println!(
        "1000 entries, {} attestations, no alarm",
        status.attestations
    );
    // And the alarm still works: the old version of a file does not run any more.
    node.run_file(&file(0), contents(0, 1).as_bytes()).await;
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "file-digest");
}

#[tokio::test]
async fn another_boot_policy_does_not_end_the_trust_of_a_boot_that_was_good() {
    let world = World::new().await;
    let (machine, _) = world.following("node").await;
    let (boot, _) = policies(&machine);
    let node = trusted(&world, &machine).await;
    let mut updated = machine.clone();
    updated.boot(b"quiet updated");
    let (new_boot, _) = policies(&updated);
    world.put_policy(&boot_object(2, &new_boot)).await.unwrap();
    world.retire(&boot_object(1, &boot)).await.unwrap();
    node.run_file("/usr/bin/true", b"true").await;
    while world.status(&machine.node).await.ima_entries < 3 {}
    assert_eq!(world.status(&machine.node).await.state, State::Trusted);
    node.close().await;
    // The next boot is held against what counts then.
    let _node = connect(&world, &updated).await;
    world.until(&machine.node, State::BootTrusted).await;
    updated.boot(b"quiet");
    let _node = connect(&world, &updated).await;
    let status = world.until(&machine.node, State::Untrusted).await;
    assert_eq!(status.reasons[0].code, "boot-event");
}

#[tokio::test]
async fn policies_that_are_over_end_trust_but_blame_nobody() {
    let world = World::new().await;
    let (machine, mut enrolment) = world.following("node").await;
    let (boot, runtime) = policies(&machine);
    enrolment.interval_seconds = 1;
    world.enrol(&machine.node, &enrolment).await.unwrap();
    let mut short = runtime_object(2, &runtime);
    short.valid_until_ms = now_ms() + 2500;
    world.put_policy(&short).await.unwrap();
    world.retire(&runtime_object(1, &runtime)).await.unwrap();
    let node = trusted(&world, &machine).await;
    let status = world.until(&machine.node, State::Stale).await;
    assert_eq!(status.reasons[0].code, "policy-expired");
    assert_eq!(status.policies[1].generations, Vec::<u64>::new());
    world
        .put_policy(&runtime_object(3, &runtime))
        .await
        .unwrap();
    let status = world.until(&machine.node, State::Trusted).await;
    assert_eq!(status.reasons, []);
    node.close().await;

    // A boot for which nothing counts gets no share, until something does.
    let mut short = boot_object(2, &boot);
    short.valid_until_ms = now_ms() + 300;
    world.put_policy(&short).await.unwrap();
    world.retire(&boot_object(1, &boot)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let mut machine = machine;
    machine.boot(b"quiet");
    let mut node = connect(&world, &machine).await;
    let detail = world.step(&machine.node, "no-policy").await;
    assert!(detail.contains("policy-expired"), "{detail}");
    let status = world.status(&machine.node).await;
    assert_eq!(
        (status.state, &*status.reasons[0].code),
        (State::Waiting, "policy-expired")
    );
    assert!(!node.has_share());
    world.put_policy(&boot_object(3, &boot)).await.unwrap();
    node.share().await;
    world.until(&machine.node, State::BootTrusted).await;
}

#[tokio::test]
async fn a14_a_bad_row_is_left_out_and_a_changed_one_does_not_count() {
    let mut world = World::new().await;
    let (machine, _) = world.following("node").await;
    let good = object(
        PolicyKind::Runtime,
        "other",
        1,
        listing("/usr/bin/a").to_value().unwrap(),
    );
    world.put_policy(&good).await.unwrap();
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&world.database_url).await.unwrap();
    for statement in [
        "UPDATE policy_generations SET envelope = '{' WHERE name = 'base'",
        // Signed by the owner, but for another name: rows cannot be swapped.
        "UPDATE policy_generations SET envelope = (SELECT envelope FROM policy_generations WHERE name = 'other') WHERE name = 'web'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    world.start().await;
    let names: Vec<String> = records(&world).await.into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["other"]);
    let status = world.status(&machine.node).await;
    assert_eq!(
        (status.state, &*status.reasons[0].code),
        (State::Waiting, "policy-empty")
    );
    // The number of the lost row still keeps old ones out; the next one counts.
    let (boot, runtime) = policies(&machine);
    assert_eq!(
        code(world.put_policy(&boot_object(1, &boot)).await),
        "policy-exists"
    );
    world.put_policy(&boot_object(2, &boot)).await.unwrap();
    world
        .put_policy(&runtime_object(2, &runtime))
        .await
        .unwrap();
    trusted(&world, &machine).await;
}

#[tokio::test]
async fn the_last_evidence_is_there_for_a_dry_run() {
    let world = World::new().await;
    let (machine, _) = world.following("node").await;
    let url = format!("{}/evidence", world.node_url(&machine.node));
    let none: Result<LastEvidence, HttpError> = world.tenant.get(&url).await;
    assert_eq!(code(none), "no-evidence");
    let node = trusted(&world, &machine).await;
    let evidence: LastEvidence = world.tenant.get(&url).await.unwrap();
    assert_eq!(evidence.event_log.unwrap().0, machine.event_log);
    let quoted = evidence.pcrs.iter().find(|pcr| pcr.index == 9).unwrap();
    assert_eq!(quoted.digest.0, machine.pcrs[9]);
    node.run_file("/usr/bin/evil", b"evil").await;
    world.until(&machine.node, State::Untrusted).await;
    let refused: LastEvidence = world.tenant.get(&url).await.unwrap();
    let quoted = refused.pcrs.iter().find(|pcr| pcr.index == 10).unwrap();
    assert_eq!(quoted.digest.0, node.machine.lock().unwrap().pcrs[10]);
    for role in [None, Some(Role::Verifier)] {
        let result: Result<LastEvidence, HttpError> = world.client(role).get(&url).await;
        assert!(["no-certificate", "wrong-role"].contains(&code(result).as_str()));
    }
}

#[tokio::test]
async fn documents_and_names_can_be_mixed_and_empty_objects_are_refused() {
    let world = World::new().await;
    let machine = Machine::booted("node");
    world.register(&machine, 1);
    let (_, runtime) = policies(&machine);
    world
        .put_policy(&runtime_object(1, &runtime))
        .await
        .unwrap();
    let mut enrolment = enrolment(&machine);
    enrolment.runtime_policy = PolicySource::Named("web".into());
    world.enrol(&machine.node, &enrolment).await.unwrap();
    trusted(&world, &machine).await;
    let status = world.status(&machine.node).await;
    assert_eq!(status.policies[0].name, None);
    assert_eq!(status.policies[1].name.as_deref(), Some("web"));
    assert!(status.policies.iter().all(|used| used.digest.len() == 64));
    let empty = json!({ "version": 1, "files": {} });
    let empty = object(PolicyKind::Runtime, "empty", 1, empty);
    assert!(SignedPolicy::sign(&empty, &world.policy_key).is_err());
    let payload = serde_json::to_vec(&empty).unwrap();
    let envelope = world
        .policy_key
        .sign(bootkeep_protocol::policy::POLICY_TYPE, &payload);
    let result: Result<PolicyRecord, HttpError> = world
        .tenant
        .put(&policy_url(&world, &empty), &envelope.unwrap())
        .await;
    assert_eq!(code(result), "bad-policy");
}
