//! Each rule of a runtime policy accepts what it says and nothing beside; each refusal has a code of its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use bootkeep_evidence::ima::{parse_binary, Entry};
use bootkeep_policy::{Explanation, RuntimePolicy, RuntimeRules};
use common::Machine;
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn data(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evidence/tests/data/ima");
    fs::read(folder.join(name)).unwrap()
}

/// A PEM text as a block of YAML.
fn pem(name: &str, indent: usize) -> String {
    let text = String::from_utf8(data(name)).unwrap();
    let indent = " ".repeat(indent);
    text.lines()
        .map(|line| format!("\n{indent}{line}"))
        .collect()
}

/// What the kernel would write for one measurement.
fn entry(measure: impl FnOnce(&mut Machine)) -> Entry {
    let mut machine = Machine::booted("node");
    machine.ima.clear();
    measure(&mut machine);
    parse_binary(&machine.ima).unwrap().0.remove(0)
}

fn file(path: &str, contents: &[u8]) -> Entry {
    entry(|machine| machine.measure(path, contents))
}

fn signed(path: &str, algorithm: &str, signature: &str) -> Entry {
    let contents = data("file");
    let digest = match algorithm.rsplit(':').next().unwrap() {
        "sha512" => Sha512::digest(&contents).to_vec(),
        _ => Sha256::digest(&contents).to_vec(),
    };
    let field = [format!("{algorithm}:\0").as_bytes(), &digest].concat();
    entry(|machine| machine.measure_signed(path, &field, &data(signature)))
}

fn buffer(name: &str, contents: &[u8]) -> Entry {
    entry(|machine| machine.measure_buffer(name, contents))
}

fn policy(rules: &str) -> RuntimePolicy {
    let text = format!("version: 2\nfiles:\n  /usr/bin/empty: {HEX}\n{rules}");
    RuntimePolicy::from_text(text.as_bytes()).unwrap()
}

fn code(policy: &RuntimePolicy, entry: &Entry) -> String {
    let explained = policy.explain(entry);
    let Some(reason) = policy.refusal(7, entry) else {
        assert!(matches!(explained, Explanation::Accepted(_)));
        return "accepted".into();
    };
    assert!(explained
        .to_string()
        .contains(&format!("({})", reason.code)));
    assert!(
        reason.detail.starts_with("IMA entry 7, ") && reason.detail.contains(&entry.path),
        "{}",
        reason.detail
    );
    reason.code
}

fn table(rules: &str, cases: &[(Entry, &str)]) {
    let policy = policy(rules);
    for (entry, expected) in cases {
        assert_eq!(code(&policy, entry), *expected, "{}", entry.path);
        let again = RuntimePolicy::from_text(policy.to_yaml().unwrap().as_bytes()).unwrap();
        assert_eq!(again, policy);
        assert_eq!(code(&again, entry), *expected, "written and read again");
        let again = RuntimePolicy::from_value(policy.to_value().unwrap()).unwrap();
        assert_eq!(again, policy);
    }
}

#[test]
fn files_are_accepted_by_path_and_digest() {
    // The same 32 bytes, but of fs-verity: that is another digest.
    let verity = entry(|machine| {
        let field = [b"verity:sha256:\0".as_slice(), &Sha256::digest(b"")].concat();
        machine.measure_field("ima-ngv2", "/usr/bin/empty", &field, false);
    });
    table(
        "also_under: [ /sysroot ]\n",
        &[
            (file("/usr/bin/empty", b""), "accepted"),
            (file("/sysroot/usr/bin/empty", b""), "accepted"),
            (file("/sysrootusr/bin/empty", b""), "file-not-listed"),
            (file("/usr/bin/empty", b"x"), "file-digest"),
            (verity, "file-digest-algorithm"),
            (file("/usr/bin/empty2", b""), "file-not-listed"),
            (
                signed("/usr/bin/empty", "sha512", "p256-sha512.sig"),
                "file-digest-algorithm",
            ),
        ],
    );
}

#[test]
fn patterns_are_anchored_and_stay_in_their_folder() {
    table(
        "excludes: [ '/var/log/*', { regex: '/run/user/[0-9]+/.*' }, { regex: '/x|/y' } ]\n",
        &[
            (file("/var/log/a", b"1"), "accepted"),
            (file("/var/log/a/b", b"1"), "file-not-listed"),
            (file("/x/var/log/a", b"1"), "file-not-listed"),
            (file("/run/user/1000/a/b", b"1"), "accepted"),
            (file("/run/user/x/a", b"1"), "file-not-listed"),
            (file("/tmp/run/user/1000/a", b"1"), "file-not-listed"),
            (file("/x", b"1"), "accepted"),
            (file("/y", b"1"), "accepted"),
            (file("/xy", b"1"), "file-not-listed"),
            (file("/z/y", b"1"), "file-not-listed"),
        ],
    );
}

#[test]
fn digests_can_go_with_a_pattern() {
    let one = hex::encode(Sha256::digest(b"1"));
    let verity = format!("verity:sha256:{one}");
    let rules = format!(
        "rules:\n  - path: '/lib/modules/*/a.ko'\n    digests: [ 'sha256:{one}' ]\n  \
         - path: '/lib/**'\n    digests: [ '{HEX}', '{verity}' ]\n"
    );
    let verity = entry(|machine| {
        let field = [b"verity:sha256:\0".as_slice(), &Sha256::digest(b"1")].concat();
        machine.measure_field("ima-ngv2", "/lib/v", &field, false);
    });
    table(
        &rules,
        &[
            (file("/lib/modules/6.1/a.ko", b"1"), "accepted"),
            (file("/lib/modules/6.1/a.ko", b""), "accepted"),
            (file("/lib/modules/6.1/a.ko", b"2"), "file-digest"),
            (file("/lib/b.ko", b"1"), "file-digest"),
            (verity, "accepted"),
            (file("/usr/lib/b.ko", b""), "file-not-listed"),
        ],
    );
}

#[test]
fn signatures_speak_for_files() {
    let rules = format!(
        "signing_keys:\n  - name: rsa\n    pem: |{}\n  - name: p384\n    pem: |{}\n    paths: [ '/opt/**' ]\n",
        pem("rsa.crt", 6),
        pem("p384.pub", 6)
    );
    let mut other = signed("/bin/a", "sha256", "rsa-sha256.sig");
    other.digest.as_mut().unwrap().bytes[0] ^= 1;
    let mut garbled = signed("/bin/a", "sha256", "rsa-sha256.sig");
    garbled.signature.truncate(30);
    let mut portable = signed("/bin/a", "sha256", "rsa-sha256.sig");
    portable.signature[0] = 5;
    table(
        &rules,
        &[
            (signed("/bin/a", "sha256", "rsa-sha256.sig"), "accepted"),
            (signed("/bin/a", "sha512", "rsa-sha512.sig"), "accepted"),
            (signed("/bin/a", "sha256", "rsa-v3.sig"), "accepted"),
            (signed("/opt/a", "sha256", "p384-sha256.sig"), "accepted"),
            (
                signed("/bin/a", "sha256", "p384-sha256.sig"),
                "file-signature-path",
            ),
            (
                signed("/bin/a", "sha256", "p256-sha256.sig"),
                "file-signature-key",
            ),
            (other, "file-signature"),
            (garbled, "file-signature-malformed"),
            (portable, "file-signature-kind"),
            (
                signed("/bin/a", "sha256", "rsa-sha1.sig"),
                "file-signature-algorithm",
            ),
            (
                signed("/bin/a", "sha256", "rsa-sha512.sig"),
                "file-signature-algorithm",
            ),
            (file("/bin/a", b""), "file-not-listed"),
            // A listed file needs no signature; one that is listed otherwise may have one.
            (file("/usr/bin/empty", b""), "accepted"),
            (
                signed("/usr/bin/empty", "sha256", "rsa-sha256.sig"),
                "accepted",
            ),
        ],
    );
}

#[test]
fn certificates_give_their_own_key_id() {
    for (key, signature, expected) in [
        ("skid.crt", "skid-sha256.sig", "accepted"),
        ("p256.crt", "p256-sha256.sig", "accepted"),
        ("rsa.pub", "skid-sha256.sig", "file-signature-key"),
    ] {
        let rules = format!("signing_keys:\n  - name: k\n    pem: |{}\n", pem(key, 6));
        table(&rules, &[(signed("/bin/a", "sha256", signature), expected)]);
    }
    let key = pem("p256.pub", 6);
    let rules = format!("signing_keys:\n  - name: k\n    pem: |{key}\n");
    let verity = signed("/bin/a", "verity:sha256", "p256-verity.sig");
    // The digest of fs-verity is of another kind: a signature of one does not speak for the other.
    let plain = signed("/bin/a", "sha256", "p256-verity.sig");
    table(
        &rules,
        &[(verity, "accepted"), (plain, "file-signature-algorithm")],
    );
}

#[test]
fn refusals_go_before_everything() {
    let rules = format!(
        "also_under: [ /sysroot ]\nexcludes: [ '/tmp/**' ]\nrefuse: [ '/usr/bin/empty', '/tmp/*', {{ regex: '/bin/.*' }} ]\n\
         signing_keys:\n  - name: rsa\n    pem: |{}\n",
        pem("rsa.pub", 6)
    );
    table(
        &rules,
        &[
            (file("/usr/bin/empty", b""), "file-refused"),
            (file("/sysroot/usr/bin/empty", b""), "file-refused"),
            (file("/tmp/a", b""), "file-refused"),
            (file("/tmp/a/b", b""), "accepted"),
            (signed("/bin/a", "sha256", "rsa-sha256.sig"), "file-refused"),
        ],
    );
}

#[test]
fn files_in_memory_go_by_their_rule() {
    let one = hex::encode(Sha256::digest(b"1"));
    let excluded = "excludes: [ 'memfd:*' ]\n";
    for (rule, name, expected) in [
        ("listed", "memfd:a", "accepted"),
        ("listed", "memfd:b", "file-not-listed"),
        ("accept", "memfd:b", "accepted"),
        ("accept", "/memfd:b", "accepted"),
        ("accept", "/tmp/memfd:b", "file-not-listed"),
        ("refuse", "memfd:a", "memfd"),
        ("refuse", "/memfd:a", "memfd"),
    ] {
        let text = format!("version: 2\nmemfd: {rule}\nfiles: {{ 'memfd:a': '{one}' }}\n");
        let policy = RuntimePolicy::from_text(text.as_bytes()).unwrap();
        assert_eq!(code(&policy, &file(name, b"1")), expected, "{rule} {name}");
        let text = format!("{text}{excluded}");
        let policy = RuntimePolicy::from_text(text.as_bytes()).unwrap();
        let excluded = code(&policy, &file("memfd:a", b"2"));
        assert_eq!(excluded == "accepted", rule != "refuse");
    }
}

#[test]
fn files_are_the_same_under_an_overlay() {
    table(
        "overlay: [ '/var/lib/containers/overlay/*/diff', '/run/c/[0-9]*/root' ]\n",
        &[
            (
                file("/var/lib/containers/overlay/ab12/diff/usr/bin/empty", b""),
                "accepted",
            ),
            (
                file("/var/lib/containers/overlay/ab12/diff/usr/bin/empty", b"x"),
                "file-digest",
            ),
            (file("/run/c/7f/root/usr/bin/empty", b""), "accepted"),
            (file("/run/c/x/root/usr/bin/empty", b""), "file-not-listed"),
            (
                file("/var/lib/containers/overlay/a/b/diff/usr/bin/empty", b""),
                "file-not-listed",
            ),
            (
                file("/x/var/lib/containers/overlay/a/diff/usr/bin/empty", b""),
                "file-not-listed",
            ),
            (
                file("/var/lib/containers/overlay/a/diffusr/bin/empty", b""),
                "file-not-listed",
            ),
        ],
    );
}

#[test]
fn violations_are_explained_and_no_path_helps() {
    let violation = entry(|machine| machine.violate("/usr/bin/empty"));
    let strict = policy("excludes: [ '/**' ]\n");
    assert_eq!(code(&strict, &violation), "ima-violation");
    let text = strict.explain(&violation).to_string();
    for word in ["open_writers", "ToMToU", "neither path nor kind"] {
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(
        code(&policy("violations: accept\n"), &violation),
        "accepted"
    );
}

#[test]
fn buffers_go_by_their_own_rules() {
    let certificate = {
        let text = String::from_utf8(data("rsa.crt")).unwrap();
        let lines: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        base64(&lines)
    };
    let rules = format!(
        "excludes: [ '**', '.*' ]\nbuffers:\n  .ima:\n    - certificate: |{}\n    - sha256: {HEX}\n  kexec-cmdline:\n    \
         - text: root=/dev/sda1 quiet\n    - text: {{ regex: 'root=/dev/sd[a-z]+ quiet' }}\n  kernel_version:\n    \
         - text: 6.1.0\n    - text: 7\n  policy:\n    - sha256: {HEX}\n",
        pem("rsa.crt", 8)
    );
    let mut other = buffer("policy", b"");
    other.buffer = Some(b"x".to_vec());
    let mut odd = buffer("policy", b"");
    odd.digest.as_mut().unwrap().algorithm = "sm3".into();
    table(
        &rules,
        &[
            (buffer(".ima", &certificate), "accepted"),
            (buffer(".ima", b""), "accepted"),
            (buffer(".ima", b"another key"), "keyring-key"),
            (
                buffer(".builtin_trusted_keys", &certificate),
                "buffer-not-listed",
            ),
            (buffer("kexec-cmdline", b"root=/dev/sda1 quiet"), "accepted"),
            (buffer("kexec-cmdline", b"root=/dev/sdb quiet"), "accepted"),
            (
                buffer("kexec-cmdline", b"root=/dev/sdb quiet init=/bin/sh"),
                "kexec-cmdline",
            ),
            (buffer("kexec-cmdline", b""), "kexec-cmdline"),
            (buffer("kernel_version", b"6.1.0"), "accepted"),
            (buffer("kernel_version", b"7"), "accepted"),
            (buffer("kernel_version", b"6x1.0"), "buffer"),
            (buffer("policy", b""), "accepted"),
            (buffer("selinux-state", b""), "buffer-not-listed"),
            (other, "buffer-digest"),
            (odd, "buffer-digest"),
        ],
    );
    // A file cannot pass by the rules of a buffer.
    let file_named_so = file("policy", b"");
    let without = policy(&rules.replace("excludes: [ '**', '.*' ]\n", ""));
    assert_eq!(code(&without, &file_named_so), "file-not-listed");
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|digit| *digit == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

fn meta(name: &str, uuid: &str, targets: usize) -> String {
    format!("name={name},uuid={uuid},major=253,minor=0,minor_count=1,num_targets={targets};")
}

fn load(name: &str, uuid: &str, targets: &[&str]) -> Entry {
    let mut text = format!("dm_version=4.45.0;{}", meta(name, uuid, targets.len()));
    for (index, target) in targets.iter().enumerate() {
        text += &format!("target_index={index},target_begin=0,target_len=8,{target};");
    }
    buffer("dm_table_load", text.as_bytes())
}

#[test]
fn tables_of_device_mapper_go_by_their_rules() {
    let rules = "device_mapper:
  - name: root
    uuid: 'CRYPT-VERITY-*'
    targets:
      - { target_name: verity, verity_algorithm: sha256, root_digest: '29cb' }
  - name: { regex: 'data[0-9]' }
    targets:
      - { target_name: crypt, cipher_string: { regex: 'aes-xts-.*' }, key_size: 64 }
  - name: 'vg-*'
";
    let verity = "target_name=verity,target_version=1.8.0,hash_failed=V,verity_algorithm=sha256,root_digest=29cb";
    let crypt = "target_name=crypt,allow_discards=n,cipher_string=aes-xts-plain64,key_size=64";
    let linear = "target_name=linear,device_name=7:0,start=512";
    let event =
        |name: &str, text: String| buffer(name, format!("dm_version=4.45.0;{text}").as_bytes());
    let uuid = "CRYPT-VERITY-1";
    let rename = |from: &str, to: &str| {
        let text = format!(
            "{}new_name={to},new_uuid=;current_device_capacity=2;",
            meta(from, "", 1)
        );
        event("dm_device_rename", text)
    };
    let resume = |name: &str| {
        let text = format!(
            "{}active_table_hash=sha256:4d;current_device_capacity=8;",
            meta(name, "", 1)
        );
        event("dm_device_resume", text)
    };
    table(
        rules,
        &[
            (load("root", uuid, &[verity]), "accepted"),
            (
                load("root", uuid, &[&verity.replace("29cb", "29cc")]),
                "dm-table",
            ),
            (
                load("root", uuid, &[&verity.replace("29cb", "29cb0")]),
                "dm-table",
            ),
            (
                load(
                    "root",
                    uuid,
                    &[&verity.replace("hash_failed=V", "hash_failed=C")],
                ),
                "dm-table",
            ),
            (load("root", uuid, &[linear]), "dm-table"),
            (load("root", uuid, &[verity, linear]), "dm-table"),
            (load("root", "", &[verity]), "dm-device"),
            (load("root2", uuid, &[verity]), "dm-device"),
            (
                load(
                    "root",
                    uuid,
                    &["target_name=verity,root_digest=29cb,root_digest=00"],
                ),
                "dm-malformed",
            ),
            (load("data1", "", &[crypt]), "accepted"),
            (
                load("data1", "", &[&crypt.replace("xts", "cbc")]),
                "dm-table",
            ),
            (load("data1", "", &[&crypt.replace("64", "32")]), "dm-table"),
            (load("vg-x", "", &[linear, linear]), "accepted"),
            (resume("data1"), "accepted"),
            (resume("other"), "dm-device"),
            (rename("vg-a", "vg-b"), "accepted"),
            // A table that a lax rule let in must not get a name that a strict one is about.
            (rename("vg-a", "data1"), "dm-rename"),
            (rename("vg-a", "other"), "dm-rename"),
            (
                event(
                    "dm_target_update",
                    format!("{}target_index=0,{crypt};", meta("data1", "", 1)),
                ),
                "accepted",
            ),
            (
                event(
                    "dm_target_update",
                    format!("{}target_index=0,{linear};", meta("data1", "", 1)),
                ),
                "dm-table",
            ),
            (
                event(
                    "dm_target_update",
                    format!(
                        "{}target_index=0,{};",
                        meta("root", uuid, 1),
                        verity.replace("hash_failed=V", "hash_failed=C")
                    ),
                ),
                "dm-table",
            ),
            (buffer("dm_table_load", b"?"), "dm-malformed"),
        ],
    );
    let exact = hex::encode(Sha256::digest(b"?"));
    let rules = format!("buffers:\n  dm_table_load: [ {{ sha256: {exact} }} ]\n");
    table(&rules, &[(buffer("dm_table_load", b"?"), "accepted")]);
}

#[test]
fn explanations_name_the_rule() {
    let rules = format!(
        "excludes: [ '/var/log/*' ]\noverlay: [ '/o/*' ]\nsigning_keys:\n  - name: vendor\n    pem: |{}\n",
        pem("rsa.pub", 6)
    );
    let policy = policy(&rules);
    for (entry, text) in [
        (file("/usr/bin/empty", b""), "accepted by files"),
        (
            file("/o/1/usr/bin/empty", b""),
            "accepted by files, as /usr/bin/empty",
        ),
        (file("/var/log/a", b""), "accepted by excludes (/var/log/*)"),
        (
            signed("/a", "sha256", "rsa-sha256.sig"),
            "accepted by signing key \"vendor\"",
        ),
        (
            signed("/a", "sha256", "p256-sha256.sig"),
            "is signed with the key 2dd5cc2a, which is not in the policy",
        ),
        (file("/a", b""), "refused: not in the policy (sha256:e3b0"),
    ] {
        let explained = policy.explain(&entry).to_string();
        assert!(explained.contains(text), "{explained}");
    }
}

#[test]
fn a_list_of_a_node_makes_a_policy_of_it() {
    let mut machine = Machine::booted("node");
    machine.measure("/usr/bin/a", b"a");
    machine.measure_buffer("kexec-cmdline", b"quiet");
    machine.violate("/var/log/wtmp");
    let (entries, _) = parse_binary(&machine.ima).unwrap();
    let policy = RuntimePolicy::from_list(&entries).unwrap();
    let refused: Vec<_> = entries
        .iter()
        .skip(1)
        .filter_map(|entry| policy.refusal(0, entry))
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].code, "ima-violation");
    assert_eq!(policy.to_value().unwrap()["version"], 2);
    assert_eq!(
        code(&policy, &buffer("kexec-cmdline", b"other")),
        "kexec-cmdline"
    );
    assert_eq!(
        code(&policy, &file("kexec-cmdline", b"quiet")),
        "file-not-listed"
    );
}

#[test]
fn what_weakens_a_policy_is_warned_of() {
    let key = |paths: &str| {
        format!(
            "signing_keys:\n  - name: k\n    pem: |{}\n{paths}",
            pem("rsa.pub", 6)
        )
    };
    for (rules, expected) in [
        (String::new(), vec![]),
        (
            "excludes: [ { regex: '.*' } ]\n".into(),
            vec!["\".*\" is wide"],
        ),
        (
            "excludes: [ { regex: '/(usr|lib)/.*' } ]\n".into(),
            vec!["is wide"],
        ),
        ("excludes: [ { regex: '/var/log/.*' } ]\n".into(), vec![]),
        ("excludes: [ '/home/**' ]\n".into(), vec!["is wide"]),
        (
            "violations: accept\nmemfd: accept\n".into(),
            vec!["violations", "memfd"],
        ),
        ("memfd: refuse\n".into(), vec![]),
        (key(""), vec!["speaks for files anywhere", "old versions"]),
        (key("    paths: [ '/opt/v/**' ]\n"), vec!["old versions"]),
        (
            "overlay: [ '/*' ]\n".into(),
            vec!["overlay prefix \"/*\" is wide"],
        ),
        ("overlay: [ '/var/lib/c/*/diff' ]\n".into(), vec![]),
        (
            "buffers: { kexec-cmdline: [ { text: { regex: '.*' } } ] }\n".into(),
            vec!["almost anything"],
        ),
        (
            "buffers: { kexec-cmdline: [ { text: { regex: 'quiet .*' } } ] }\n".into(),
            vec![],
        ),
        ("device_mapper: [ { name: a } ]\n".into(), vec!["any table"]),
        (
            "device_mapper: [ { name: a, targets: [ { start: 0 } ] } ]\n".into(),
            vec!["of any kind"],
        ),
        (
            "device_mapper: [ { name: a, targets: [ { target_name: verity } ] } ]\n".into(),
            vec!["without root_digest"],
        ),
        (
            "device_mapper: [ { name: a, targets: [ { target_name: crypt } ] } ]\n".into(),
            vec![],
        ),
    ] {
        let warnings = policy(&rules).warnings();
        assert_eq!(warnings.len(), expected.len(), "{rules}{warnings:?}");
        for (warning, text) in warnings.iter().zip(expected) {
            assert!(warning.contains(text), "{warning}");
        }
    }
}

#[test]
fn documents_are_bounded_and_strict() {
    let read = |rules: &str| {
        let text = format!("version: 2\nfiles: {{ /a: {HEX} }}\n{rules}");
        RuntimePolicy::from_text(text.as_bytes()).map(|_| ())
    };
    let key = |name: &str| format!("signing_keys:\n  - name: k\n    pem: |{}\n", pem(name, 6));
    assert!(read("").is_ok());
    assert!(read(&key("rsa.pub")).is_ok());
    let many = "'/x', ".repeat(257);
    let brackets = "(".repeat(40) + &")".repeat(40);
    for (bad, problem) in [
        (format!("excludes: [ {many} ]\n"), "more than 256 patterns"),
        (
            "excludes: [ { regex: 'a)|(b' } ]\n".into(),
            "cannot be used",
        ),
        ("excludes: [ { regex: '(a' } ]\n".into(), "cannot be used"),
        (
            "excludes: [ { regex: '(a)\\1' } ]\n".into(),
            "cannot be used",
        ),
        (
            "excludes: [ { regex: '(?=a)b' } ]\n".into(),
            "cannot be used",
        ),
        (
            "excludes: [ { regex: '(?x) a # ' } ]\n".into(),
            "cannot be used",
        ),
        ("excludes: [ { regex: '' } ]\n".into(), "1 to 1024 bytes"),
        (
            format!("excludes: [ {{ regex: '{}' }} ]\n", "a".repeat(1025)),
            "1 to 1024 bytes",
        ),
        (
            "excludes: [ { regex: '(\\w{100}){100}' } ]\n".into(),
            "cannot be used",
        ),
        (
            format!("excludes: [ {{ regex: '{brackets}' }} ]\n"),
            "cannot be used",
        ),
        ("excludes: [ { regex: a, glob: b } ]\n".into(), "excludes"),
        ("excludes: [ '[a' ]\n".into(), "cannot be used"),
        ("overlay: [ '/a/**/b' ]\n".into(), "no **"),
        ("overlay: [ 'a' ]\n".into(), "begins with a slash"),
        ("overlay: [ '/a/' ]\n".into(), "begins with a slash"),
        (
            "rules: [ { path: /a, digests: [ 'sha1:00' ] } ]\n".into(),
            "is not a digest",
        ),
        (
            format!("rules: [ {{ path: /a, digests: [ 'sha512:{HEX}' ] }} ]\n"),
            "is not a digest",
        ),
        (
            format!(
                "rules: [ {{ path: /a, digests: [ '{}' ] }} ]\n",
                HEX.to_uppercase()
            ),
            "is not a digest",
        ),
        (key("weak.pub"), "2048 bits"),
        (key("README.md"), "one CERTIFICATE or PUBLIC KEY"),
        (
            format!(
                "{}  - name: k\n    pem: |{}\n",
                key("rsa.pub"),
                pem("p256.pub", 6)
            ),
            "same name",
        ),
        (
            key("rsa.pub").replace("PUBLIC KEY", "PRIVATE KEY"),
            "private key",
        ),
        (
            format!(
                "signing_keys:\n  - name: k\n    pem: |{}{}\n",
                pem("rsa.pub", 6),
                pem("p256.pub", 6)
            ),
            "one CERTIFICATE",
        ),
        (
            "buffers: { .ima: [ { certificate: x } ] }\n".into(),
            "certificate cannot be read",
        ),
        ("buffers: { .ima: [ { sha256: x } ] }\n".into(), "buffers"),
        ("device_mapper: [ { name: a, other: b } ]\n".into(), "other"),
        ("memfd: maybe\n".into(), "maybe"),
        ("unknown: 1\n".into(), "unknown"),
        (format!("files: {{ /a: {HEX} }}\n"), "duplicate"),
    ] {
        let error = read(&bad).unwrap_err().to_string();
        assert!(error.contains(problem), "{bad}{error}");
    }
    let twice = format!("version: 2\nfiles:\n  /a: {HEX}\n  /a: {HEX}\n");
    let error = RuntimePolicy::from_text(twice.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn version_1_is_read_and_has_no_parts_of_version_2() {
    let old = |rules: &str| {
        let text = format!("{{\"version\":1,{rules}\"files\":{{\"/a\":\"{HEX}\"}}}}");
        RuntimePolicy::from_text(text.as_bytes())
    };
    let policy = old("\"excludes\":[\"/x/**\"],").unwrap();
    assert_eq!(code(&policy, &file("/x/y", b"1")), "accepted");
    assert_eq!(policy.to_value().unwrap()["version"], 1);
    for part in [
        "\"memfd\":\"refuse\",",
        "\"excludes\":[{\"regex\":\"a\"}],",
        "\"overlay\":[\"/a\"],",
        "\"refuse\":[\"/a\"],",
        "\"rules\":[{\"path\":\"/a\",\"digests\":[]}],",
        "\"buffers\":{\"a\":[]},",
        "\"device_mapper\":[{\"name\":\"a\"}],",
    ] {
        let error = old(part).unwrap_err().to_string();
        assert!(error.contains("needs \"version\": 2"), "{error}");
    }
}

#[test]
fn merged_policies_keep_what_each_refuses() {
    let mut one = policy("memfd: accept\nbuffers: { a: [ { text: x } ] }\n");
    let two =
        policy("memfd: refuse\nrefuse: [ /r ]\nbuffers: { a: [ { text: y } ] }\noverlay: [ /o ]\n");
    one.merge(&two).unwrap();
    for (entry, expected) in [
        (file("memfd:x", b""), "memfd"),
        (file("/r", b""), "file-refused"),
        (buffer("a", b"x"), "accepted"),
        (buffer("a", b"y"), "accepted"),
        (file("/o/usr/bin/empty", b""), "accepted"),
    ] {
        assert_eq!(code(&one, &entry), expected, "{}", entry.path);
    }
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(text in "(version: 2\n)?[a-z/*:{}\\[\\]'\n ]{0,120}") {
        let _ = RuntimePolicy::from_text(text.as_bytes());
    }

    #[test]
    fn no_pattern_makes_the_matcher_panic(pattern in ".{0,40}", path in ".{0,40}") {
        let mut policy = policy("");
        let pattern = bootkeep_policy::PathPattern::regex(&pattern);
        if policy.exclude_patterns(&[pattern]).is_ok() {
            let _ = policy.explain(&file("/x", path.as_bytes()));
        }
    }
}
