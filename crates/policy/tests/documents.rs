//! Policies as documents: strict when read, made from real boots and trees.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, os::unix::fs::symlink, path::Path};

use bootkeep_evidence::{eventlog::EventLog, ima::parse_binary, pcr::extend, PcrValues};
use bootkeep_policy::{
    BootOptions, BootPolicy, PolicyError, RuntimePolicy, Tree, ValuePolicy, ViolationRule,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn values(policy: &BootPolicy) -> &ValuePolicy {
    match policy {
        BootPolicy::Values(policy) => policy,
        BootPolicy::Rules(_) => panic!("a policy of version 2"),
    }
}

fn corpus(path: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(path),
    )
    .unwrap()
}

#[test]
fn documents_are_read_strictly() {
    let boot = |text: &str| BootPolicy::from_json(text.as_bytes());
    let good =
        format!(r#"{{"version":1,"pcrs":{{"0":["{HEX}"]}},"event_log":{{"required":false}}}}"#);
    assert_eq!(values(&boot(&good).unwrap()).pcrs.len(), 1);
    for bad in [
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"0\"", "\"10\""),
        good.replace("\"0\"", "\"15\""),
        good.replace("\"0\"", "\"16\""),
        good.replace(HEX, &HEX.to_uppercase()),
        good.replace(HEX, &HEX[2..]),
        good.replace("\"pcrs\"", "\"extra\":1,\"pcrs\""),
        good.replace("}}", "},\"replay\":[10]}"),
        String::new(),
    ] {
        assert!(boot(&bad).is_err(), "{bad}");
    }
    let runtime = |text: &str| RuntimePolicy::from_json(text.as_bytes());
    let good =
        format!(r#"{{"version":1,"excludes":["/x/**"],"files":{{"/a":"{HEX}","/b":["{HEX}"]}}}}"#);
    assert_eq!(runtime(&good).unwrap().files(), 2);
    for bad in [
        good.replace("\"version\":1", "\"version\":0"),
        good.replace("/x/**", "/x/[a"),
        good.replace("/x/**", ""),
        good.replace("/x/**", &"x".repeat(300)),
        good.replace("/b", "/a"),
        good.replace(&format!("[\"{HEX}\"]"), "[]"),
        good.replace("\"files\"", "\"extra\":1,\"files\""),
        good.replace("\"version\":1", "\"version\":1,\"violations\":\"maybe\""),
    ] {
        assert!(runtime(&bad).is_err(), "{bad}");
    }
}

#[test]
fn documents_keep_their_form() {
    let (entries, _) = parse_binary(&corpus("ima_binary/debian12-tcb.bin")).unwrap();
    let mut policy = RuntimePolicy::from_list(&entries).unwrap();
    policy.exclude(&["/var/log/**".into()]).unwrap();
    policy.set_violations(ViolationRule::Accept);
    assert!(policy.files() > 900, "{}", policy.files());
    let again = RuntimePolicy::from_value(policy.to_value().unwrap()).unwrap();
    assert_eq!(again, policy);
}

#[test]
fn a_policy_of_a_real_boot_names_what_it_does_not_cover() {
    let policy_of = |name: &str| {
        let log = EventLog::parse(&corpus(name)).unwrap();
        let quoted: PcrValues = log
            .replay()
            .iter()
            .map(|(pcr, value)| (pcr, *value))
            .collect();
        (
            BootPolicy::from_evidence(&quoted, Some(&log), &BootOptions::default()).unwrap(),
            quoted,
            log,
        )
    };
    let (ovmf, mut quoted, log) = policy_of("event_log/debian12-ovmf.bin");
    assert!(values(&ovmf).event_log.required);
    assert!(values(&ovmf)
        .pcrs
        .keys()
        .copied()
        .eq((0..=9).chain(11..=14)));
    assert!(
        !ovmf
            .warnings()
            .iter()
            .any(|warning| warning.contains("kernel")),
        "{:?}",
        ovmf.warnings()
    );
    let (seabios, _, _) = policy_of("event_log/debian12-seabios.bin");
    assert!(seabios
        .warnings()
        .iter()
        .any(|warning| warning.contains("do not cover kernel")));

    quoted.set(7, extend(quoted.get(7).unwrap(), &[1; 32]));
    let result = BootPolicy::from_evidence(&quoted, Some(&log), &BootOptions::default());
    assert!(matches!(result, Err(PolicyError::Replay(7))));
    let without = BootOptions { without: vec![7] };
    let policy = BootPolicy::from_evidence(&quoted, Some(&log), &without).unwrap();
    let policy = values(&policy);
    assert!(!policy.pcrs.contains_key(&7) && !policy.event_log.events.contains_key(&7));
}

#[test]
fn two_kernels_can_be_accepted() {
    let value = |byte| [(4, [byte; 32]), (9, [1; 32])].into_iter().collect();
    let make = |values: &PcrValues| {
        BootPolicy::from_evidence(values, None, &BootOptions::default()).unwrap()
    };
    let mut policy = make(&value(1));
    policy.merge(&make(&value(2))).unwrap();
    let policy = values(&policy);
    assert_eq!(policy.pcrs[&4].len(), 2);
    assert_eq!(policy.pcrs[&9].len(), 1);
}

#[test]
fn trees_are_read_as_the_kernel_will_name_them() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::create_dir_all(path("usr/bin")).unwrap();
    fs::write(path("usr/bin/true"), b"true").unwrap();
    fs::write(path("a file"), b"").unwrap();
    symlink("usr/bin", path("bin")).unwrap();
    symlink("/etc/passwd", path("passwd")).unwrap();
    let policy = RuntimePolicy::from_trees(&[Tree::root(root.path())]).unwrap();
    let document = policy.to_value().unwrap();
    let files = document["files"].as_object().unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["/a_file", "/usr/bin/true"]);
    assert_eq!(files["/a_file"], HEX);
    assert_eq!(files["/usr/bin/true"], hex::encode(Sha256::digest(b"true")));
    let prefixed = Tree {
        prefix: "/sysroot".into(),
        ..Tree::root(root.path())
    };
    let policy = RuntimePolicy::from_trees(&[prefixed]).unwrap();
    assert!(policy.to_value().unwrap()["files"]
        .get("/sysroot/usr/bin/true")
        .is_some());
    assert!(RuntimePolicy::from_trees(&[Tree::root(&path("missing"))]).is_err());
}

#[test]
fn merged_policies_accept_both_and_keep_the_stricter_rules() {
    let mut one = RuntimePolicy::default();
    one.accept_file("/a", [1; 32]).unwrap();
    one.set_violations(ViolationRule::Accept);
    let mut two = RuntimePolicy::default();
    two.accept_file("/a", [2; 32]).unwrap();
    two.accept_file("/b", [3; 32]).unwrap();
    two.exclude(&["/c".into()]).unwrap();
    one.merge(&two).unwrap();
    assert_eq!(one.files(), 2);
    assert_eq!(one.excludes(), ["/c"]);
    assert_eq!(one.violations(), ViolationRule::Refuse);
    let document = one.to_value().unwrap();
    assert_eq!(document["files"]["/a"].as_array().unwrap().len(), 2);
}

#[test]
fn wide_excludes_are_warned_of() {
    for (pattern, wide) in [
        ("/**", true),
        ("**", true),
        ("/usr/**", true),
        ("/var/log/**", false),
        ("*", false),
    ] {
        let mut policy = RuntimePolicy::default();
        policy.accept_file("/a", [1; 32]).unwrap();
        policy.exclude(&[pattern.into()]).unwrap();
        assert_eq!(policy.warnings().len(), usize::from(wide), "{pattern}");
    }
    assert_eq!(RuntimePolicy::default().warnings().len(), 1);
}

proptest! {
    #[test]
    fn no_document_makes_a_reader_panic(text in ".{0,200}") {
        let _ = BootPolicy::from_json(text.as_bytes());
        let _ = RuntimePolicy::from_json(text.as_bytes());
    }

    #[test]
    fn no_exclude_makes_the_matcher_panic(pattern in ".{0,40}") {
        let _ = RuntimePolicy::default().exclude(&[pattern]);
    }
}
