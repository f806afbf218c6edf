//! From a waiting node to a trusted one, with a software TPM and the real services; and everything that must not happen.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_protocol::{
    policy::PolicySource,
    verifier::{Enrolment, State},
    Role,
};
use bootkeep_swtpm::Swtpm;
use bootkeep_tenant::{
    cli::{Cli, Command},
    policies::Sources,
    provision::{provision, Deadline, Inputs, Moment, Options, Provisioned, Watch},
    services::Services,
    Error, Party,
};
use bootkeep_tpkd::Item;
use clap::Parser;
use common::{
    file, json,
    node::Node,
    services::{Owner, Which},
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

const RUNTIME: &str = "/usr/lib/systemd/systemd";

/// An owner, a node in its initramfs that has registered, and what it is to be given.
struct Stage {
    owner: Arc<Owner>,
    node: Node,
    files: Vec<PathBuf>,
}

fn hex_of(path: &str) -> String {
    hex::encode(Sha256::digest(path))
}

fn boot_policy() -> String {
    let zero = "0".repeat(64);
    format!(
        r#"{{"version":1,"pcrs":{{"0":["{zero}"],"9":["{zero}"]}},"event_log":{{"required":false}}}}"#
    )
}

fn runtime_policy(paths: &[&str]) -> String {
    let files: Vec<String> = paths
        .iter()
        .map(|path| format!("\"{path}\":\"{}\"", hex_of(path)))
        .collect();
    format!(r#"{{"version":1,"files":{{{}}}}}"#, files.join(","))
}

impl Stage {
    async fn new() -> Self {
        let swtpm = Swtpm::certified().unwrap();
        let owner = Arc::new(Owner::new(&swtpm.roots()));
        owner.start_all().await;
        let node = Node::boot(&owner, swtpm).await;
        node.register().await;
        let folder = owner.folder.path();
        let files = vec![
            file(folder, "luks.key", b"the key of the volume"),
            file(folder, "user-data", b"#cloud-config\nhostname: web-1\n"),
            file(folder, "boot.json", boot_policy().as_bytes()),
            file(
                folder,
                "runtime.json",
                runtime_policy(&["/init", RUNTIME]).as_bytes(),
            ),
        ];
        Self { owner, node, files }
    }

    async fn options(&self, more: &[&str]) -> Options {
        let path = |index: usize| self.files[index].to_str().unwrap();
        let mut arguments = vec![
            "bootkeep",
            "provision",
            self.node.id().as_str(),
            "--luks-key",
            path(0),
            "--user-data",
            path(1),
            "--boot-policy",
            path(2),
            "--runtime-policy",
            path(3),
            "--interval",
            "1",
            "--timeout",
            "60",
            "--label",
            "web-1",
        ];
        arguments.extend(more);
        let cli = Cli::try_parse_from(arguments).unwrap();
        let Command::Provision(options) = cli.command else {
            panic!("not provision");
        };
        let (home, services) = (self.owner.home(), self.owner.services());
        let sources = Sources {
            home: &home,
            services: &services,
        };
        let policies = sources
            .pair(&options.boot_policy, &options.runtime_policy)
            .await
            .unwrap();
        Options {
            node: options.node.clone(),
            inputs: Inputs::read(&home, &options, policies).unwrap(),
            until: options.wait,
            deadline: Deadline::after(options.timeout),
        }
    }

    async fn provision(&self, watch: &mut dyn Watch) -> Result<Provisioned, Error> {
        let (home, options) = (self.owner.home(), self.options(&[]).await);
        provision(&home, &Services::open(&home)?, &options, watch).await
    }

    /// The real program.
    async fn run(&self, text: &str) -> (i32, serde_json::Value) {
        let (home, text) = (self.owner.path(), text.to_owned());
        let arguments = move || json(&home, &text.split(' ').collect::<Vec<_>>());
        tokio::task::spawn_blocking(arguments).await.unwrap()
    }

    /// Asks again until the verifier says so.
    async fn until_state(&self, wanted: &str) -> serde_json::Value {
        for _ in 0..200 {
            let (_, status) = self.run("status web-1").await;
            if status["verifier"]["state"] == wanted {
                return status["verifier"].clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {wanted}");
    }

    /// A runtime policy in a file.
    fn runtime_file(&self, name: &str, paths: &[&str]) -> String {
        let text = runtime_policy(paths);
        let path = file(self.owner.folder.path(), name, text.as_bytes());
        path.to_str().unwrap().to_owned()
    }

    fn journal(&self) -> PathBuf {
        self.owner
            .home()
            .node_folder(self.node.id())
            .join("provisioning.json")
    }

    fn opened(&self) -> bool {
        self.node.opened.lock().unwrap().is_some()
    }

    /// Replaces what the verifier was told by the tenant, with the same V: a verifier that decides otherwise.
    async fn tell_verifier(&self, change: impl FnOnce(&mut Enrolment)) {
        let journal: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.journal()).unwrap()).unwrap();
        let mut enrolment: Enrolment =
            serde_json::from_value(journal["enrolment"].clone()).unwrap();
        change(&mut enrolment);
        let read = |name: &str| std::fs::read(self.owner.path().join(name)).unwrap();
        let tls =
            ClientTls::with_identity(&read("ca.pem"), &read("tenant.pem"), &read("tenant.key"));
        let client = HttpClient::new(tls.unwrap(), Role::Verifier);
        let url = self.owner.home().config().unwrap().verifier;
        let id = self.node.id();
        let _: serde_json::Value = client
            .put(&format!("{url}/v1/nodes/{id}"), &enrolment)
            .await
            .unwrap();
    }
}

/// Tells a task of each step.
struct Tell(mpsc::UnboundedSender<String>);

impl Watch for Tell {
    fn moment(&mut self, moment: &Moment) {
        eprintln!(
            "tenant: {} {:?} {}: {}",
            moment.at_ms, moment.teller, moment.step, moment.detail
        );
        let _ = self.0.send(moment.step.clone());
    }
    fn waiting(&mut self, at_ms: u64, what: &str) {
        eprintln!("tenant: {at_ms} ... {what}");
        let _ = self.0.send(what.to_owned());
    }
}

fn tell() -> (Tell, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Tell(sender), receiver)
}

async fn until(steps: &mut mpsc::UnboundedReceiver<String>, wanted: &str) {
    while let Some(step) = steps.recv().await {
        if step == wanted {
            return;
        }
    }
    panic!("{wanted} never came");
}

fn refusal(outcome: Result<Provisioned, Error>) -> (Party, Vec<String>) {
    match outcome {
        Err(Error::Untrusted(refusal)) => {
            let codes = refusal.reasons.iter().map(|reason| reason.code.clone());
            (refusal.by, codes.collect())
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_node_becomes_trusted_and_is_looked_at_and_revoked() {
    let stage = Stage::new().await;
    let id = stage.node.id().to_string();
    let (mut watch, _steps) = tell();
    let booting = async {
        let runtime = stage.node.whole_boot().await;
        stage
            .node
            .measure(RUNTIME, Sha256::digest(RUNTIME).into())
            .await;
        runtime
    };
    let (outcome, runtime) = tokio::join!(stage.provision(&mut watch), booting);
    let done = outcome.unwrap();
    assert_eq!(done.state, State::Trusted);
    assert_eq!(done.label, "web-1");

    let envelope = stage.node.opened.lock().unwrap().take().unwrap();
    let kinds: Vec<String> = envelope
        .items
        .iter()
        .map(|item| format!("{item:?}"))
        .collect();
    assert!(
        kinds.contains(&"LUKS key of cryptroot".to_owned()),
        "{kinds:?}"
    );
    assert!(kinds.contains(&"user-data".to_owned()), "{kinds:?}");
    let identity = envelope.items.iter().find_map(|item| match item {
        Item::Identity(identity) => Some(identity.certificate_pem.clone()),
        _ => None,
    });
    assert!(identity.unwrap().contains("BEGIN CERTIFICATE"));
    assert!(!stage.journal().exists(), "U is kept after the end");

    let (code, nodes) = stage.run("nodes").await;
    assert_eq!((code, nodes[0]["state"].as_str()), (0, Some("trusted")));
    let (code, status) = stage.run("status web-1").await;
    assert_eq!((code, status["node_id"].as_str()), (0, Some(id.as_str())));
    let (code, attested) = stage.run(&format!("attest {}", &id[..6])).await;
    assert_eq!(
        (code, attested["trusted"].as_bool()),
        (0, Some(true)),
        "{attested}"
    );

    stage.node.measure("/tmp/evil", [6; 32]).await;
    let (code, attested) = stage.run("attest web-1").await;
    assert_eq!(code, 4);
    let reason = attested["reasons"][0]["detail"].as_str().unwrap();
    assert!(reason.contains("/tmp/evil"), "{reason}");

    let (code, revoked) = stage.run("revoke web-1 --reason stolen").await;
    assert_eq!(code, 0, "{revoked}");
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(revoked["certificates"].as_array().unwrap().len(), 1);
    let (code, removed) = stage.run("remove web-1 --registration").await;
    assert_eq!(
        (code, removed["enrolment"].as_bool()),
        (0, Some(true)),
        "{removed}"
    );
    let (code, _) = stage.run(&format!("status {id}")).await;
    assert_eq!(code, 3);
    drop(runtime);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_restart_in_the_middle_and_nothing_is_lost() {
    let stage = Stage::new().await;
    stage.owner.kill(Which::Registrar);
    stage.owner.kill(Which::Verifier);
    stage.owner.kill(Which::Ca);
    let (mut watch, mut steps) = tell();
    let owner = stage.owner.clone();
    let restarts = tokio::spawn(async move {
        let restart = async |which: Which| {
            owner.kill(which);
            tokio::time::sleep(Duration::from_millis(300)).await;
            owner.start(which).await;
        };
        restart(Which::Registrar).await;
        until(&mut steps, "ek-trusted").await;
        restart(Which::Ca).await;
        until(&mut steps, "sealed").await;
        restart(Which::Verifier).await;
        until(&mut steps, "enrolled").await;
        restart(Which::Verifier).await;
        until(&mut steps, "share-u-sent").await;
        restart(Which::Verifier).await;
        until(&mut steps, "confirmed").await;
        restart(Which::Verifier).await;
        restart(Which::Registrar).await;
        until(&mut steps, "never").await;
    });
    let (outcome, runtime) = tokio::join!(stage.provision(&mut watch), stage.node.whole_boot());
    assert_eq!(outcome.unwrap().state, State::Trusted);
    let shares = stage.node.shares_u.lock().unwrap().clone();
    assert!(
        shares.iter().all(|share| *share == shares[0]),
        "two different U"
    );
    drop(runtime);
    restarts.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_died_goes_on_with_the_same_k() {
    let stage = Stage::new().await;
    let booting = stage.node.initramfs();
    for step in ["enrolled", "share-u-sent"] {
        let (mut watch, mut steps) = tell();
        tokio::select! {
            outcome = stage.provision(&mut watch) => panic!("did not wait: {outcome:?}"),
            () = until(&mut steps, step) => {}
        }
        assert!(
            stage.journal().exists(),
            "nothing to go on with after {step}"
        );
    }
    let (mut watch, mut steps) = tell();
    let (outcome, runtime) = tokio::join!(stage.provision(&mut watch), async {
        booting.done().await;
        stage.node.runtime()
    });
    assert_eq!(outcome.unwrap().state, State::Trusted);
    until(&mut steps, "resumed").await;
    let shares = stage.node.shares_u.lock().unwrap().clone();
    assert!(!shares.is_empty() && shares.iter().all(|share| *share == shares[0]));
    drop(runtime);
}

#[tokio::test(flavor = "multi_thread")]
async fn k_never_forms_when_the_verifier_says_yes_and_the_tenant_no() {
    let stage = Stage::new().await;
    stage.node.measure("/sbin/unlisted", [5; 32]).await;
    let (mut watch, mut steps) = tell();
    let (outcome, booting) = tokio::join!(stage.provision(&mut watch), async {
        until(&mut steps, "enrolled").await;
        stage
            .tell_verifier(|enrolment| {
                let PolicySource::Document(policy) = &mut enrolment.runtime_policy else {
                    panic!("a document");
                };
                let files = policy["files"].as_object_mut().unwrap();
                files.insert("/sbin/unlisted".into(), hex::encode([5; 32]).into());
            })
            .await;
        stage.node.initramfs()
    });
    let (by, codes) = refusal(outcome);
    assert_eq!(by, Party::OwnAppraisal);
    assert_eq!(codes, ["file-not-listed"]);
    assert!(stage.node.shares_u.lock().unwrap().is_empty(), "U left");
    assert!(!stage.opened(), "K formed");
    assert!(!stage.journal().exists(), "a refused U is kept");
    drop(booting);
}

#[tokio::test(flavor = "multi_thread")]
async fn k_never_forms_when_the_tenant_says_yes_and_the_verifier_no() {
    let stage = Stage::new().await;
    let (mut watch, mut steps) = tell();
    let (outcome, booting) = tokio::join!(stage.provision(&mut watch), async {
        until(&mut steps, "enrolled").await;
        stage
            .tell_verifier(|enrolment| {
                let PolicySource::Document(policy) = &mut enrolment.runtime_policy else {
                    panic!("a document");
                };
                let files = policy["files"].as_object_mut().unwrap();
                files.remove("/init");
            })
            .await;
        stage.node.initramfs()
    });
    let (by, codes) = refusal(outcome);
    assert_eq!(by, Party::Verifier);
    assert_eq!(codes, ["file-not-listed"]);
    assert!(!stage.opened(), "K formed");
    drop(booting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latched_boot_gets_nothing() {
    let stage = Stage::new().await;
    stage.node.extend(15, [1; 32]).await;
    let (mut watch, mut steps) = tell();
    let home = stage.owner.home();
    // Not enrolled, so that the verifier lets the link open and the tenant decides.
    let booting = stage.node.initramfs();
    let options = stage.options(&[]).await;
    let services = Services::open(&home).unwrap();
    let linked = async {
        while services.links(stage.node.id()).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), linked)
        .await
        .unwrap();
    let outcome = provision(&home, &services, &options, &mut watch).await;
    let (_, codes) = refusal(outcome);
    assert!(codes.contains(&"latched".to_owned()), "{codes:?}");
    assert!(stage.node.shares_u.lock().unwrap().is_empty(), "U left");
    assert!(!stage.opened());
    steps.close();
    drop(booting);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registrar_is_not_taken_at_its_word() {
    let stage = Stage::new().await;
    let roots = stage.owner.path().join("ek-roots");
    for entry in std::fs::read_dir(roots).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let (mut watch, _steps) = tell();
    let (by, codes) = refusal(stage.provision(&mut watch).await);
    assert_eq!(by, Party::OwnAppraisal);
    assert_eq!(codes, ["ek-untrusted"]);
    assert!(!stage.journal().exists(), "it went on");
}

const NEW: &str = "/usr/bin/updated";

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_updated_generation_by_generation_and_a_violation_is_revoked() {
    let mut stage = Stage::new().await;
    let boot = stage.files[2].to_str().unwrap().to_owned();
    let old = stage.runtime_file("old.json", &["/init", RUNTIME]);
    let new = stage.runtime_file("new.json", &["/init", RUNTIME, NEW]);

    let signed = stage.owner.folder.path().join("boot.signed");
    let signed = signed.to_str().unwrap();
    let (code, made) = stage
        .run(&format!(
            "policy sign --name web --generation 1 {boot} -o {signed}"
        ))
        .await;
    assert_eq!((code, made["kind"].as_str()), (0, Some("boot")), "{made}");
    let (code, shown) = stage.run(&format!("policy show {signed}")).await;
    assert_eq!(
        (code, shown["signed"]["generation"].as_u64()),
        (0, Some(1)),
        "{shown}"
    );
    let (code, pushed) = stage.run(&format!("policy push {signed}")).await;
    assert_eq!(
        (code, pushed["live"].as_bool()),
        (0, Some(true)),
        "{pushed}"
    );
    let (code, _) = stage.run(&format!("policy publish --name web {old}")).await;
    assert_eq!(code, 0);

    // A text of somebody else is refused before the verifier sees it.
    let mut forged: serde_json::Value =
        serde_json::from_slice(&std::fs::read(signed).unwrap()).unwrap();
    forged["signatures"][0]["sig"] = serde_json::json!("MEUCIQ==");
    let forged = file(
        stage.owner.folder.path(),
        "forged",
        forged.to_string().as_bytes(),
    );
    let (code, _) = stage
        .run(&format!("policy push {}", forged.display()))
        .await;
    assert_eq!(code, 4);

    stage.files[2] = "@web".into();
    stage.files[3] = "@web".into();
    let (mut watch, _steps) = tell();
    let booting = async {
        let runtime = stage.node.whole_boot().await;
        stage
            .node
            .measure(RUNTIME, Sha256::digest(RUNTIME).into())
            .await;
        runtime
    };
    let (outcome, runtime) = tokio::join!(stage.provision(&mut watch), booting);
    assert_eq!(outcome.unwrap().state, State::Trusted);
    let (code, passes) = stage.run("policy explain web-1").await;
    assert_eq!(
        (code, passes["passes"].as_bool()),
        (0, Some(true)),
        "{passes}"
    );

    let key = stage.files[0].to_str().unwrap().to_owned();
    let again = format!("web-1 --luks-key {key} --boot-policy @web --runtime-policy @web");
    let (code, no) = stage.run(&format!("reinstate {again}")).await;
    assert_eq!(code, 2, "{no}");

    let (code, next) = stage.run(&format!("policy publish --name web {new}")).await;
    assert_eq!((code, next["generation"].as_u64()), (0, Some(2)), "{next}");
    stage.node.measure(NEW, Sha256::digest(NEW).into()).await;
    let before = stage.until_state("trusted").await["ima_entries"].as_u64();
    for _ in 0..200 {
        let status = stage.until_state("trusted").await;
        if status["ima_entries"].as_u64() > before || status["ima_entries"] == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = stage.until_state("trusted").await;
    assert_eq!(status["ima_entries"], 4, "the update was not appraised");
    let generations = &status["policies"].as_array().unwrap()[1]["generations"];
    assert_eq!(generations, &serde_json::json!([2, 1]));

    // What retiring the old or the new one would do, before it is done.
    let (code, dry) = stage
        .run("policy explain web-1 --runtime-policy @web:1")
        .await;
    assert_eq!(code, 4, "{dry}");
    assert_eq!(dry["files"][0]["path"], NEW, "{dry}");
    let (code, _) = stage
        .run("policy explain web-1 --runtime-policy @web:2")
        .await;
    assert_eq!(code, 0);
    let (code, _) = stage.run("policy retire runtime web 1").await;
    assert_eq!(code, 0);
    let (code, attested) = stage.run("attest web-1").await;
    assert_eq!(
        (code, attested["trusted"].as_bool()),
        (0, Some(true)),
        "{attested}"
    );

    stage.node.measure("/tmp/evil", [6; 32]).await;
    let mut status = stage.until_state("untrusted").await;
    for _ in 0..200 {
        // The entry is durable a moment after the verdict is seen.
        if status["revocation"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        status = stage.until_state("untrusted").await;
    }
    let (code, dry) = stage.run("policy explain web-1").await;
    assert_eq!(
        (code, dry["files"][0]["path"].as_str()),
        (4, Some("/tmp/evil")),
        "{dry}"
    );
    assert_eq!(status["revocation"], 1, "{status}");
    let (code, no) = stage.run(&format!("provision {again}")).await;
    assert_eq!(code, 2, "{no}");
    assert!(no["detail"].as_str().unwrap().contains("reinstate"), "{no}");
    let (code, no) = stage
        .run(&format!("provision {again}").replace("-policy @web", "-policy @web:2"))
        .await;
    assert_eq!(code, 2, "{no}");

    let (code, log) = stage.run("revocations").await;
    assert_eq!(code, 0, "{log}");
    let entry = &log["records"][0];
    assert_eq!(entry["action"], "revoke");
    assert_eq!(entry["label"], "web-1");
    assert_eq!(entry["serials"].as_array().unwrap().len(), 1, "{entry}");
    assert!(entry["reasons"][0]["detail"]
        .as_str()
        .unwrap()
        .contains("/tmp/evil"));
    drop(runtime);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_cannot_pass_off_other_policies_or_another_log() {
    let stage = Stage::new().await;
    let old = stage.runtime_file("old.json", &["/init"]);
    let (code, _) = stage.run(&format!("policy publish --name web {old}")).await;
    assert_eq!(code, 0);
    let home = stage.owner.path();
    let (code, _) = stage.run("revocations").await;
    assert_eq!(code, 0);

    // What was retired here does not come back, whatever the verifier says of it.
    let retired = home.join("retired.json");
    std::fs::write(&retired, r#"{"runtime/web":[1]}"#).unwrap();
    std::fs::set_permissions(
        &retired,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let named = bootkeep_tenant::policies::PolicyChoice::named("web");
    {
        let (services, home) = (stage.owner.services(), stage.owner.home());
        let sources = Sources {
            home: &home,
            services: &services,
        };
        assert_eq!(sources.runtime(&named).await.unwrap_err().exit_code(), 3);
        std::fs::remove_file(&retired).unwrap();
        sources.runtime(&named).await.unwrap();
    }

    // The owner's keys are others now: what the verifier has is signed with keys that do not count here.
    let other = bootkeep_signed::SigningKey::generate()
        .unwrap()
        .public_pem();
    std::fs::write(home.join("policy.pem"), &other).unwrap();
    std::fs::write(home.join("revocation.pem"), &other).unwrap();
    let (services, home) = (stage.owner.services(), stage.owner.home());
    let sources = Sources {
        home: &home,
        services: &services,
    };
    assert_eq!(sources.runtime(&named).await.unwrap_err().exit_code(), 4);
    let (code, _) = stage.run("revocations").await;
    assert_eq!(code, 4);
}
