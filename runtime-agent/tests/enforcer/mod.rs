//! An enforcer with its files in a folder, the verifier's log, and a client.
#![allow(dead_code)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bootkeep_handover::Handover;
use bootkeep_node::host::KernelFiles;
use bootkeep_protocol::{
    dsse::Envelope,
    link::{Outcome, Reply},
    revocation::{Action, RevocationsCall, RevocationsReply},
    NodeId,
};
use bootkeep_revocation::{Draft, LogKey, Position};
use bootkeep_runtime_agent::{
    enforce::{self, wire::Told, EnforceError, EnforceSettings},
    Supervisor,
};
use bootkeep_signed::SigningKey;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
    time::sleep,
};

/// The verifier's clock begins here.
const BEGIN: u64 = 1_700_000_000_000;
/// Until something happens that must.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LOG: &str = "00112233445566778899aabbccddeeff";

pub(crate) struct Node {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: EnforceSettings,
    running: Option<Running>,
}

/// What stops it when dropped, and its end.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), EnforceError>>);

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::of_ek_public(name.as_bytes())
}

impl Node {
    pub(crate) fn new(log: &Log) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("revocation.pem"), &log.public).unwrap();
        fs::create_dir(at("actions.d")).unwrap();
        let settings = EnforceSettings {
            keys: at("revocation.pem"),
            fail_closed_after: None,
            ipsec: at("ipsec.yaml"),
            identity: at("identity"),
            actions: at("actions.d"),
            state: at("revocations.json"),
            crl: at("crl.der"),
            fresh: at("fresh.json"),
            socket: at("socket"),
            handover: Handover::at(&at("handover")),
            files: KernelFiles::default(),
        };
        let node = Self {
            folder,
            settings,
            running: None,
        };
        for on in ["revoke", "reinstate", "self-revoked", "stale", "fresh"] {
            node.action(on, on, "");
        }
        node
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An action that runs some shell and then notes that it was run.
    pub(crate) fn action(&self, name: &str, on: &str, shell: &str) {
        let program = self.at(&format!("{name}.sh"));
        let note = format!(
            "echo {on} $BOOTKEEP_SEQUENCE $BOOTKEEP_NODE_ID >> {}",
            self.at("notes").display()
        );
        write(&program, &format!("#!/bin/sh\n{shell}\n{note}\n"), 0o755);
        let text = format!(
            "on: {on}\ndeadline_seconds: 40\ncommand: [{}]\n",
            program.display()
        );
        write(
            &self.settings.actions.join(format!("{name}.yaml")),
            &text,
            0o644,
        );
    }

    /// What actions noted.
    pub(crate) fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("notes")).unwrap_or_default();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    pub(crate) async fn noted(&self, note: &str) {
        let begun = Instant::now();
        while !self.notes().iter().any(|line| line == note) {
            assert!(begun.elapsed() < PATIENCE, "no {note}: {:?}", self.notes());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn claims(&self) -> Vec<String> {
        let claims = self.settings.handover.take_claims().unwrap();
        claims
            .into_iter()
            .map(|claim| format!("{}: {}", claim.code, claim.detail))
            .collect()
    }

    pub(crate) async fn start(&mut self) {
        let settings = self.settings.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            enforce::run(&settings, &Supervisor::default(), stopped).await
        });
        while UnixStream::connect(&self.settings.socket).await.is_err() {
            assert!(!running.is_finished(), "{:?}", running.await);
            sleep(Duration::from_millis(10)).await;
        }
        self.running = Some((stop, running));
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn crash(&mut self) {
        let (_stop, running) = self.running.take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        fs::remove_file(&self.settings.socket).unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        Client::at(&self.settings.socket).await.unwrap()
    }

    pub(crate) async fn tell(&self, call: &RevocationsCall) -> Outcome {
        self.client().await.tell(call).await
    }

    /// The acknowledgement.
    pub(crate) async fn taken(&self, call: &RevocationsCall) -> RevocationsReply {
        match self.tell(call).await {
            Outcome::Ok(Reply::Revocations(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The code of the refusal.
    pub(crate) async fn refused(&self, call: &RevocationsCall) -> String {
        match self.tell(call).await {
            Outcome::Refused(problem) => problem.code,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) async fn at(socket: &Path) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(UnixStream::connect(socket).await?)))
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, call: &RevocationsCall) {
        let told = Told {
            node_id: node_id("this"),
            call: call.clone(),
        };
        let line = serde_json::to_string(&told).unwrap() + "\n";
        self.say(line.as_bytes()).await;
    }

    pub(crate) async fn outcome(&mut self) -> Option<Outcome> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    pub(crate) async fn tell(&mut self, call: &RevocationsCall) -> Outcome {
        self.send(call).await;
        self.outcome().await.unwrap()
    }
}

/// The verifier's log.
pub(crate) struct Log {
    key: LogKey,
    pub(crate) public: String,
    end: Position,
    ends: Vec<Position>,
    pub(crate) entries: Vec<Envelope>,
    now: u64,
    /// Since when the clock goes by itself.
    ticking: Option<Instant>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::named(LOG, SigningKey::generate().unwrap())
    }

    pub(crate) fn named(name: &str, key: SigningKey) -> Self {
        let public = key.public_pem();
        Self {
            key: LogKey::new(key, name),
            public,
            end: Position::START,
            ends: vec![Position::START],
            entries: Vec::new(),
            now: BEGIN,
            ticking: None,
        }
    }

    pub(crate) fn add(&mut self, action: Action, node: &str) -> Envelope {
        self.add_at(action, node, "192.0.2.7")
    }

    pub(crate) fn add_at(&mut self, action: Action, node: &str, address: &str) -> Envelope {
        let mut draft = Draft::new(action, node_id(node), node);
        draft.addresses = vec![address.parse().unwrap()];
        let signed = self.key.entry(&self.end, self.now, draft).unwrap();
        self.end = signed.position;
        self.ends.push(signed.position);
        self.entries.push(signed.envelope.clone());
        signed.envelope
    }

    pub(crate) fn revoke(&mut self, node: &str) -> Envelope {
        self.add(Action::Revoke, node)
    }

    /// The verifier's clock goes on.
    pub(crate) fn later(&mut self, ms: u64) {
        self.now += ms;
    }

    /// The verifier's clock goes by itself from now on.
    pub(crate) fn tick(&mut self) {
        self.ticking = Some(Instant::now());
    }

    pub(crate) fn head(&self) -> Envelope {
        let ticked = self.ticking.map_or(0, |since| since.elapsed().as_millis());
        let now = self.now + u64::try_from(ticked).unwrap();
        self.key.head(&self.end, now).unwrap()
    }

    /// A head that ends at an earlier entry.
    pub(crate) fn head_at(&self, sequence: usize) -> Envelope {
        self.key.head(&self.ends[sequence], self.now).unwrap()
    }

    /// The newest head with these entries.
    pub(crate) fn call(&self, entries: &[Envelope]) -> RevocationsCall {
        RevocationsCall {
            head: self.head(),
            entries: entries.to_vec(),
            crl: None,
        }
    }

    pub(crate) fn whole(&self) -> RevocationsCall {
        self.call(&self.entries)
    }
}
