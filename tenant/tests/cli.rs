//! The real program without a service: exit codes, JSON, modes, nothing overwritten.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bootkeep_tpkd::{open_document, DocumentKey, SealedText};
use tempfile::TempDir;

fn run(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bootkeep"))
        .args(arguments)
        .env("BOOTKEEP_HOME", home)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a home in it, made under a umask that opens everything.
fn owner() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let made = Command::new("sh")
        .args([
            "-c",
            "umask 000; exec \"$0\" init \"$1\" --host svc.example --host 10.0.2.2",
        ])
        .arg(env!("CARGO_BIN_EXE_bootkeep"))
        .arg(&home)
        .output()
        .unwrap();
    assert_eq!(code(&made), 0, "{}", err(&made));
    (folder, home)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.is_dir() {
            walk(&path, found);
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn init_keeps_secrets_private_under_any_umask() {
    let (_folder, home) = owner();
    let mut paths = vec![home.clone()];
    walk(&home, &mut paths);
    let mut secrets = 0;
    for path in &paths {
        let secret = path.extension().is_some_and(|ending| ending == "key");
        secrets += usize::from(secret);
        let expected = match (path.is_dir(), secret) {
            (true, _) => 0o700,
            (false, true) => 0o600,
            (false, false) => 0o644,
        };
        assert_eq!(mode(path), expected, "{}", path.display());
        let text = fs::read(path).unwrap_or_default();
        let holds_key = String::from_utf8_lossy(&text).contains("PRIVATE KEY");
        assert!(!holds_key || secret, "{} holds a key", path.display());
    }
    assert_eq!(
        secrets, 10,
        "authority, four identities, two state keys, three signing keys"
    );
}

#[test]
fn init_says_where_everyone_is() {
    let (_folder, home) = owner();
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    assert!(read("node/agent.yaml").contains("https://svc.example:8891"));
    assert!(read("tenant.yaml").contains("https://127.0.0.1:8890"));
    assert!(read("verifier/verifier.yaml").contains("registrar: \"https://127.0.0.1:8890\""));
    assert!(read("ca/ca.yaml").contains("http://svc.example:8893/crl.der"));
    let verifier = read("verifier/verifier.yaml");
    for line in [
        "revocation_key: revocation.key",
        "policy_keys: policy.pem",
        "ca: \"https://127.0.0.1:8892\"",
    ] {
        assert!(verifier.contains(line), "{line}: {verifier}");
    }
    let ca = read("ca/ca.yaml");
    for line in [
        "ocsp_url: \"http://svc.example:8893/ocsp\"",
        "ca_url: \"http://svc.example:8893/ca.der\"",
    ] {
        assert!(ca.contains(line), "{line}: {ca}");
    }
    assert!(read("node/agent.yaml").contains("keys: /etc/bootkeep/revocation.pem"));
    assert_eq!(read("node/revocation.pem"), read("revocation.pem"));
    assert_eq!(read("verifier/policy.pem"), read("policy.pem"));
    assert_ne!(read("policy.pem"), read("revocation.pem"));
    assert!(read("ek-roots/README").contains("TPM makers"));
}

#[test]
fn init_never_overwrites() {
    let (_folder, home) = owner();
    let before = fs::read(home.join("tenant.key")).unwrap();
    fs::remove_file(home.join("ca.pem")).unwrap();
    let again = run(&home, &["init"]);
    assert_eq!(code(&again), 1);
    assert!(
        err(&again).contains("nothing was changed"),
        "{}",
        err(&again)
    );
    assert!(err(&again).contains("tenant.key"));
    assert_eq!(fs::read(home.join("tenant.key")).unwrap(), before);
    assert!(!home.join("ca.pem").exists(), "half an owner was made");
}

/// A home as the release before wrote it.
fn earlier_release(home: &Path) {
    for name in [
        "authorize.key",
        "policy.key",
        "policy.pem",
        "revocation.pem",
        "node/revocation.pem",
        "verifier/policy.pem",
        "verifier/revocation.key",
    ] {
        fs::remove_file(home.join(name)).unwrap();
    }
    for (name, from) in [
        ("verifier/verifier.yaml", "revocation_key:"),
        ("ca/ca.yaml", "ocsp_url:"),
        ("node/agent.yaml", "# Whose word"),
        ("tenant.yaml", "policy_key:"),
    ] {
        let text = fs::read_to_string(home.join(name)).unwrap();
        let end = text.find(from).unwrap();
        fs::write(home.join(name), &text[..end]).unwrap();
    }
}

#[test]
fn a_home_of_the_release_before_works_and_is_completed_on_request() {
    let (_folder, home) = owner();
    let mut paths = Vec::new();
    walk(&home, &mut paths);
    let today: Vec<(PathBuf, String)> = paths
        .iter()
        .filter(|path| path.is_file() && path.extension().is_some_and(|it| it == "yaml"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    earlier_release(&home);
    let before = fs::read(home.join("tenant.key")).unwrap();
    let list = run(
        &home,
        &[
            "policy",
            "sign",
            "--name",
            "web",
            "--kind",
            "boot",
            "--generation",
            "1",
            "x",
        ],
    );
    assert_eq!(code(&list), 3);
    assert!(err(&list).contains("init --add"), "{}", err(&list));

    let added = run(&home, &["init", "--add"]);
    assert_eq!(code(&added), 0, "{}", err(&added));
    for (path, text) in &today {
        if !path.ends_with("tenant.yaml") {
            assert_eq!(
                &fs::read_to_string(path).unwrap(),
                text,
                "{}",
                path.display()
            );
        }
    }
    assert_eq!(mode(&home.join("verifier/revocation.key")), 0o600);
    assert_eq!(mode(&home.join("policy.key")), 0o600);
    assert_eq!(mode(&home.join("authorize.key")), 0o600);
    assert_eq!(fs::read(home.join("tenant.key")).unwrap(), before);

    let key = fs::read(home.join("policy.key")).unwrap();
    fs::remove_file(home.join("verifier/policy.pem")).unwrap();
    let again = run(&home, &["init", "--add"]);
    assert!(
        out(&again).contains("verifier/policy.pem"),
        "{}",
        out(&again)
    );
    assert_eq!(fs::read(home.join("policy.key")).unwrap(), key);
    assert_eq!(
        fs::read(home.join("verifier/policy.pem")).unwrap(),
        fs::read(home.join("policy.pem")).unwrap()
    );
    assert!(out(&run(&home, &["init", "--add"])).contains("lacks nothing"));
}

#[test]
fn init_does_not_follow_links_that_were_laid_out() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let target = folder.path().join("target");
    std::os::unix::fs::symlink(&target, home.join("tenant.key")).unwrap();
    let made = run(&home, &["init", "--host", "a"]);
    assert_eq!(code(&made), 1);
    assert!(!target.exists() && !home.join("ca.pem").exists());
}

#[test]
fn init_refuses_what_is_no_host() {
    let folder = tempfile::tempdir().unwrap();
    for host in ["a b", "https://x", "x\ny", "-x"] {
        let argument = format!("--host={host}");
        let made = run(&folder.path().join("home"), &["init", &argument]);
        assert_eq!(code(&made), 2, "{host:?}");
    }
}

#[test]
fn a_sealed_document_opens_with_its_key_only() {
    let (folder, home) = owner();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("plain"), "#cloud-config\n").unwrap();
    let arguments = [
        "--output",
        "json",
        "seal",
        "--audience",
        "web",
        "--new-key",
        &at("key"),
        &at("plain"),
        "-o",
        &at("sealed"),
    ];
    let sealed = run(&home, &arguments);
    assert_eq!(code(&sealed), 0, "{}", err(&sealed));
    let report: serde_json::Value = serde_json::from_slice(&sealed.stdout).unwrap();
    assert_eq!(report["for_node"], false);
    assert_eq!(mode(Path::new(&at("key"))), 0o600);

    let file: serde_json::Value = serde_json::from_slice(&fs::read(at("key")).unwrap()).unwrap();
    let bytes: bootkeep_protocol::Bytes = serde_json::from_value(file["key"].clone()).unwrap();
    let key_id = report["key_id"].as_str().unwrap();
    let key = DocumentKey::from_bytes(key_id, bytes.0.try_into().unwrap());
    let message = fs::read_to_string(at("sealed")).unwrap();
    let (headers, body) = message.split_once("\n\n").unwrap();
    assert!(headers.contains("text/x-bootkeep-sealed"));
    let document = SealedText::decode(body.as_bytes()).unwrap();
    assert_eq!(*open_document(&key, &document).unwrap(), b"#cloud-config\n");
    let other = DocumentKey::from_bytes(key_id, [1; 32]);
    assert!(open_document(&other, &document).is_err());

    // The same key serves again, neither key nor result is ever overwritten, and the text goes to standard output.
    let again = [
        "seal",
        "--audience",
        "web",
        "--key-file",
        &at("key"),
        &at("plain"),
    ];
    let again = run(&home, &again);
    assert!(
        out(&again).starts_with("MIME-Version: 1.0\n"),
        "{}",
        out(&again)
    );
    assert_eq!(code(&run(&home, &arguments)), 1);
    fs::set_permissions(at("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = run(
        &home,
        &[
            "seal",
            "--audience",
            "web",
            "--key-file",
            &at("key"),
            &at("plain"),
        ],
    );
    assert_eq!(code(&open), 1);
    assert!(err(&open).contains("chmod 600"), "{}", err(&open));
}

#[test]
fn exit_codes_tell_what_happened() {
    let (folder, home) = owner();
    let nowhere = folder.path().join("nowhere");
    let id = "0".repeat(64);
    let cases: [(&Path, &[&str], i32, &str); 9] = [
        (&home, &["--help"], 0, ""),
        (&home, &["frobnicate"], 2, "frobnicate"),
        (&home, &["policy", "create", "runtime"], 2, "--rootfs"),
        (
            &home,
            &[
                "seal",
                "--audience",
                "a b",
                "--new-key",
                "/nonexistent/k",
                "/dev/null",
            ],
            2,
            "group",
        ),
        (&nowhere, &["nodes"], 3, "bootkeep init"),
        (
            &home,
            &["policy", "show", "/nonexistent"],
            3,
            "does not exist",
        ),
        (&home, &["nodes"], 5, "registrar"),
        (&home, &["status", &id], 5, "verifier"),
        (
            &home,
            &["approve", "abc", "--note", "x"],
            2,
            "64 lower-case hex",
        ),
    ];
    for (home, arguments, expected, named) in cases {
        let output = run(home, arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", err(&output));
        assert!(
            err(&output).contains(named),
            "{arguments:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn errors_are_json_when_asked_for() {
    let (_folder, home) = owner();
    let output = run(&home, &["--output", "json", "nodes"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"], "unreachable");
    assert_eq!(error["exit_code"], 5);
    assert!(output.stdout.is_empty());
}

#[test]
fn an_exposed_identity_is_not_used() {
    let (_folder, home) = owner();
    fs::set_permissions(home.join("tenant.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = run(&home, &["nodes"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("chmod 600"), "{}", err(&output));
}

#[test]
fn policies_are_made_shown_and_checked() {
    let (folder, home) = owner();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/true"), "true").unwrap();
    let policy = folder.path().join("runtime.json");
    let policy = policy.to_str().unwrap();
    let root = root.to_str().unwrap();
    let create = [
        "policy",
        "create",
        "runtime",
        "--rootfs",
        root,
        "--exclude",
        "/var/log/**",
        "-o",
        policy,
    ];
    let made = run(&home, &create);
    assert_eq!(code(&made), 0, "{}", err(&made));
    assert!(out(&made).contains("1 files"), "{}", out(&made));
    let document: serde_json::Value = serde_json::from_slice(&fs::read(policy).unwrap()).unwrap();
    assert!(document["files"]["/usr/bin/true"].is_string(), "{document}");
    assert_eq!(code(&run(&home, &create)), 1, "overwritten");

    let shown = run(&home, &["--output", "json", "policy", "show", policy]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (shown["kind"].as_str(), shown["files"].as_u64()),
        (Some("runtime"), Some(1))
    );
    assert_eq!(code(&run(&home, &["policy", "check", policy])), 0);

    let empty = folder.path().join("empty.json");
    fs::write(&empty, r#"{"version":1,"files":{}}"#).unwrap();
    let checked = run(&home, &["policy", "check", empty.to_str().unwrap()]);
    assert_eq!(code(&checked), 1);
    fs::write(&empty, "{}").unwrap();
    assert_eq!(
        code(&run(&home, &["policy", "check", empty.to_str().unwrap()])),
        2
    );
}

#[test]
fn completions_and_manual_are_generated() {
    let (folder, home) = owner();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&home, &["completions", shell]);
        assert!(out(&output).contains("provision"), "{shell}");
    }
    let man = folder.path().join("man");
    assert_eq!(code(&run(&home, &["man", man.to_str().unwrap()])), 0);
    let page = fs::read_to_string(man.join("bootkeep-provision.1")).unwrap();
    assert!(page.contains("luks"), "{page}");
}
