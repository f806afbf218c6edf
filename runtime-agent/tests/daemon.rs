//! The daemon on a software TPM, and a verifier that asks what the test wants.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/service/tests/common/mod.rs"]
mod common;
mod enforcer;
mod verifier;

use std::{path::PathBuf, time::Duration};

use bootkeep_authorize::{access_policy, AuthorityKey};
use bootkeep_handover::Handover;
use bootkeep_node::{host::KernelFiles, tpm::TpmThread, AgentConfig, Identity};
use bootkeep_protocol::{
    boot_files::{BootFile, BootFileRole, BootFiles},
    kept::KeepCall,
    link::{Call, Event, Evidence, Outcome, QuoteCall, Reply, ShareCall, SharePart, Step},
    Nonce, Phase, Problem, ProblemKind, Role, ShareId,
};
use bootkeep_runtime_agent::{daemon, AgentError, Settings, Supervisor};
use bootkeep_signed::SigningKey;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{wrap_share, Share, U};
use bootkeep_tpm::{KeptSlot, Tcti, Tpm};
use tokio::{sync::oneshot, task::JoinHandle};
use verifier::{Link, Verifier};

struct Machine {
    settings: Settings,
    identity: Identity,
    folder: tempfile::TempDir,
    _swtpm: Swtpm,
}

impl Machine {
    async fn with(verifier: &Verifier) -> Self {
        let swtpm = Swtpm::bare().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.pem", &verifier.server.pki.ca_pem);
        let text = format!(
            "registrar: [https://localhost:1]\nverifier: [{}]\nserver_ca: {}\nrevocation: {{}}\n",
            verifier.server.url,
            ca.display()
        );
        let config = AgentConfig::load(&write("agent.yaml", &text)).unwrap();
        let files = KernelFiles {
            event_log: write("event_log", "an event log"),
            ima: write("ima", "a list"),
            ima_count: write("count", "3\n"),
            ..KernelFiles::default()
        };
        let handover = Handover::at(&folder.path().join("handover"));
        handover.prepare().unwrap();
        let tpm = Tcti::Swtpm { port: swtpm.port() };
        // The initramfs was here before: EK and AK are known. Its hold on the TPM ends with it.
        let before = TpmThread::open_at(tpm.clone(), Duration::from_secs(10));
        let identity = Identity::load(&before.await.unwrap()).await.unwrap();
        Self {
            settings: Settings {
                config,
                tpm,
                files,
                handover,
                enforcer: folder.path().join("enforcer"),
                boot_files: folder.path().join("boot-files.json"),
            },
            identity,
            folder,
            _swtpm: swtpm,
        }
    }

    /// Starts the daemon; it stops when the sender is used or dropped.
    fn daemon(&self) -> (oneshot::Sender<()>, JoinHandle<Result<(), AgentError>>) {
        let settings = self.settings.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            daemon::run(&settings, &Supervisor::default(), stopped).await
        });
        (stop, running)
    }

    fn measure(&self, count: u64) {
        std::fs::write(self.folder.path().join("count"), format!("{count}\n")).unwrap();
    }

    fn claims(&self) -> usize {
        let folder = self.settings.handover.directory().join("claims");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

async fn took_over(link: &mut Link) {
    loop {
        if let Event::Progress {
            step: Step::RuntimeTookOver,
            ..
        } = link.event().await
        {
            return;
        }
    }
}

fn quote() -> Call {
    Call::Quote(QuoteCall {
        nonce: Nonce::from([1; 32]),
        asker: Role::Verifier,
        pcrs: (0..=15).collect(),
        event_log: false,
        ima_offset: Some(2),
    })
}

fn quote_for(asker: Role, nonce: u8) -> Call {
    Call::Quote(QuoteCall {
        nonce: Nonce::from([nonce; 32]),
        asker,
        pcrs: vec![15],
        event_log: false,
        ima_offset: None,
    })
}

async fn quoted(link: &mut Link, asker: Role, nonce: u8) -> Box<Evidence> {
    match link.ask(quote_for(asker, nonce)).await {
        Outcome::Ok(Reply::Quote(evidence)) => evidence,
        other => panic!("no quote: {other:?}"),
    }
}

/// A share U for the next boot, wrapped to the key in this quote.
fn keep(machine: &Machine, evidence: &Evidence, nonce: u8) -> Call {
    let share = Share::<U>::from_bytes([0x55; 32]);
    let (nonce, node) = ([nonce; 32], machine.identity.node_id.as_str());
    let nk = evidence.nk_public.as_slice();
    let wrapped = wrap_share(nk, &nonce, node, &share).unwrap();
    Call::Keep(KeepCall {
        id: ShareId::from([7; 16]),
        nonce: Nonce::from(nonce),
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
    })
}

fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(problem) => problem.code,
        Outcome::Ok(reply) => panic!("taken: {reply:?}"),
    }
}

fn share() -> Call {
    Call::Share(ShareCall {
        part: SharePart::V,
        nonce: Nonce::from([1; 32]),
        encapsulated: vec![1; 32].into(),
        ciphertext: vec![2; 48].into(),
        envelope: None,
        kept: None,
    })
}

#[tokio::test]
async fn it_attests_with_the_ak_of_the_initramfs_and_takes_no_share() {
    let mut verifier = Verifier::start().await;
    let machine = Machine::with(&verifier).await;
    let (stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    let open = link.accept(&machine.identity.ak_public).await;
    assert_eq!(open.phase, Phase::Runtime);
    assert_eq!(open.node_id, machine.identity.node_id);
    took_over(&mut link).await;
    let Outcome::Ok(Reply::Quote(evidence)) = link.ask(quote()).await else {
        panic!("no quote")
    };
    assert_eq!(evidence.phase, Phase::Runtime);
    assert_eq!(evidence.ima.unwrap().data.as_slice(), b"list");
    assert!(matches!(link.ask(share()).await, Outcome::Refused(_)));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn growth_and_claims_are_told_and_a_claim_that_was_taken_goes_out_before_the_end() {
    let mut verifier = Verifier::start().await;
    let machine = Machine::with(&verifier).await;
    let handover = machine.settings.handover.clone();
    handover.claim("early", "before any link").unwrap();
    let (stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.hello(&machine.identity.ak_public).await;
    // No link is open yet: the claim is still safe in its folder.
    assert_eq!(machine.claims(), 1);
    link.refuse(Problem::new(ProblemKind::Busy, "busy", "later"))
        .await;
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    let mut told = Vec::new();
    while !told.contains(&"early".to_owned()) {
        if let Event::Claim(claim) = link.event().await {
            told.push(claim.code);
        }
    }
    assert_eq!(machine.claims(), 0);
    machine.measure(900);
    while link.event().await != (Event::ImaGrew { count: 900 }) {}
    handover.claim("late", "taken just before the end").unwrap();
    while machine.claims() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    let mut last = Vec::new();
    while let Some(frame) = link.next().await {
        last.push(format!("{frame:?}"));
    }
    assert!(last.iter().any(|frame| frame.contains("late")), "{last:?}");
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn it_comes_back_after_a_lost_link_and_after_its_own_restart() {
    let mut verifier = Verifier::start().await;
    let machine = Machine::with(&verifier).await;
    let (stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    let first = link.accept(&machine.identity.ak_public).await;
    link.close().await;
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    stop.send(()).unwrap();
    while link.next().await.is_some() {}
    running.await.unwrap().unwrap();
    let (_stop, running) = machine.daemon();
    let again = verifier
        .link()
        .await
        .accept(&machine.identity.ak_public)
        .await;
    assert_eq!(again.node_id, first.node_id);
    assert_ne!(again.nk_public, first.nk_public);
    running.abort();
}

#[tokio::test]
async fn without_a_ca_or_a_tpm_it_says_so() {
    let verifier = Verifier::start().await;
    let mut machine = Machine::with(&verifier).await;
    machine.settings.config.server_ca = "/does/not/exist".into();
    let (_stop, running) = machine.daemon();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, AgentError::ServerCa { .. }), "{error}");
}

#[tokio::test]
async fn revocations_are_relayed_to_the_enforcer_and_refused_without_one() {
    let mut verifier = Verifier::start().await;
    let mut machine = Machine::with(&verifier).await;
    let mut log = enforcer::Log::new();
    let mut node = enforcer::Node::new(&log);
    machine.settings.enforcer = node.settings.socket.clone();
    let (_stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    log.revoke("a");
    let call = Call::Revocations(log.whole());
    let Outcome::Refused(problem) = link.ask(call.clone()).await else {
        panic!("nobody enforces")
    };
    assert_eq!(problem.code, "enforcer-away");
    node.start().await;
    let Outcome::Ok(Reply::Revocations(reply)) = link.ask(call).await else {
        panic!("not taken")
    };
    assert_eq!((reply.sequence, reply.done.len()), (1, 1));
    log.revoke(machine.identity.node_id.as_str());
    let Outcome::Refused(problem) = link.ask(Call::Revocations(log.call(&[log.head()]))).await
    else {
        panic!("taken")
    };
    assert_eq!(problem.code, "revocation-signature");
    running.abort();
}

#[tokio::test]
async fn without_revocation_in_its_configuration_it_takes_none() {
    let mut verifier = Verifier::start().await;
    let mut machine = Machine::with(&verifier).await;
    machine.settings.config.revocation = None;
    let (_stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    let log = enforcer::Log::new();
    let Outcome::Refused(problem) = link.ask(Call::Revocations(log.whole())).await else {
        panic!("taken")
    };
    assert_eq!(problem.code, "no-revocations-here");
    running.abort();
}

#[tokio::test]
async fn a_share_for_the_next_boot_is_kept_once_after_a_quote_for_the_tenant() {
    let mut verifier = Verifier::start().await;
    let machine = Machine::with(&verifier).await;
    let way = machine.settings.tpm.clone();
    let pem = SigningKey::generate().unwrap().to_pem();
    let owner = AuthorityKey::from_pem(&pem, b"web").unwrap();
    let authorities = [owner.authority().clone()];
    let policy = access_policy(&authorities).unwrap();

    let (stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    let evidence = quoted(&mut link, Role::Tenant, 1).await;
    // The initramfs has kept nothing yet: nobody knows to which boots a share would open.
    assert_eq!(
        refused(link.ask(keep(&machine, &evidence, 1)).await),
        "share-not-kept"
    );
    stop.send(()).unwrap();
    while link.next().await.is_some() {}
    running.await.unwrap().unwrap();
    Tpm::open(&way)
        .unwrap()
        .write_kept(KeptSlot::A, &policy, &[1; 16], &[2; 32])
        .unwrap();

    let (stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    let evidence = quoted(&mut link, Role::Tenant, 2).await;
    quoted(&mut link, Role::Verifier, 3).await;
    for (nonce, code) in [
        (9, "no-such-quote"),
        // The verifier may ask for quotes; what follows them is no word of the tenant.
        (3, "no-such-quote"),
    ] {
        assert_eq!(
            refused(link.ask(keep(&machine, &evidence, nonce)).await),
            code
        );
    }
    let good = keep(&machine, &evidence, 2);
    let Call::Keep(mut call) = good.clone() else {
        panic!("not a keep")
    };
    call.ciphertext.0[0] ^= 1;
    assert_eq!(refused(link.ask(Call::Keep(call)).await), "share-refused");
    // A quote serves once, also when the share after it was refused.
    assert_eq!(refused(link.ask(good).await), "no-such-quote");
    let evidence = quoted(&mut link, Role::Tenant, 4).await;
    let good = keep(&machine, &evidence, 4);
    assert!(matches!(
        link.ask(good.clone()).await,
        Outcome::Ok(Reply::Keep {})
    ));
    assert_eq!(refused(link.ask(good).await), "no-such-quote");
    stop.send(()).unwrap();
    while link.next().await.is_some() {}
    running.await.unwrap().unwrap();

    let signed = owner.sign(&[4], &[(4, [0; 32])].into()).unwrap();
    let mut tpm = Tpm::open(&way).unwrap();
    let kept = tpm.read_kept(
        KeptSlot::Staged,
        &authorities,
        std::slice::from_ref(&signed),
    );
    let kept = kept.unwrap();
    assert_eq!((kept.id, *kept.u), ([7; 16], [0x55; 32]));
    let untouched = tpm.read_kept(KeptSlot::A, &authorities, &[signed]).unwrap();
    assert_eq!(untouched.id, [1; 16]);
}

#[tokio::test]
async fn files_of_the_next_boot_are_reported_over_each_link_and_after_each_change() {
    let mut verifier = Verifier::start().await;
    let machine = Machine::with(&verifier).await;
    let report = |sha256: &str| BootFiles {
        at_ms: 1,
        version: Some("6.1".into()),
        files: vec![BootFile {
            role: BootFileRole::Kernel,
            path: "/boot/vmlinuz-6.1".into(),
            size: 5,
            sha256: sha256.into(),
            authenticode: None,
        }],
    };
    let write = |report: &BootFiles| {
        let path = &machine.settings.boot_files;
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(report).unwrap()).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    async fn next(link: &mut Link) -> BootFiles {
        loop {
            if let Event::BootFiles(report) = link.event().await {
                return report;
            }
        }
    }
    let (_stop, running) = machine.daemon();
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    // There is none yet, then a torn one: nothing is told of either.
    std::fs::write(&machine.settings.boot_files, b"{").unwrap();
    write(&report("aa"));
    assert_eq!(next(&mut link).await, report("aa"));
    write(&report("bb"));
    assert_eq!(next(&mut link).await, report("bb"));
    link.close().await;
    let mut link = verifier.link().await;
    link.accept(&machine.identity.ak_public).await;
    assert_eq!(next(&mut link).await, report("bb"));
    running.abort();
}
