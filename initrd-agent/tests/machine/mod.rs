//! A booting machine: a software TPM, the services it talks to, and systemd-cryptsetup's end of the key socket.

#![allow(dead_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{extract, routing::post, Json, Router};
use bootkeep_credential::make_credential;
use bootkeep_evidence::{AkPublic, EkPublic};
use bootkeep_handover::Handover;
use bootkeep_initrd_agent::{offer_passphrase, unlock, Console, GaveUp, Settings};
use bootkeep_node::{host::KernelFiles, AgentConfig};
use bootkeep_protocol::{
    registrar::{ActivateRequest, Activated, Challenge, RegisterRequest},
    NodeId, Role,
};
use bootkeep_service::{BoundedJson, Limits};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{KeptSlot, Tcti, Tpm, TpmError};

use crate::{
    common::{Server, Wanted},
    verifier::Verifier,
};

pub(crate) struct Machine {
    pub(crate) verifier: Verifier,
    settings: Settings,
    folder: tempfile::TempDir,
    _registrar: Server,
    swtpm: Swtpm,
}

impl Machine {
    /// A person may type a passphrase, and types this at the console once the agent listens there.
    pub(crate) fn typed(&mut self, text: &'static [u8]) {
        self.settings.config.passphrase = true;
        let terminal = self.settings.terminal.clone();
        nix::unistd::mkfifo(&terminal, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::thread::spawn(move || {
            let mut keyboard = File::options().write(true).open(terminal).unwrap();
            keyboard.write_all(text).unwrap();
        });
    }

    /// Gives up after `deadline` seconds.
    pub(crate) async fn booting(deadline: u64) -> Self {
        let verifier = Verifier::start().await;
        let registrar = registrar(&verifier).await;
        let swtpm = Swtpm::bare().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &verifier.server.pki.ca_pem).unwrap();
        std::fs::create_dir(folder.path().join("mapper")).unwrap();
        std::fs::create_dir_all(folder.path().join("sys/cryptroot/slaves/disk")).unwrap();
        std::fs::create_dir_all(folder.path().join("sys/disk")).unwrap();
        make_disk(&folder.path().join("dev"));
        let text = format!(
            "registrar: ['{}']\nverifier: ['{}']\nserver_ca: {}\n",
            registrar.url,
            verifier.server.url,
            ca.display()
        );
        let file = folder.path().join("agent.yaml");
        std::fs::write(&file, text).unwrap();
        let mut config = AgentConfig::load(&file).unwrap();
        config.deadline_seconds = deadline;
        let nothing = folder.path().join("nothing");
        let settings = Settings {
            config,
            tpm: Tcti::Swtpm { port: swtpm.port() },
            files: KernelFiles {
                event_log: nothing.clone(),
                ima: nothing,
                ..KernelFiles::default()
            },
            handover: Handover::at(&folder.path().join("handover")),
            mapper: folder.path().join("mapper"),
            ask_password: folder.path().join("ask-password"),
            sys_block: folder.path().join("sys"),
            devices: folder.path().join("dev"),
            pcr_signatures: vec![folder.path().join("pcr-signature.json")],
            cryptsetup: "/sbin/cryptsetup".into(),
            terminal: folder.path().join("terminal"),
        };
        Self {
            verifier,
            settings,
            folder,
            _registrar: registrar,
            swtpm,
        }
    }

    /// Changes one byte of the metadata of the disk's header.
    pub(crate) fn spoil_disk(&self) {
        let disk = self.settings.devices.join("disk");
        let mut bytes = std::fs::read(&disk).unwrap();
        bytes[4100] ^= 1;
        std::fs::write(&disk, bytes).unwrap();
    }

    /// Power off in order and on again: the TPM is reset, nothing is open, nothing handed over.
    pub(crate) fn reboot(&mut self) {
        let _ = std::fs::remove_file(self.settings.mapper.join("cryptroot"));
        let _ = std::fs::remove_dir_all(self.settings.handover.directory());
        self.swtpm.power_cycle().unwrap();
        self.settings.tpm = Tcti::Swtpm {
            port: self.swtpm.port(),
        };
    }

    /// The TPM, while no agent has it.
    pub(crate) fn tpm(&self) -> Tpm {
        Tpm::open(&self.settings.tpm).unwrap()
    }

    /// Lets another program take cryptsetup's place.
    pub(crate) fn set_cryptsetup(&mut self, program: &Path) {
        self.settings.cryptsetup = program.to_owned();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the TPM has this slot.
    pub(crate) fn keeps(&self, slot: KeptSlot) -> bool {
        match self.tpm().nv_read(slot.index()) {
            Err(TpmError::NvAbsent { .. }) => false,
            Err(TpmError::NvUnreadable { .. }) => true,
            other => panic!("{other:?}"),
        }
    }

    /// Puts a copy of another machine's disk in the place of its own.
    pub(crate) fn take_disk(&self, other: &Self) {
        let of = |machine: &Self| machine.settings.devices.join("disk");
        std::fs::copy(of(other), of(self)).unwrap();
    }

    /// Whether a key opens the disk.
    pub(crate) fn opens(&self, key: &[u8]) -> bool {
        let mut child = Command::new("cryptsetup")
            .args(["open", "--test-passphrase", "--batch-mode", "--key-file=-"])
            .arg(self.settings.devices.join("disk"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(key).unwrap();
        child.wait().unwrap().success()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("key-socket")
    }

    pub(crate) fn handover(&self) -> &Handover {
        &self.settings.handover
    }

    /// The agent's run; with the socket that systemd has made before.
    pub(crate) fn agent(&self) -> Agent {
        let _ = std::fs::remove_file(self.socket());
        Agent {
            listener: UnixListener::bind(self.socket()).unwrap(),
            settings: self.settings.clone(),
        }
    }

    /// systemd-cryptsetup: reads the key, then opens the volume with whatever it got or a person typed.
    pub(crate) fn cryptsetup(&self) -> std::thread::JoinHandle<Vec<u8>> {
        let (socket, device) = (self.socket(), self.settings.mapper.join("cryptroot"));
        std::thread::spawn(move || {
            let mut key = Vec::new();
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.read_to_end(&mut key).unwrap();
            std::fs::write(device, "").unwrap();
            key
        })
    }

    /// systemd-cryptsetup on a disk that the key does not fit: asks a person, who types what opens it.
    pub(crate) fn cryptsetup_of_another_disk(&self) -> std::thread::JoinHandle<Vec<u8>> {
        let (socket, device) = (self.socket(), self.settings.mapper.join("cryptroot"));
        let ask = self.settings.ask_password.clone();
        std::thread::spawn(move || {
            let mut key = Vec::new();
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.read_to_end(&mut key).unwrap();
            std::fs::write(ask.join("tmp.1"), "").unwrap();
            std::fs::rename(ask.join("tmp.1"), ask.join("ask.1")).unwrap();
            std::fs::remove_file(ask.join("ask.1")).unwrap();
            std::fs::write(device, "").unwrap();
            key
        })
    }

    /// PCR 15, once the agent has let the TPM go.
    pub(crate) fn pcr15(&self) -> [u8; 32] {
        let way = Tcti::Swtpm {
            port: self.swtpm.port(),
        };
        let mut tpm = Tpm::open(&way).unwrap();
        tpm.pcr_read(&[15]).unwrap()[0].1
    }

    /// Whether any file of the machine holds these bytes.
    pub(crate) fn has_on_disk(&self, bytes: &[u8]) -> bool {
        holds(self.folder.path(), bytes)
    }
}

pub(crate) struct Agent {
    listener: UnixListener,
    settings: Settings,
}

impl Agent {
    pub(crate) async fn unlock(self) -> Result<(), GaveUp> {
        unlock(&self.settings, self.listener, &Arc::new(Console::default())).await
    }

    /// As the program does with `passphrase: true`.
    pub(crate) async fn unlock_or_ask(self) -> Result<(), GaveUp> {
        let console = Arc::new(Console::default());
        let again = self.listener.try_clone().unwrap();
        match unlock(&self.settings, self.listener, &console).await {
            Err(error) => offer_passphrase(&self.settings, again, error, &console).await,
            opened => opened,
        }
    }
}

fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap() {
            found if found.is_dir() => holds(&path, bytes),
            found if found.is_file() => std::fs::read(&path)
                .unwrap()
                .windows(bytes.len())
                .any(|window| window == bytes),
            _ => false,
        }
    })
}

/// What the image's key slot takes.
pub(crate) const LUKS_KEY: &[u8] = b"open sesame, says the owner";

/// A disk with LUKS on it.
fn make_disk(devices: &Path) {
    std::fs::create_dir(devices).unwrap();
    let disk = devices.join("disk");
    File::create(&disk).unwrap().set_len(20 << 20).unwrap();
    let mut made = Command::new("cryptsetup")
        .args(["luksFormat", "--type", "luks2", "--batch-mode"])
        .args(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"])
        .args(["--key-file=-".as_ref(), disk.as_os_str()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    made.stdin.take().unwrap().write_all(LUKS_KEY).unwrap();
    assert!(made.wait().unwrap().success());
}

/// A registrar that believes every EK.
async fn registrar(verifier: &Verifier) -> Server {
    let register = |BoundedJson(request): BoundedJson<RegisterRequest>| async move {
        let ek = EkPublic::parse(request.ek_public.as_slice()).unwrap();
        let ak = AkPublic::parse(request.ak_public.as_slice()).unwrap();
        let made = make_credential(&ek, ak.name(), &[9; 32]).unwrap();
        Json(Challenge {
            node_id: NodeId::of_ek_public(request.ek_public.as_slice()),
            challenge_id: "one".into(),
            credential_blob: made.blob.into(),
            encrypted_secret: made.encrypted_secret.into(),
        })
    };
    let activate = |extract::Path(node_id): extract::Path<NodeId>,
                    BoundedJson(_): BoundedJson<ActivateRequest>| async move {
        Json(Activated {
            node_id,
            generation: 1,
        })
    };
    let router = Router::new()
        .route("/v1/nodes", post(register))
        .route("/v1/nodes/{id}/activate", post(activate));
    let pki = verifier.server.pki.clone();
    let identity = pki.issue(&Wanted::role(Role::Registrar));
    Server::start_as(pki, &identity, Limits::default(), router).await
}

/// Long enough for a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
