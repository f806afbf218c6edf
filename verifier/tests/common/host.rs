//! A node made of the node's own code on a software TPM, with logs the test writes.

use std::{path::Path, sync::Arc, time::Duration};

use bootkeep_evidence::{eventlog::EventLog, ima::parse_binary, AkPublic};
use bootkeep_node::{host::KernelFiles, tpm::TpmThread, Attester, Identity};
use bootkeep_policy::{inspect, BootOptions, BootPolicy, Question, RuntimePolicy};
use bootkeep_protocol::{
    link::{Call, Reply},
    policy::PolicySource,
    verifier::{Enrolment, LinkInfo, OnFailure},
    Phase,
};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::NodeKey;
use bootkeep_tpm::Tcti;
use sha2::{Digest, Sha256};

use super::{machine::Machine, tenant_quote, World, ENVELOPE, SHARE_V};

/// The machine.
pub struct Host {
    pub attester: Attester,
    pub nk: NodeKey,
    pub list: Machine,
    folder: tempfile::TempDir,
    swtpm: Swtpm,
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

impl Host {
    /// Firmware and kernel have measured: the TPM holds what the logs say.
    pub async fn boot(swtpm: Swtpm) -> Self {
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
            swtpm,
        };
        for event in EventLog::parse(&host.list.event_log).unwrap().events() {
            host.extend(event.pcr, event.digest).await;
        }
        for entry in parse_binary(&host.list.ima).unwrap().0 {
            host.extend(10, entry.extended_digest()).await;
        }
        host
    }

    /// Switches it off; the TPM stays.
    pub fn off(self) -> Swtpm {
        self.swtpm
    }

    pub async fn extend(&self, pcr: u8, digest: [u8; 32]) {
        let extend = move |tpm: &mut bootkeep_tpm::Tpm| tpm.pcr_extend(pcr, &digest);
        self.attester.tpm.run(extend).await.unwrap().unwrap();
    }

    /// The kernel measures a file.
    pub async fn measure(&mut self, path: &str, contents: &[u8]) {
        let before = self.list.ima.len();
        self.list.measure(path, contents);
        let entry = &parse_binary(&self.list.ima[before..]).unwrap().0[0];
        self.extend(10, entry.extended_digest()).await;
        write(self.folder.path(), "ima", &self.list.ima);
    }
}

/// Policies and enrolment as a tenant makes them: from evidence it has asked for and checked itself.
pub async fn enrolment(world: &World, host: &Host, latched: [u8; 32]) -> Enrolment {
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
        unattended: None,
    }
}
