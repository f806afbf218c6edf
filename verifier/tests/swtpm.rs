//! The whole way with real parts: a software TPM with a certified EK, the node's own code, a real registrar.
#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use bootkeep_evidence::{eventlog::EventLog, ima::parse_binary, AkPublic};
use bootkeep_link::HttpClient;
use bootkeep_node::{
    host::KernelFiles,
    session::{event_queue, share_channel, Session},
    tpm::TpmThread,
    Attester, Identity,
};
use bootkeep_pki::ek::EkRoots;
use bootkeep_policy::{inspect, BootOptions, BootPolicy, Question, RuntimePolicy};
use bootkeep_protocol::{
    link::{Call, Event, Reply, SharePart},
    policy::PolicySource,
    verifier::{Enrolment, LinkInfo, OnFailure, State},
    Bytes, Phase, Role,
};
use bootkeep_registrar::Registrar;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{latch_digest, latched_pcr15, NodeKey, Wrapped, V};
use bootkeep_tpm::Tcti;
use common::{machine::Machine, tenant_quote, World, ENVELOPE, SHARE_V};
use sha2::{Digest, Sha256};

struct Host {
    attester: Attester,
    nk: NodeKey,
    list: Machine,
    folder: tempfile::TempDir,
    _swtpm: Swtpm,
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

impl Host {
    /// Firmware and kernel have measured: the TPM holds what the logs say.
    async fn boot(swtpm: Swtpm) -> Self {
        let way = Tcti::Swtpm { port: swtpm.port() };
        let tpm = TpmThread::open_at(way, Duration::from_secs(10))
            .await
            .unwrap();
        let list = Machine::booted("logs");
        let folder = tempfile::tempdir().unwrap();
        let files = KernelFiles {
            event_log: write(folder.path(), "event_log", &list.event_log),
            ima: write(folder.path(), "ima", &list.ima),
            ..KernelFiles::default()
        };
        let nk = NodeKey::generate().unwrap();
        let host = Self {
            attester: Attester {
                identity: Arc::new(Identity::load(&tpm).await.unwrap()),
                tpm,
                phase: Phase::Initramfs,
                boot_id: files.boot_id().unwrap(),
                nk_public: nk.public(),
                files,
            },
            nk,
            list,
            folder,
            _swtpm: swtpm,
        };
        for event in EventLog::parse(&host.list.event_log).unwrap().events() {
            host.extend(event.pcr, event.digest).await;
        }
        for entry in parse_binary(&host.list.ima).unwrap().0 {
            host.extend(10, entry.extended_digest()).await;
        }
        host
    }

    async fn extend(&self, pcr: u8, digest: [u8; 32]) {
        let extend = move |tpm: &mut bootkeep_tpm::Tpm| tpm.pcr_extend(pcr, &digest);
        self.attester.tpm.run(extend).await.unwrap().unwrap();
    }

    /// The kernel measures a file.
    async fn measure(&mut self, path: &str, contents: &[u8]) {
        let before = self.list.ima.len();
        self.list.measure(path, contents);
        let entry = &parse_binary(&self.list.ima[before..]).unwrap().0[0];
        self.extend(10, entry.extended_digest()).await;
        write(self.folder.path(), "ima", &self.list.ima);
    }
}

/// Policies and enrolment as a tenant makes them: from evidence it has asked for and checked itself.
async fn enrolment(world: &World, host: &Host, latched: [u8; 32]) -> Enrolment {
    let identity = &host.attester.identity;
    let url = format!("{}/links", world.node_url(&identity.node_id));
    let links: Vec<LinkInfo> = world.tenant.get(&url).await.unwrap();
    let call = tenant_quote();
    let relayed = world.relay(
        &identity.node_id,
        Phase::Initramfs,
        Call::Quote(call.clone()),
    );
    let Reply::Quote(evidence) = relayed.await.unwrap() else {
        panic!("no quote");
    };
    let question = Question {
        node: &identity.node_id,
        ak: &AkPublic::parse(&identity.ak_public).unwrap(),
        call: &call,
        exporter: links[0].exporter.as_slice().try_into().unwrap(),
        phase: Phase::Initramfs,
    };
    let good = inspect(&question, &evidence).unwrap();
    let options = BootOptions::default();
    let boot = BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &options).unwrap();
    let runtime = RuntimePolicy::from_list(&good.ima).unwrap();
    Enrolment {
        label: "swtpm".into(),
        generation: 1,
        ak_digest: Sha256::digest(&identity.ak_public).as_slice().into(),
        share_v: SHARE_V.as_slice().into(),
        envelope: ENVELOPE.into(),
        latched_pcr15: latched.as_slice().into(),
        boot_policy: PolicySource::Document(boot.to_value().unwrap()),
        runtime_policy: PolicySource::Document(runtime.to_value().unwrap()),
        interval_seconds: 60,
        addresses: Vec::new(),
        serials: Vec::new(),
        on_failure: OnFailure::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_registration_to_an_unlisted_program() {
    let swtpm = Swtpm::certified().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("registrar.db").display());
    let roots = EkRoots::load(&swtpm.roots()).unwrap();
    let registrar = Registrar::open(&database, roots).await.unwrap();
    let world = World::with_registrar(registrar.router()).await;
    let mut host = Host::boot(swtpm).await;
    let node = host.attester.identity.node_id.clone();
    let client = HttpClient::new(world.node_tls.clone(), Role::Registrar);
    let registrars = [world.registrar_url.clone()];
    let identity = host.attester.identity.clone();
    identity
        .register(&host.attester.tpm, &client, &registrars)
        .await
        .unwrap();

    // In the initramfs: waits, is enrolled, gets V, latches.
    let urls = [world.url.clone()];
    let digest = latch_digest("cryptroot", b"key");
    let session = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let served = session.serve(Some(&shares), &mut queue);
    let boot = async {
        let enrolment = enrolment(&world, &host, latched_pcr15(&digest)).await;
        world.enrol(&node, &enrolment).await.unwrap();
        let request = taken.recv().await.unwrap();
        let call = request.call.clone();
        request.answer(Ok(Some(Bytes(vec![8; 32]))));
        world.until(&node, State::BootTrusted).await;
        world.step(&node, "share-v-sent").await;
        drop(events);
        call
    };
    let (_, call) = tokio::join!(served, boot);
    assert_eq!(call.part, SharePart::V);
    let wrapped = Wrapped {
        encapsulated: call.encapsulated.0,
        ciphertext: call.ciphertext.0,
    };
    let share = host
        .nk
        .unwrap_share::<V>(call.nonce.as_bytes(), node.as_str(), &wrapped);
    assert_eq!(share.unwrap().expose(), &SHARE_V);
    assert_eq!(
        world.steps(&node, 0).await.confirmation,
        Some(Bytes(vec![8; 32]))
    );
    host.extend(15, digest).await;
    let refused = Session::open(&host.attester, &world.node_tls, &urls)
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("latched"), "{refused}");

    // The system runs: trusted, until something unlisted does.
    host.attester.phase = Phase::Runtime;
    let attester = host.attester.clone();
    let session = Session::open(&attester, &world.node_tls, &urls)
        .await
        .unwrap();
    let (events, mut queue) = event_queue();
    let served = session.serve(None, &mut queue);
    let run = async {
        world.until(&node, State::Trusted).await;
        host.measure("/usr/bin/evil", b"evil").await;
        let _ = events.send(Event::ImaGrew { count: 3 }).await;
        let started = std::time::Instant::now();
        let status = world.until(&node, State::Untrusted).await;
        println!("untrusted {:?} after the report", started.elapsed());
        drop(events);
        status
    };
    let (_, status) = tokio::join!(served, run);
    assert_eq!(status.reasons[0].code, "file-not-listed");
    assert!(status.reasons[0].detail.contains("/usr/bin/evil"));
}
