//! Figures of runtime policies: how fast they load, what they take, how many entries a second they judge.
//!
//! `cargo run --release -p bootkeep-policy --example policy_scale [FILES]`
#![allow(clippy::unwrap_used)]

use std::{fs, sync::Arc, time::Instant};

use bootkeep_evidence::ima::{parse_binary, Entry};
use bootkeep_policy::{PathPattern, RuntimePolicy, RuntimeRules, SigningKey};
use sha2::{Digest, Sha256};

const NODES: usize = 1000;
const CHECKS: usize = 200_000;
const COPIES: usize = 20;

fn path(number: usize) -> String {
    format!(
        "/usr/lib/x86_64-linux-gnu/package-{}/file-{number}.so",
        number % 997
    )
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn entry(path: &str, contents: &[u8], signature: &[u8]) -> Entry {
    let digest = [b"sha256:\0".as_slice(), &Sha256::digest(contents)].concat();
    let name = [path.as_bytes(), &[0]].concat();
    let data = [counted(&digest), counted(&name), counted(signature)].concat();
    let head = [&10u32.to_le_bytes()[..], &[1; 20], &counted(b"ima-sig")].concat();
    let bytes = [head, counted(&data)].concat();
    parse_binary(&bytes).unwrap().0.remove(0)
}

/// Resident memory of this process (KiB).
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

fn policy(files: usize) -> RuntimePolicy {
    let mut policy = RuntimePolicy::default();
    for number in 0..files {
        let path = path(number);
        let digest = Sha256::digest(&path).into();
        policy.accept_file(&path, digest).unwrap();
    }
    let excludes: Vec<String> = (0..50).map(|n| format!("/var/lib/app-{n}/**")).collect();
    policy.exclude(&excludes).unwrap();
    policy
        .exclude_patterns(&[PathPattern::regex("/run/user/[0-9]+/.*")])
        .unwrap();
    for (name, pem) in [
        ("rsa", include_str!("../../evidence/tests/data/ima/rsa.pub")),
        (
            "p256",
            include_str!("../../evidence/tests/data/ima/p256.pub"),
        ),
    ] {
        let (name, pem, paths) = (name.to_owned(), pem.to_owned(), Vec::new());
        policy.accept_key(SigningKey { name, pem, paths }).unwrap();
    }
    policy
}

fn loading(policy: &RuntimePolicy) -> Arc<RuntimePolicy> {
    let json = serde_json::to_vec(policy).unwrap();
    let yaml = policy.to_yaml().unwrap();
    let started = Instant::now();
    drop(RuntimePolicy::from_text(yaml.as_bytes()).unwrap());
    println!(
        "  YAML, {} kB: read in {:.1?}",
        yaml.len() / 1000,
        started.elapsed()
    );
    let started = Instant::now();
    let read = Arc::new(RuntimePolicy::from_text(&json).unwrap());
    println!(
        "  JSON, {} kB: read in {:.1?}",
        json.len() / 1000,
        started.elapsed()
    );
    println!("  in memory: {} KiB", weight(&read));
    read
}

/// What one policy takes, from what many copies take: the first ones may fit into memory that was freed before.
fn weight(policy: &RuntimePolicy) -> u64 {
    let before = resident();
    let copies = vec![policy.clone(); COPIES];
    let grown = resident().saturating_sub(before);
    grown / copies.len() as u64
}

fn sharing(policy: &Arc<RuntimePolicy>) {
    let before = resident();
    let nodes: Vec<Arc<RuntimePolicy>> = vec![policy.clone(); NODES];
    let grown = resident().saturating_sub(before);
    println!("  held by {} nodes: {grown} KiB more", nodes.len());
}

fn rate(policy: &RuntimePolicy, what: &str, entries: &[Entry], count: usize) {
    let started = Instant::now();
    let mut refused = 0;
    for entry in entries.iter().cycle().take(count) {
        refused += usize::from(policy.refusal(0, entry).is_some());
    }
    let elapsed = started.elapsed();
    let rate = count as f64 / elapsed.as_secs_f64();
    println!("  {what}: {rate:.0} entries a second, {refused} of {count} refused");
}

fn main() {
    let files = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let files: usize = files.unwrap_or(10_000);
    println!("runtime policy of {files} files, 51 excludes, 2 signing keys");
    let policy = loading(&policy(files));
    sharing(&policy);
    let listed: Vec<Entry> = (0..files)
        .map(|number| entry(&path(number), path(number).as_bytes(), b""))
        .collect();
    let excluded: Vec<Entry> = (0..1000)
        .map(|number| entry(&format!("/var/lib/app-7/{number}"), b"", b""))
        .collect();
    let unlisted: Vec<Entry> = (0..1000)
        .map(|number| entry(&format!("/opt/{number}"), b"", b""))
        .collect();
    let file = include_bytes!("../../evidence/tests/data/ima/file");
    let signed = |signature: &[u8]| vec![entry("/opt/signed", file, signature)];
    let rsa = signed(include_bytes!(
        "../../evidence/tests/data/ima/rsa-sha256.sig"
    ));
    let p256 = signed(include_bytes!(
        "../../evidence/tests/data/ima/p256-sha256.sig"
    ));
    rate(&policy, "listed", &listed, CHECKS);
    rate(&policy, "excluded", &excluded, CHECKS);
    rate(&policy, "not listed", &unlisted, CHECKS);
    rate(&policy, "signed, RSA-2048", &rsa, CHECKS / 10);
    rate(&policy, "signed, P-256", &p256, CHECKS / 10);
}
