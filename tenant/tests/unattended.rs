//! Nodes that boot with nobody at the owner's desk: real services, a software TPM that keeps its NV through reboots.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bootkeep_protocol::verifier::State;
use bootkeep_swtpm::Swtpm;
use bootkeep_tenant::{cli::Cli, local::LocalNode};
use bootkeep_tpkd::{Envelope, Item};
use clap::Parser;
use common::{
    bootkeep, file, json,
    node::{Agent, Node},
    services::{Owner, Which},
};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

const LABEL: &str = "web-1";
/// Of systemd-measure; RSA.
const VENDOR_KEY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/policy/tests/data/uki/pub.pem"
);

fn boot_policy() -> String {
    let zero = "0".repeat(64);
    format!(
        r#"{{"version":1,"pcrs":{{"0":["{zero}"],"9":["{zero}"]}},"event_log":{{"required":false}}}}"#
    )
}

fn runtime_policy() -> String {
    let init = hex::encode(Sha256::digest("/init"));
    format!(r#"{{"version":1,"files":{{"/init":"{init}"}}}}"#)
}

/// An owner with an offline key, and a node in its initramfs that has registered.
struct Stage {
    owner: Arc<Owner>,
    node: Option<Node>,
    offline: PathBuf,
    provision: Vec<String>,
}

impl Stage {
    async fn new() -> Self {
        let swtpm = Swtpm::certified().unwrap();
        let owner = Arc::new(Owner::new(&swtpm.roots()));
        owner.start_all().await;
        let node = Node::boot(&owner, swtpm).await;
        node.register().await;
        let folder = owner.folder.path();
        let path =
            |name: &str, contents: &[u8]| file(folder, name, contents).to_str().unwrap().to_owned();
        let provision = [
            "provision".to_owned(),
            node.id().to_string(),
            "--luks-key".into(),
            path("luks.key", b"the image's key"),
            "--boot-policy".into(),
            path("boot.json", boot_policy().as_bytes()),
            "--runtime-policy".into(),
            path("runtime.json", runtime_policy().as_bytes()),
        ];
        let more = format!("--label {LABEL} --interval 1 --address 10.0.0.7");
        let provision = provision
            .into_iter()
            .chain(more.split(' ').map(String::from))
            .collect();
        let offline = folder.join("offline.key");
        let stage = Self {
            owner,
            node: Some(node),
            offline,
            provision,
        };
        let keygen = format!("recovery keygen --out {}", stage.offline.display());
        assert_eq!(stage.run(&keygen).await.0, 0);
        stage
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// The real program.
    async fn run_all(&self, arguments: Vec<String>) -> (i32, serde_json::Value) {
        let home = self.owner.path();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            json(&home, &arguments)
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    async fn run(&self, text: &str) -> (i32, serde_json::Value) {
        self.run_all(text.split(' ').map(String::from).collect())
            .await
    }

    async fn provision(&self, more: &str) -> (i32, serde_json::Value) {
        let patience = if more.contains("--timeout") {
            ""
        } else {
            " --timeout 120"
        };
        let more = format!("{more}{patience}");
        let more = more.split(' ');
        let all = self.provision.iter().cloned().chain(more.map(String::from));
        self.run_all(all.collect()).await
    }

    async fn status(&self) -> serde_json::Value {
        self.run(&format!("status {LABEL}")).await.1["verifier"].clone()
    }

    async fn until(
        &self,
        what: &str,
        good: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        for _ in 0..400 {
            let status = self.status().await;
            if good(&status) {
                return status;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("never {what}: {}", self.status().await);
    }

    async fn trusted(&self) -> serde_json::Value {
        self.until("trusted", |status| {
            status["state"] == State::Trusted.as_str()
        })
        .await
    }

    /// First provisioning to the end; the booted system lives as long as what is given.
    async fn provisioned(&self) -> Agent {
        self.provisioned_with("--unattended --pcrs 4,7").await
    }

    async fn provisioned_with(&self, options: &str) -> Agent {
        let (outcome, runtime) = tokio::join!(self.provision(options), self.node().whole_boot());
        assert_eq!(outcome.0, 0, "{}", outcome.1);
        runtime
    }

    /// Off and on; nobody runs `bootkeep provision`.
    async fn reboots_alone(&mut self) -> Agent {
        let node = self.node.take().unwrap();
        let node = node.power_cycle(&self.owner).await;
        let runtime = tokio::time::timeout(Duration::from_secs(60), node.whole_boot()).await;
        self.node = Some(node);
        runtime.unwrap()
    }

    fn opened(&self) -> Envelope {
        self.node().opened.lock().unwrap().clone().unwrap()
    }

    fn journal(&self, name: &str) -> PathBuf {
        let home = self.owner.home();
        home.node_folder(self.node().id()).join(name)
    }

    fn local(&self) -> LocalNode {
        let local = LocalNode::load(&self.owner.home(), self.node().id());
        local.unwrap().unwrap()
    }

    /// Serial numbers of certificates that are good, and of those that are revoked.
    async fn certificates(&self) -> (usize, usize) {
        let all = self.owner.services().certificates().await.unwrap();
        let revoked = all.iter().filter(|it| it.revoked_at.is_some()).count();
        (all.len() - revoked, revoked)
    }

    async fn recovery_keys(&self) -> Vec<String> {
        let show = format!(
            "recovery show {LABEL} --again --key {}",
            self.offline.display()
        );
        let (code, shown) = self.run(&show).await;
        assert_eq!(code, 0, "{shown}");
        let keys = shown["keys"].as_array().unwrap().iter();
        keys.map(|key| key["key"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn identity(envelope: &Envelope) -> &str {
    let found = envelope.items.iter().find_map(|item| match item {
        Item::Identity(identity) => Some(identity.certificate_pem.as_str()),
        _ => None,
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_boots_alone_and_gets_new_keys_while_it_runs() {
    let mut stage = Stage::new().await;
    let runtime = stage.provisioned().await;
    assert!(
        !stage.journal("provisioning.json").exists(),
        "U is still here"
    );
    let status = stage.trusted().await;
    assert!(status["unattended"]["kept_at_ms"].is_u64(), "{status}");
    let first = stage.opened();
    let has = |wanted: &Item| first.items.contains(wanted);
    let volume = "cryptroot".to_owned();
    assert!(has(&Item::OwnKey {
        volume: volume.clone(),
        recovery: true
    }));
    assert!(has(&Item::LuksKey {
        volume,
        key: b"the image's key".to_vec()
    }));
    let signed = stage.local().unattended.unwrap();
    assert_eq!(signed.authorities.len(), 1);
    assert_eq!(signed.pcr_policies.len(), 1);
    assert_eq!(signed.pcr_policies[0].pcrs, [4, 7]);
    drop(runtime);

    // Nobody is there: the same payload, another split.
    let splits = status["unattended"]["shares"].clone();
    let runtime = stage.reboots_alone().await;
    assert_eq!(stage.opened(), first);
    let status = stage.trusted().await;
    stage
        .until("one other split", |status| {
            let now = &status["unattended"]["shares"];
            now.as_array().is_some_and(|all| all.len() == 1) && *now != splits
        })
        .await;
    let (_, nodes) = stage.run("nodes").await;
    assert!(nodes[0]["unattended"]["kept_at_ms"].is_u64(), "{nodes}");
    assert_eq!(status["reasons"].as_array().unwrap().len(), 0);
    let before = stage.recovery_keys().await;
    assert_eq!(before.len(), 1);

    // A new K, while the system runs.
    let (code, rotated) = stage.run(&format!("rotate {LABEL}")).await;
    assert_eq!((code, &rotated["staged"]), (0, &true.into()), "{rotated}");
    assert!(!stage.journal("rotation.json").exists(), "U' is still here");
    assert_eq!(stage.status().await["unattended"]["staged"], true);
    assert_eq!(
        stage.certificates().await,
        (2, 0),
        "the old one is needed until the node has the new one"
    );
    // The old recovery key may still be the one that opens the volume.
    assert_eq!(stage.recovery_keys().await.len(), 2);
    assert_eq!(
        stage.run(&format!("attest {LABEL}")).await.0,
        0,
        "latched by the old K"
    );
    let (code, waits) = stage
        .run(&format!("rotate {LABEL} --finish --timeout 1"))
        .await;
    assert_eq!(code, 75, "{waits}");
    drop(runtime);

    let runtime = stage.reboots_alone().await;
    let second = stage.opened();
    assert_ne!(identity(&second), identity(&first));
    assert!(!second
        .items
        .iter()
        .any(|item| matches!(item, Item::LuksKey { .. })));
    stage.trusted().await;
    assert_eq!(
        stage.run(&format!("attest {LABEL}")).await.0,
        0,
        "latched by the new K"
    );
    let (code, finished) = stage.run(&format!("rotate {LABEL} --finish")).await;
    assert_eq!(code, 0, "{finished}");
    assert_eq!(finished["revoked"].as_array().unwrap().len(), 1);
    assert_eq!(stage.certificates().await, (1, 1));
    let after = stage.recovery_keys().await;
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    assert!(stage.local().staged.is_none());
    assert_eq!(stage.run(&format!("rotate {LABEL} --finish")).await.0, 2);
    drop(runtime);

    let _runtime = stage.reboots_alone().await;
    assert_eq!(stage.opened(), second);
    stage.trusted().await;

    // Whoever forgets a node does not forget what opens its disk, unless told to.
    let id = stage.node().id().to_string();
    let (code, removed) = stage.run(&format!("remove {id}")).await;
    assert_eq!((code, &removed["recovery_kept"]), (0, &true.into()));
    let (code, removed) = stage.run(&format!("remove {id} --recovery")).await;
    assert_eq!((code, &removed["recovery_kept"]), (0, &false.into()));
    assert!(!stage.owner.home().node_folder(stage.node().id()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_short_goes_on_with_the_same_k() {
    let mut stage = Stage::new().await;
    // A vendor's signatures count too: the TPM has to take either.
    let vendor = "--unattended --pcrs 4,7 --vendor-key";
    let runtime = stage
        .provisioned_with(&format!("{vendor} {VENDOR_KEY}"))
        .await;
    let references: Vec<Vec<u8>> = (stage.local().unattended.unwrap().authorities)
        .iter()
        .map(|authority| authority.policy_ref.0.clone())
        .collect();
    let id = &stage.node().id().as_str()[..16];
    assert_eq!(references, [format!("node:{id}").into_bytes(), Vec::new()]);
    stage.trusted().await;
    // The runtime agent is away: K' is staged, its U waits here.
    drop(runtime);
    let rotate = format!("rotate {LABEL} --timeout 1");
    let (code, _) = stage.run(&rotate).await;
    assert_eq!(code, 75);
    let staged = |stage: &Stage| -> serde_json::Value {
        let text = std::fs::read(stage.journal("rotation.json")).unwrap();
        let journal: serde_json::Value = serde_json::from_slice(&text).unwrap();
        journal["enrolment"]["unattended"]["share_id"].clone()
    };
    let id = staged(&stage);
    stage.owner.kill(Which::Verifier);
    stage.owner.start(Which::Verifier).await;
    // A power cut of the node in between: the old K boots it, since it has no U of the new one.
    let first = stage.opened();
    let runtime = stage.reboots_alone().await;
    assert_eq!(stage.opened(), first);
    stage.trusted().await;
    assert_eq!(staged(&stage), id);
    let (code, rotated) = stage.run(&format!("rotate {LABEL}")).await;
    assert_eq!(code, 0, "{rotated}");
    assert_eq!(
        stage.certificates().await.0,
        2,
        "a second certificate for one K"
    );
    drop(runtime);
    let _runtime = stage.reboots_alone().await;
    assert_ne!(identity(&stage.opened()), identity(&first));
    stage.trusted().await;
    // The next rotation finishes this one by itself.
    let (code, rotated) = stage.run(&format!("rotate {LABEL}")).await;
    assert_eq!(code, 0, "{rotated}");
    assert_eq!(stage.certificates().await, (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn u_stays_here_until_the_node_keeps_it() {
    let mut stage = Stage::new().await;
    let short = "--unattended --pcrs 4,7 --timeout 5";
    let (outcome, ()) = tokio::join!(stage.provision(short), async {
        stage.node().initramfs_cut_short().done().await;
    });
    assert_eq!(outcome.0, 75, "{}", outcome.1);
    let text = outcome.1["detail"].as_str().unwrap().to_owned();
    assert!(text.contains("keep its share"), "{text}");
    assert!(stage.journal("provisioning.json").exists());
    let first = stage.opened();
    let node = stage.node.take().unwrap().power_cycle(&stage.owner).await;
    stage.node = Some(node);
    let same = "--unattended --pcrs 4,7";

    // With another key the node's TPM would not open: it is named, and nothing is given.
    let home = stage.owner.path();
    let (key, away) = (home.join("authorize.key"), home.join("away.key"));
    std::fs::rename(&key, &away).unwrap();
    let (code, added) = stage.run("init --add").await;
    assert_eq!(
        (code, &added["files"]),
        (0, &serde_json::json!(["authorize.key"]))
    );
    let waiting = stage.node().initramfs();
    let (code, outcome) = stage.provision(same).await;
    assert_eq!(code, 1, "{outcome}");
    assert!(
        outcome["detail"]
            .as_str()
            .unwrap()
            .contains("authorize.key"),
        "{outcome}"
    );
    drop(waiting);
    std::fs::rename(&away, &key).unwrap();

    let (outcome, _runtime) = tokio::join!(stage.provision(same), stage.node().whole_boot());
    assert_eq!(outcome.0, 0, "{}", outcome.1);
    assert_eq!(stage.opened(), first, "another K");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_boot_that_the_owner_finds_good_is_signed() {
    let stage = Stage::new().await;
    stage.node().extend(9, [1; 32]).await;
    let waiting = stage.node().initramfs();
    for _ in 0..100 {
        if stage.run("nodes").await.1[0]["links"] == serde_json::json!(["initramfs"]) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let (code, outcome) = stage.provision("--unattended --pcrs 4,7").await;
    assert_eq!(code, 4, "{outcome}");
    assert_eq!(outcome["refusal"]["by"], "own-appraisal", "{outcome}");
    // Nothing was made for it: no K, no certificate, no enrolment, no policy.
    assert_eq!(stage.certificates().await, (0, 0));
    assert!(!stage.journal("provisioning.json").exists());
    assert_eq!(stage.run("nodes").await.1[0]["enrolled"], false);
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_anything_is_made() {
    let stage = Stage::new().await;
    // Its boot log says nothing, so nobody can choose PCRs.
    let waiting = stage.node().initramfs();
    for _ in 0..100 {
        if stage.run("nodes").await.1[0]["links"] == serde_json::json!(["initramfs"]) {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let (code, outcome) = stage.provision("--unattended").await;
    assert_eq!(code, 2, "{outcome}");
    assert!(outcome["detail"].as_str().unwrap().contains("--pcrs"));
    drop(waiting);
    let home = stage.owner.path();
    std::fs::rename(home.join("recovery.pub"), home.join("away")).unwrap();
    let (code, outcome) = stage.provision("--unattended --pcrs 4").await;
    assert_eq!(code, 2, "{outcome}");
    let text = outcome["detail"].as_str().unwrap();
    assert!(
        text.contains("recovery keygen") && text.contains("--keep-image-key"),
        "{text}"
    );
    let vendors = "--vendor-key x --vendor-key x --vendor-key x --vendor-key x";
    let (code, _) = stage
        .provision(&format!("--unattended --pcrs 4 {vendors}"))
        .await;
    assert_eq!(code, 2);
    assert_eq!(stage.certificates().await, (0, 0));
    // A node nobody provisioned to boot alone has no keys to rotate.
    assert_eq!(
        stage.run(&format!("rotate {}", stage.node().id())).await.0,
        3
    );
}

#[test]
fn options_of_boots_alone_go_together() {
    let words = "bootkeep provision n --luks-key k --boot-policy b --runtime-policy r";
    let parse = |more: &str| {
        let all = format!("{words} {more}");
        Cli::try_parse_from(all.split(' ').filter(|word| !word.is_empty())).is_ok()
    };
    assert!(parse("") && parse("--unattended"));
    assert!(parse(
        "--unattended --pcrs 4,11 --vendor-key v --keep-image-key"
    ));
    for alone in [
        "--pcrs 4",
        "--vendor-key v",
        "--keep-image-key",
        "--unattended --pcrs 15",
    ] {
        assert!(!parse(alone), "{alone}");
    }
    assert!(Cli::try_parse_from("bootkeep rotate n --finish --label x".split(' ')).is_err());
}

#[test]
fn the_offline_key_is_private_made_once_and_opens_nothing_it_should_not() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let init = ["init", home.to_str().unwrap(), "--host", "h.example"];
    assert!(bootkeep(&home, &init).status.success());
    let out = folder.path().join("offline.key");
    let keygen = ["recovery", "keygen", "--out", out.to_str().unwrap()];
    assert!(bootkeep(&home, &keygen).status.success());
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(
        bootkeep(&home, &keygen).status.code(),
        Some(1),
        "made twice"
    );
    let node = "a".repeat(64);
    let show = ["recovery", "show", &node, "--key", out.to_str().unwrap()];
    assert_eq!(bootkeep(&home, &show).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_stays_locked_until_it_is_taken_back() {
    let mut stage = Stage::new().await;
    let runtime = stage.provisioned().await;
    stage.trusted().await;
    let first = stage.opened();
    let (code, revoked) = stage.run(&format!("revoke {LABEL} --reason stolen")).await;
    assert_eq!(code, 0, "{revoked}");
    drop(runtime);
    let node = stage.node.take().unwrap().power_cycle(&stage.owner).await;
    stage.node = Some(node);
    // U is in its TPM and the boot is one that was signed: only V is missing.
    let locked = stage.node().initramfs();
    sleep(Duration::from_secs(3)).await;
    assert!(stage.node().opened.lock().unwrap().is_none());
    assert_eq!(
        stage.run(&format!("rotate {LABEL}")).await.0,
        4,
        "new keys for a revoked node"
    );
    assert_eq!(stage.provision("--unattended --pcrs 4,7").await.0, 2);

    stage.provision[0] = "reinstate".into();
    let (outcome, runtime) = tokio::join!(stage.provision("--unattended --pcrs 4,7"), async {
        locked.done().await;
        stage.node().runtime()
    });
    assert_eq!(outcome.0, 0, "{}", outcome.1);
    let second = stage.opened();
    assert_ne!(identity(&second), identity(&first));
    assert_eq!(stage.trusted().await["revocation"], serde_json::Value::Null);
    drop(runtime);
    // It had no link when it was enrolled: its boot was appraised and signed later, before it had U.
    let _runtime = stage.reboots_alone().await;
    assert_eq!(stage.opened(), second);
}
