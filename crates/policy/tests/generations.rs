//! Generations side by side, and the signed objects they come from.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bootkeep_policy::{
    appraise_boot, boot_call, inspect, is_policy_name, BootOptions, BootPolicy, Booted, Generation,
    Generations, Policies, PolicyDocument, Question, Refusal, RuntimePolicy, SignedPolicy,
    SignedPolicyError,
};
use bootkeep_protocol::{
    kept::{SignedPcrPolicy, MAX_PCR_POLICIES},
    link::QuoteCall,
    policy::{PolicyKind, PolicyObject, POLICY_TYPE},
    Nonce, Role,
};
use bootkeep_signed::{SignedError, SigningKey, VerifyingKeys};
use common::Machine;
use proptest::prelude::*;
use serde_json::{json, Value};
use sha2::Digest;

const EXPORTER: [u8; 32] = [3; 32];
const NOW: u64 = 1000;

fn call() -> QuoteCall {
    boot_call(Nonce::fresh().unwrap(), Role::Verifier, 0)
}

fn known_good(machine: &Machine) -> (BootPolicy, RuntimePolicy) {
    let call = call();
    let ak = machine.ak();
    let question = question(machine, &ak, &call);
    let good = inspect(&question, &machine.evidence(&call, &EXPORTER)).unwrap();
    let options = BootOptions::default();
    let boot = BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &options);
    (boot.unwrap(), RuntimePolicy::from_list(&good.ima).unwrap())
}

fn question<'a>(
    machine: &'a Machine,
    ak: &'a bootkeep_evidence::AkPublic,
    call: &'a QuoteCall,
) -> Question<'a> {
    Question {
        node: &machine.node,
        ak,
        call,
        exporter: &EXPORTER,
        phase: machine.phase,
    }
}

/// Generations 1, 2, … that count at [`NOW`].
fn live<P>(policies: Vec<P>) -> Generations<P> {
    until(policies, NOW + 1)
}

fn until<P>(policies: Vec<P>, valid_until_ms: u64) -> Generations<P> {
    let generation = |(number, policy)| Generation {
        number,
        valid_from_ms: 0,
        valid_until_ms,
        policy: Arc::new(policy),
        pcr_policies: Arc::default(),
    };
    Generations::new((1..).zip(policies).map(generation).collect())
}

fn appraise(
    machine: &Machine,
    boot: &Generations<BootPolicy>,
    runtime: &Generations<RuntimePolicy>,
) -> Result<Booted, Refusal> {
    let (call, ak) = (call(), machine.ak());
    let policies = Policies {
        boot: boot.at(NOW),
        runtime: &runtime.at(NOW),
    };
    let evidence = machine.evidence(&call, &EXPORTER);
    appraise_boot(&question(machine, &ak, &call), &evidence, policies, None)
}

fn codes(verdict: Result<Booted, Refusal>) -> Vec<String> {
    let reasons = verdict.err().map(|refusal| refusal.reasons());
    reasons
        .into_iter()
        .flatten()
        .map(|reason| reason.code)
        .collect()
}

#[test]
fn a_boot_is_good_when_one_generation_accepts_all_of_it() {
    let mut machine = Machine::booted("node");
    let (old, runtime) = known_good(&machine);
    machine.boot(b"quiet new");
    let (new, _) = known_good(&machine);
    let runtime = live(vec![runtime.clone(), known_good(&machine).1]);
    let both = live(vec![old.clone(), new.clone()]);
    for (command_line, accepted) in [
        (&b"quiet"[..], true),
        (b"quiet new", true),
        (b"init=/bin/sh", false),
    ] {
        machine.boot(command_line);
        let runtime_of = live(vec![known_good(&machine).1]);
        let verdict = appraise(&machine, &both, &runtime_of);
        assert_eq!(verdict.is_ok(), accepted, "{command_line:?}");
    }
    // One accepts the one half, the other the other: that is no known boot.
    machine.boot(b"quiet");
    let changed = |policy: &BootPolicy, pcr: &str| {
        let mut value = policy.to_value().unwrap();
        value["pcrs"][pcr] = json!(["00".repeat(32)]);
        BootPolicy::from_value(value).unwrap()
    };
    let halves = live(vec![changed(&old, "4"), changed(&old, "9")]);
    let refusal = appraise(&machine, &halves, &runtime).err().unwrap();
    assert_eq!(refusal.reasons().len(), 1);
    assert!(
        refusal.reasons()[0].detail.starts_with("PCR 9"),
        "the newest speaks: {refusal}"
    );
}

#[test]
fn each_file_is_accepted_by_one_of_the_generations() {
    let mut machine = Machine::booted("node");
    let (boot, runtime) = known_good(&machine);
    let boot = live(vec![boot]);
    let with = |contents: &[u8]| {
        let mut policy = runtime.clone();
        let digest = sha2::Sha256::new_with_prefix(contents).finalize();
        policy.accept_file("/usr/bin/a", digest.into()).unwrap();
        policy
    };
    let both = live(vec![with(b"old"), with(b"new")]);
    machine.measure("/usr/bin/a", b"old");
    machine.measure("/usr/bin/a", b"new");
    assert!(appraise(&machine, &boot, &both).is_ok());
    for one in [b"old", b"new"] {
        assert_eq!(
            codes(appraise(&machine, &boot, &live(vec![with(one)]))),
            ["file-digest"]
        );
    }
    machine.measure("/usr/bin/a", b"other");
    assert_eq!(codes(appraise(&machine, &boot, &both)), ["file-digest"]);
}

#[test]
fn a_generation_that_lists_nothing_accepts_nothing() {
    let mut machine = Machine::booted("node");
    let (boot, runtime) = known_good(&machine);
    let mut empty = RuntimePolicy::default();
    empty.exclude(&["/**".to_owned()]).unwrap();
    machine.measure("/usr/bin/evil", b"evil");
    let boot = live(vec![boot]);
    let verdict = appraise(&machine, &boot, &live(vec![runtime, empty.clone()]));
    assert_eq!(codes(verdict), ["file-not-listed"]);
    let verdict = appraise(&machine, &boot, &live(vec![empty]));
    assert_eq!(codes(verdict), ["runtime-policy-empty"]);
}

#[test]
fn what_is_over_accepts_nothing_and_blames_nobody() {
    let machine = Machine::booted("node");
    let (boot, runtime) = known_good(&machine);
    let (good_boot, good_runtime) = (live(vec![boot.clone()]), live(vec![runtime.clone()]));
    let (over_boot, over_runtime) = (until(vec![boot], NOW), until(vec![runtime], NOW));
    for (boot, runtime, expected) in [
        (&over_boot, &good_runtime, vec!["policy-expired"]),
        (&good_boot, &over_runtime, vec!["policy-expired"]),
        (
            &over_boot,
            &over_runtime,
            vec!["policy-expired", "policy-expired"],
        ),
        (&live(vec![]), &good_runtime, vec!["policy-empty"]),
        (&good_boot, &live(vec![]), vec!["policy-empty"]),
    ] {
        let refusal = appraise(&machine, boot, runtime).err().unwrap();
        assert!(refusal.is_ours());
        assert_eq!(codes(Err(refusal)), expected);
    }
    // What the node itself did wrong stays its own.
    let mut latched = machine.clone();
    latched.extend(15, &[1; 32]);
    let refusal = appraise(&latched, &over_boot, &good_runtime).err().unwrap();
    assert!(!refusal.is_ours() && refusal.has("latched"));
}

fn object() -> PolicyObject {
    PolicyObject {
        version: 1,
        name: "web".into(),
        kind: PolicyKind::Runtime,
        generation: 7,
        valid_from_ms: 10,
        valid_until_ms: 20,
        policy: json!({ "version": 1, "files": { "/usr/bin/a": "07".repeat(32) } }),
        pcr_policies: Vec::new(),
    }
}

#[test]
fn an_object_counts_only_when_all_of_it_is_right() {
    let key = SigningKey::generate().unwrap();
    let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
    let policy =
        SignedPolicy::verify(&SignedPolicy::sign(&object(), &key).unwrap(), &keys).unwrap();
    assert_eq!((policy.name(), policy.generation()), ("web", 7));
    assert_eq!(
        (policy.window_ms(), policy.key_id()),
        ((10, 20), key.key_id())
    );
    assert!(matches!(policy.document(), PolicyDocument::Runtime(_)));
    assert!(policy.boot().is_none());
    let shared = (policy.runtime().unwrap(), policy.runtime().unwrap());
    assert!(Arc::ptr_eq(&shared.0.policy, &shared.1.policy));

    let changed = |change: fn(&mut Value)| {
        let mut value = serde_json::to_value(object()).unwrap();
        change(&mut value);
        let payload = serde_json::to_vec(&value).unwrap();
        SignedPolicy::verify(&key.sign(POLICY_TYPE, &payload).unwrap(), &keys)
    };
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 13] = [
        ("version", |v| v["version"] = 2.into()),
        ("name", |v| v["name"] = "Web".into()),
        ("no name", |v| v["name"] = "".into()),
        ("generation 0", |v| v["generation"] = 0.into()),
        ("generation", |v| v["generation"] = u64::MAX.into()),
        ("window", |v| v["valid_until_ms"] = 10.into()),
        ("endless window", |v| v["valid_until_ms"] = u64::MAX.into()),
        ("kind", |v| v["kind"] = "boot".into()),
        ("no such kind", |v| v["kind"] = "disk".into()),
        ("nothing listed", |v| v["policy"]["files"] = json!({})),
        ("a policy's field", |v| v["policy"]["allow"] = true.into()),
        ("a field more", |v| v["also"] = 1.into()),
        ("a field less", |v| {
            drop(v.as_object_mut().unwrap().remove("valid_from_ms"))
        }),
    ];
    for (name, change) in changes {
        assert!(changed(change).is_err(), "{name}");
    }
    // Signed as another kind of document, it is none of these.
    let payload = serde_json::to_vec(&object()).unwrap();
    let other = key
        .sign("application/vnd.bootkeep.revocation+json", &payload)
        .unwrap();
    let refused = SignedPolicy::verify(&other, &keys).unwrap_err();
    assert!(matches!(
        refused,
        SignedPolicyError::Signed(SignedError::PayloadType { .. })
    ));
    let twice = String::from_utf8(payload).unwrap();
    let twice = twice.replacen("\"generation\":7", "\"generation\":7,\"generation\":8", 1);
    let twice = key.sign(POLICY_TYPE, twice.as_bytes()).unwrap();
    assert!(
        SignedPolicy::verify(&twice, &keys).is_err(),
        "one name, two values"
    );
}

fn pcr_policy(pcrs: &[u8]) -> SignedPcrPolicy {
    SignedPcrPolicy {
        pcrs: pcrs.to_vec(),
        policy: vec![1; 32].into(),
        signature: vec![2; 72].into(),
    }
}

#[test]
fn pcr_policies_come_with_a_boot_policy() {
    let key = SigningKey::generate().unwrap();
    let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
    let (boot, _) = known_good(&Machine::booted("node"));
    let object = |pcr_policies| PolicyObject {
        kind: PolicyKind::Boot,
        policy: boot.to_value().unwrap(),
        pcr_policies,
        ..object()
    };
    let good = vec![pcr_policy(&[4, 7]), pcr_policy(&[11])];
    let signed = SignedPolicy::sign(&object(good.clone()), &key).unwrap();
    let policy = SignedPolicy::verify(&signed, &keys).unwrap();
    assert_eq!(*policy.boot().unwrap().pcr_policies, *good);

    let refused = |object: PolicyObject| {
        let payload = serde_json::to_vec(&object).unwrap();
        let signed = key.sign(POLICY_TYPE, &payload).unwrap();
        let error = SignedPolicy::verify(&signed, &keys).unwrap_err();
        assert!(
            matches!(error, SignedPolicyError::PcrPolicies(_)),
            "{error}"
        );
    };
    refused(object(vec![pcr_policy(&[7, 4])]));
    refused(object(vec![pcr_policy(&[4]); MAX_PCR_POLICIES + 1]));
    refused(PolicyObject {
        pcr_policies: good,
        ..self::object()
    });
}

#[test]
fn names() {
    for (name, good) in [
        ("a", true),
        ("web-1.2", true),
        ("9", true),
        ("", false),
        ("-a", false),
        (".", false),
        ("a/b", false),
        ("a_b", false),
        ("A", false),
        ("ä", false),
    ] {
        assert_eq!(is_policy_name(name), good, "{name:?}");
    }
    assert!(is_policy_name(&"a".repeat(64)) && !is_policy_name(&"a".repeat(65)));
}

#[test]
fn ten_thousand_files_are_read_fast() {
    let files: serde_json::Map<String, Value> = (0..10_000)
        .map(|n| (format!("/usr/lib/file-{n}"), format!("{n:064x}").into()))
        .collect();
    let mut object = object();
    object.policy = json!({ "version": 1, "files": files });
    let key = SigningKey::generate().unwrap();
    let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
    let envelope = SignedPolicy::sign(&object, &key).unwrap();
    let started = std::time::Instant::now();
    let policy = SignedPolicy::verify(&envelope, &keys).unwrap();
    println!("10000 files verified and read in {:?}", started.elapsed());
    let generation = policy.runtime().unwrap();
    assert_eq!(generation.policy.files(), 10_000);
}

proptest! {
    #[test]
    fn signed_rubbish_is_refused_without_a_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = SigningKey::generate().unwrap();
        let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
        let envelope = key.sign(POLICY_TYPE, &payload).unwrap();
        prop_assert!(SignedPolicy::verify(&envelope, &keys).is_err());
    }

    #[test]
    fn what_is_signed_is_what_is_read(generation in 1u64.., from in 0u64..1000, length in 1u64..1000) {
        prop_assume!(generation <= i64::MAX as u64);
        let key = SigningKey::generate().unwrap();
        let keys = VerifyingKeys::from_pem(&key.public_pem()).unwrap();
        let object = PolicyObject { generation, valid_from_ms: from, valid_until_ms: from + length, ..object() };
        let read = SignedPolicy::verify(&SignedPolicy::sign(&object, &key).unwrap(), &keys).unwrap();
        prop_assert_eq!(read.generation(), generation);
        prop_assert_eq!(read.window_ms(), (from, from + length));
    }
}
