//! Debian's own cloud-init, run as the units order it, against platforms that behave and platforms that do not.
//!
//! Needs root and a Debian 12 root file system with cloud-init 22.4.2, named by `BOOTKEEP_CLOUD_INIT_ROOT`:
//! `cargo test -p bootkeep-cloud-init-handler --test real_cloud_init -- --ignored`. A run takes about four seconds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bootkeep_handover::{DocumentKey, ForCloudInit};
use bootkeep_protocol::link::Claim;
use bootkeep_tpkd::{seal_document, SealedText};

const OURS: &[u8] = b"#cloud-config\nwrite_files:\n  - path: /etc/applied\n    content: sesame\n";
const HOSTILE: &str = "#cloud-config\nwrite_files:\n  - path: /etc/hostile\n    content: x\nbootcmd: [touch /etc/hostile]\n";
const HOSTILE_HANDLER: &str = "#part-handler\ndef list_types():\n    open('/etc/hostile', 'w')\n    return ['text/x-bootkeep-sealed']\ndef handle_part(*a):\n    pass\n";
const HTTP_SEED: &str = "ds=nocloud-net;s=http://127.0.0.1:8099/";
const KEY: [u8; 32] = [7; 32];

/// What one boot finds, and what came of it.
struct Boot {
    work: tempfile::TempDir,
}

struct Outcome {
    out: PathBuf,
}

impl Boot {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        fs::write(
            work.path().join("cmdline"),
            "ro root=/dev/mapper/cryptroot\n",
        )
        .unwrap();
        fs::write(work.path().join("serial"), "VM-1\n").unwrap();
        Self { work }
    }

    fn write(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        let path = self.work.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        self
    }

    /// The hand-over of the initramfs.
    fn handed(self, documents: &[Vec<u8>], key: [u8; 32]) -> Self {
        let handed = ForCloudInit {
            node_id: node(),
            documents: documents
                .iter()
                .map(|document| document.clone().into())
                .collect(),
            keys: vec![DocumentKey {
                key_id: "k".into(),
                key: key.as_slice().into(),
            }],
        };
        self.write("user-data.json", serde_json::to_vec(&handed).unwrap())
    }

    /// The platform's metadata service, named in the firmware.
    fn served(self, user_data: &str, vendor_data: &str) -> Self {
        self.write("serial", HTTP_SEED)
            .write(
                "served/meta-data",
                "instance-id: i-1\npublic-keys: ['ssh-ed25519 AAAA evil']\n",
            )
            .write("served/user-data", user_data)
            .write("served/vendor-data", vendor_data)
    }

    fn run(&self) -> Outcome {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = std::env::var_os("BOOTKEEP_CLOUD_INIT_ROOT")
            .expect("BOOTKEEP_CLOUD_INIT_ROOT names a Debian root file system with cloud-init");
        let output = Command::new(here.join("tests/machine.sh"))
            .arg(root)
            .arg(env!("CARGO_BIN_EXE_bootkeep-cloud-init"))
            .arg(here.join("files"))
            .arg(self.work.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the machine failed: {errors}");
        Outcome {
            out: self.work.path().join("out"),
        }
    }
}

impl Outcome {
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.out.join(name)).unwrap_or_default()
    }

    fn code(&self, step: &str) -> i32 {
        self.text(&format!("{step}.code"))
            .trim()
            .parse()
            .unwrap_or(-1)
    }

    fn claims(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out.join("run/claims"));
        let mut codes: Vec<_> = entries
            .into_iter()
            .flatten()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .map(|text| serde_json::from_slice::<Claim>(&text).unwrap().code)
            .collect();
        codes.sort();
        codes.dedup();
        codes
    }

    /// Holds the outcome against: our user-data applied, the check's exit code, the claims. Hostile data never ran.
    fn expect(&self, applied: bool, check: i32, claims: &[&str]) {
        let log = ["seed.log", "local.log", "init.log", "check.log"].map(|name| self.text(name));
        let log = log.join("\n");
        assert!(
            !self.out.join("hostile").exists(),
            "the platform's configuration ran\n{log}"
        );
        assert_eq!(self.text("applied") == "sesame", applied, "applied\n{log}");
        assert_eq!(self.code("check"), check, "check\n{log}");
        assert_eq!(self.claims(), claims, "claims\n{log}");
        assert_eq!(
            self.text("leaks"),
            "",
            "plain text outside the instance's folder"
        );
        assert!(
            !self.text("run/cloud-init/state").contains("\"key\""),
            "keys were left"
        );
    }
}

fn node() -> String {
    "a".repeat(64)
}

fn sealed_for(audience: &str) -> Vec<u8> {
    let key = bootkeep_tpkd::DocumentKey::from_bytes("k", KEY);
    seal_document(&key, audience, OURS).unwrap()
}

fn message(sealed: &[u8]) -> String {
    SealedText::encode(sealed).message()
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn the_envelopes_document_is_applied() {
    let boot = Boot::new().handed(&[sealed_for(&node())], KEY);
    boot.run().expect(true, 0, &[]);
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn several_documents_are_applied() {
    let other = bootkeep_tpkd::DocumentKey::from_bytes("k", KEY);
    let script = seal_document(&other, "web", b"#cloud-boothook\n#!/bin/sh\ntrue\n").unwrap();
    let boot = Boot::new().handed(&[script, sealed_for(&node())], KEY);
    boot.run().expect(true, 0, &[]);
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn beside_an_envelope_the_platform_has_no_say() {
    let boot = Boot::new()
        .handed(&[sealed_for(&node())], KEY)
        .served(HOSTILE, HOSTILE)
        .write("labels/CIDATA", "");
    boot.run()
        .expect(true, 1, &["cloud-init-cidata", "cloud-init-other-seed"]);
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn a_sealed_part_through_the_metadata_service_is_applied() {
    for audience in [node(), "web".into()] {
        let boot = Boot::new()
            .handed(&[], KEY)
            .served(&message(&sealed_for(&audience)), "");
        boot.run().expect(true, 0, &[]);
    }
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn parts_that_the_platform_adds_are_refused() {
    let body = SealedText::encode(&sealed_for("web")).0;
    let mixed = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n\
         --b\nContent-Type: text/cloud-config\n\n{HOSTILE}\n\
         --b\nContent-Type: text/part-handler\n\n{HOSTILE_HANDLER}\n\
         --b\nContent-Type: text/x-bootkeep-sealed\n\n{body}\n--b--\n"
    );
    let boot = Boot::new().handed(&[], KEY).served(&mixed, HOSTILE);
    boot.run().expect(true, 1, &["cloud-init-unsealed-part"]);
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn unsealed_user_data_alone_is_refused() {
    for user_data in [HOSTILE, HOSTILE_HANDLER] {
        let boot = Boot::new().handed(&[], KEY).served(user_data, "");
        let outcome = boot.run();
        outcome.expect(
            false,
            1,
            &["cloud-init-not-applied", "cloud-init-unsealed-part"],
        );
    }
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn a_seed_that_is_read_before_the_network_is_refused_too() {
    let boot = Boot::new()
        .served(HOSTILE, HOSTILE)
        .write("serial", "ds=nocloud;s=/run/served/");
    boot.run().expect(false, 1, &["cloud-init-unsealed-part"]);
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn documents_that_do_not_open_fail_the_check() {
    let cases = [
        (sealed_for(&node()), [8; 32]),
        (sealed_for(&"b".repeat(64)), KEY),
    ];
    for (document, key) in cases {
        let boot = Boot::new().handed(&[document], key);
        let outcome = boot.run();
        outcome.expect(
            false,
            1,
            &["cloud-init-not-applied", "cloud-init-sealed-refused"],
        );
    }
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn configuration_on_the_command_line_stops_cloud_init() {
    let boot = Boot::new().write("cmdline", "ro cc: bootcmd: [touch /etc/hostile] end_cc\n");
    let outcome = boot.run();
    assert_eq!(outcome.code("seed"), 1);
    outcome.expect(
        false,
        1,
        &["cloud-init-kernel-config", "cloud-init-not-applied"],
    );
}

#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn a_cloud_init_that_the_guard_does_not_fit_is_not_started() {
    let break_it = "sed -i s/walker_callback/other_name/g /usr/lib/python3/dist-packages/cloudinit/handlers/__init__.py";
    let boot = Boot::new().served(HOSTILE, "").write("before", break_it);
    let outcome = boot.run();
    assert_eq!(outcome.code("seed"), 1);
    outcome.expect(false, 1, &["cloud-init-guard", "cloud-init-not-applied"]);
}

/// The same parts do run once the owner has allowed them: the refusals above are the guard's doing.
#[test]
#[ignore = "needs root and BOOTKEEP_CLOUD_INIT_ROOT"]
fn the_owner_may_allow_unsealed_parts() {
    let allow = "echo 'require_sealed: false' > /etc/bootkeep/cloud-init.yaml; \
                 sed -i s/allow_public_ssh_keys:.*// /etc/cloud/cloud.cfg.d/90-bootkeep.cfg";
    let boot = Boot::new().served(HOSTILE, "").write("before", allow);
    let outcome = boot.run();
    assert!(outcome.out.join("hostile").exists());
    assert_ne!(outcome.text("logins"), "");
    assert_eq!(outcome.code("check"), 0);
}
