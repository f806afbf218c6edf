//! A node: a software TPM, an attester, and files in the place of the kernel's.

#![allow(dead_code)]

use std::{path::Path, sync::Arc, time::Duration};

use bootkeep_node::{host::KernelFiles, tpm::TpmThread, Attester, Identity};
use bootkeep_protocol::Phase;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{AkKind, Tcti};
use tempfile::TempDir;

pub(crate) struct Node {
    pub(crate) attester: Attester,
    _files: TempDir,
    _swtpm: Swtpm,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(AkKind::default()).await
    }

    pub(crate) async fn start_with(kind: AkKind) -> Self {
        let swtpm = Swtpm::bare().unwrap();
        let way = Tcti::Swtpm { port: swtpm.port() };
        let tpm = TpmThread::open_at(way, Duration::from_secs(10))
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = kernel_files(folder.path());
        let attester = Attester {
            identity: Arc::new(Identity::load_with(&tpm, kind).await.unwrap()),
            tpm,
            phase: Phase::Initramfs,
            boot_id: files.boot_id().unwrap(),
            nk_public: [3; 32],
            files,
        };
        Self {
            attester,
            _files: folder,
            _swtpm: swtpm,
        }
    }
}

fn kernel_files(folder: &Path) -> KernelFiles {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    KernelFiles {
        event_log: write("event_log", "an event log"),
        ima: write("ima", "123456789"),
        ..KernelFiles::default()
    }
}
