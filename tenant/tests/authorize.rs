//! Updates: the next boot is accepted before it happens, and what was retired does not come back. Real services, a
//! software TPM, event logs of boots through shim and GRUB.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, sync::Arc};

use bootkeep_authorize::{pcr_policy, PcrValues};
use bootkeep_evidence::eventlog::EventLog;
use bootkeep_policy::{
    predict, sha256, Live, NewConfig, NewKernel, NextBoot, Rename, SignedPolicy,
};
use bootkeep_protocol::policy::PolicyKind;
use bootkeep_swtpm::Swtpm;
use bootkeep_tenant::signing::policy_keys;
use common::{
    bootkeep, file, json,
    node::{Agent, Node},
    services::Owner,
};

/// A boot of 6.1.0-50-amd64.
const FIRST: &[u8] = include_bytes!("../../fuzz/corpus/event_log/made-shim-grub.bin");
const KERNEL_56: &[u8] = include_bytes!("../../crates/policy/tests/data/boot/kernel-56.efi");
const KERNEL_60: &[u8] = include_bytes!("../../crates/policy/tests/data/boot/kernel-50.efi");

/// `binary_bios_measurements`.
fn bytes(log: &EventLog) -> Vec<u8> {
    let counted = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    // The header of the first log: one bank, SHA-256.
    let mut all = FIRST[..32 + 33].to_vec();
    for event in log.events() {
        all.extend(u32::from(event.pcr).to_le_bytes());
        all.extend(event.event_type.to_le_bytes());
        all.extend([1, 0, 0, 0, 0x0b, 0]);
        all.extend(event.digest);
        all.extend(counted(&event.data));
    }
    all
}

/// A kernel with all that comes with it.
struct Update {
    version: &'static str,
    kernel: &'static [u8],
}

const TO_56: Update = Update {
    version: "6.1.0-56-amd64",
    kernel: KERNEL_56,
};
const TO_60: Update = Update {
    version: "6.1.0-60-amd64",
    kernel: KERNEL_60,
};

impl Update {
    fn initrd(&self) -> Vec<u8> {
        format!("initramfs {}", self.version).into_bytes()
    }

    fn config(&self) -> Vec<u8> {
        format!("linux /vmlinuz-{}\n", self.version).into_bytes()
    }

    fn after(&self, last: &EventLog, from: &str) -> EventLog {
        let next = NextBoot {
            rename: Some(Rename {
                from: from.into(),
                to: self.version.into(),
            }),
            kernel: Some(NewKernel::read(self.kernel)),
            initrd: Some(sha256(&self.initrd())),
            config: Some(NewConfig::read(&self.config())),
            ..NextBoot::default()
        };
        let predicted = predict(last, &next).unwrap();
        assert!(predicted.open.is_empty());
        predicted.log
    }
}

struct Stage {
    owner: Arc<Owner>,
    node: Option<Node>,
    agent: Option<Agent>,
    log: EventLog,
    version: &'static str,
}

impl Stage {
    async fn new() -> Self {
        let swtpm = Swtpm::certified().unwrap();
        let owner = Arc::new(Owner::new(&swtpm.roots()));
        owner.start_all().await;
        let node = Node::boot_into(&owner, swtpm, FIRST).await;
        node.register().await;
        let mut stage = Self {
            agent: Some(node.initramfs()),
            owner,
            node: Some(node),
            log: EventLog::parse(FIRST).unwrap(),
            version: "6.1.0-50-amd64",
        };
        let boot = stage.owner.folder.path().join("boot.json");
        let boot = boot.to_str().unwrap();
        stage
            .good(&format!("policy create boot --node {{}} -o {boot}"))
            .await;
        stage
            .good(&format!("policy publish --name web {boot}"))
            .await;
        stage
    }

    async fn run(&mut self, text: &str) -> (i32, serde_json::Value) {
        let id = self.node.as_ref().unwrap().id().to_string();
        let home = self.owner.path();
        let text = text.replace("{}", &id);
        // A link is there a moment after the node has begun.
        for _ in 0..100 {
            let (home, text) = (home.clone(), text.clone());
            let run = move || json(&home, &text.split(' ').collect::<Vec<_>>());
            let outcome = tokio::task::spawn_blocking(run).await.unwrap();
            if outcome.0 != 75 {
                return outcome;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("never a link: {text}");
    }

    async fn good(&mut self, text: &str) -> serde_json::Value {
        let (code, answer) = self.run(text).await;
        assert_eq!(code, 0, "{text}: {answer}");
        answer
    }

    fn path(&self, name: &str, contents: &[u8]) -> String {
        let path: PathBuf = file(self.owner.folder.path(), name, contents);
        path.to_str().unwrap().to_owned()
    }

    /// The command for an update of the node.
    fn authorize(&self, update: &Update, more: &str) -> String {
        let version = update.version;
        format!(
            "policy authorize web --node {{}} --kernel {} --initrd {} --config {} {more}",
            self.path(&format!("vmlinuz-{version}"), update.kernel),
            self.path("initrd.img", &update.initrd()),
            self.path("grub.cfg", &update.config()),
        )
    }

    async fn reboots_into(&mut self, update: &Update) {
        drop(self.agent.take());
        self.log = update.after(&self.log, self.version);
        self.version = update.version;
        let node = self.node.take().unwrap();
        let node = node.power_cycle_into(&self.owner, &bytes(&self.log)).await;
        self.agent = Some(node.initramfs());
        self.node = Some(node);
    }

    async fn generation(&self, number: u64) -> SignedPolicy {
        let services = self.owner.services();
        let answer = services.policy(PolicyKind::Boot, "web", number).await;
        let keys = policy_keys(&self.owner.home()).unwrap();
        SignedPolicy::verify(&answer.unwrap().envelope, &keys).unwrap()
    }

    /// Whether a generation accepts a boot, and whether its PCR policies open what the node keeps in it.
    async fn accepts(&self, number: u64, log: &EventLog) -> (bool, bool) {
        let generation = self.generation(number).await.boot().unwrap();
        let values = log.replay();
        let document = Live::from(&*generation.policy).dry_run(&values, Some(log), None);
        let values: PcrValues = values.iter().map(|(pcr, value)| (pcr, *value)).collect();
        let opens = generation
            .pcr_policies
            .iter()
            .any(|signed| signed.policy.as_slice() == pcr_policy(&signed.pcrs, &values).unwrap());
        (document.is_ok(), opens)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_accepted_before_it_boots_and_what_is_retired_stays_so() {
    let mut stage = Stage::new().await;
    let first = stage.log.clone();
    let updated = TO_56.after(&first, stage.version);
    assert_eq!(stage.accepts(1, &first).await, (true, false));
    assert_eq!(stage.accepts(1, &updated).await, (false, false));

    let answer = stage.good(&stage.authorize(&TO_56, "--push")).await;
    assert_eq!(answer["generation"], 2);
    assert_eq!(answer["given"]["live"], true);
    assert_eq!(answer["signed_pcrs"], serde_json::json!([[4, 7, 8, 9]]));
    let changed: Vec<u64> = answer["boots"][0]["pcrs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["pcr"].as_u64().unwrap())
        .collect();
    assert_eq!(changed, [4, 8, 9]);
    assert_eq!(stage.accepts(2, &first).await, (true, false));
    assert_eq!(stage.accepts(2, &updated).await, (true, true));
    let other = TO_60.after(&first, stage.version);
    assert_eq!(stage.accepts(2, &other).await, (false, false));

    // The new kernel runs; from here on only the next one.
    stage.reboots_into(&TO_56).await;
    assert_eq!(stage.log, updated);
    let other = TO_60.after(&updated, stage.version);
    let answer = stage
        .good(&stage.authorize(&TO_60, "--fresh --retire-older --push"))
        .await;
    assert_eq!(answer["given"]["retired_now"], serde_json::json!([1]));
    assert_eq!(stage.accepts(3, &updated).await, (false, false));
    assert_eq!(stage.accepts(3, &other).await, (true, true));

    stage.reboots_into(&TO_60).await;
    stage.good("policy retire boot web 2").await;
    let back = stage.authorize(&TO_56, "--push");
    let (code, answer) = stage.run(&back).await;
    assert_eq!(code, 1, "{answer}");
    assert!(answer.to_string().contains("roll-back"), "{answer}");
    // Whichever PCRs are chosen now.
    let (code, _) = stage.run(&format!("{back} --pcrs 4,9")).await;
    assert_eq!(code, 1);
    let answer = stage.good(&format!("{back} --allow-rollback")).await;
    assert_eq!(answer["generation"], 4);
    assert_eq!(answer["pcr_policies"], 2, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_foretold_or_trusted_is_not_signed() {
    let mut stage = Stage::new().await;
    let kernel = stage.path("vmlinuz-6.1.0-56-amd64", KERNEL_56);
    let cases = [
        // The initramfs and grub.cfg of the new version are not named.
        (format!("--kernel {kernel}"), 1, "event 26"),
        (format!("--uki {kernel}"), 2, "sdmagic"),
        (format!("--loader {kernel}"), 2, "shimx64.efi, grubx64.efi"),
        ("--cmdline root=/dev/sda1".into(), 1, "required"),
        ("--cmdline init=/bin/sh".into(), 1, "forbidden"),
        ("--reported".into(), 3, "not enrolled"),
        ("--pcrs 7".into(), 1, "PCR 4, 9 nor 11"),
    ];
    for (more, expected, said) in cases {
        let (code, answer) = stage
            .run(&format!("policy authorize web --node {{}} {more}"))
            .await;
        assert_eq!(code, expected, "{more}: {answer}");
        assert!(answer.to_string().contains(said), "{more}: {answer}");
    }
    let unsigned = format!("policy authorize other --node {{}} --kernel {kernel} --pcrs 4,9");
    let (code, answer) = stage.run(&unsigned).await;
    assert_eq!(code, 1, "{answer}");
    assert!(
        answer.to_string().contains("PCR 9 cannot be signed"),
        "{answer}"
    );
    let (code, _) = stage.run("policy authorize Web --node {}").await;
    assert_eq!(code, 2);
    let answer = stage.good("policy list").await;
    assert_eq!(answer.as_array().unwrap().len(), 1, "nothing was published");

    // Another boot than the live generation accepts is no base.
    stage.reboots_into(&TO_56).await;
    let (code, answer) = stage.run("policy authorize web --node {} --push").await;
    assert_eq!(code, 4, "{answer}");
    assert!(answer.to_string().contains("boot.grub.file"), "{answer}");

    // Without a live generation a policy is made of what is named; without --push it is written.
    let out = stage.owner.folder.path().join("signed.json");
    let answer = stage
        .good(&format!(
            "policy authorize new --node {{}} --valid-until 2099-01-01T00:00:00Z -o {}",
            out.display()
        ))
        .await;
    assert_eq!(answer["generation"], 1);
    assert_eq!(answer["valid_until_ms"], 4_070_908_800_000_u64);
    let answer = stage.good(&format!("policy push {}", out.display())).await;
    assert_eq!(answer["live"], true);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for (options, said) in [
        ("--pcrs 10", "IMA"),
        ("--pcrs 15", "latch"),
        ("--kernel k --qemu-memory 1024", "--initrd"),
        ("--uki u --kernel k", "--kernel"),
        ("--reported --kernel k", "--kernel"),
        ("--retire-older", "--push"),
        (
            "--valid-for 2d --valid-until 2099-01-01T00:00:00Z",
            "--valid-until",
        ),
    ] {
        let text = format!("policy authorize web --node n {options}");
        let output = bootkeep(home.path(), &text.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{options}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "{options}: {text}");
    }
    let none = bootkeep(home.path(), &["policy", "authorize", "web"]);
    assert_eq!(none.status.code(), Some(2));
}
