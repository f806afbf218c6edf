//! A verifier with its neighbours: a registrar of records the test decides on, a tenant, and nodes made of code.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod host;
pub mod keeper;
#[path = "../../../crates/policy/tests/common/mod.rs"]
pub mod machine;
pub mod node;
pub mod peer;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{extract::Path, routing::get, Json, Router};
use bootkeep_link::{ClientTls, HttpClient, HttpError};
use bootkeep_pki::{identity::Authority, state_key::StateKey};
use bootkeep_policy::{boot_call, inspect, BootOptions, BootPolicy, Question, RuntimePolicy};
use bootkeep_protocol::{
    link::{Call, QuoteCall, Reply},
    policy::PolicySource,
    registrar::{EkAssurance, NodeRecord},
    verifier::{Enrolment, NodeStatus, OnFailure, RelayRequest, State, Steps},
    NodeId, Nonce, Phase, Problem, ProblemKind, Role,
};
use bootkeep_service::{serve_plain, serve_tls, ProblemResponse, ServerTls};
use bootkeep_signed::{SigningKey, VerifyingKeys};
use bootkeep_verifier::{CaNotices, Registrar, Verifier};
use machine::Machine;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

pub const SHARE_V: [u8; 32] = [0x5a; 32];
pub const ENVELOPE: &[u8] = b"an envelope that only K opens";
pub const LATCH: [u8; 32] = [9; 32];
pub const STATE_KEY: [u8; 32] = [1; 32];

pub type Records = Arc<Mutex<HashMap<NodeId, NodeRecord>>>;

/// Everything around one verifier. The folder holds its database, so it can be started again.
pub struct World {
    pub folder: tempfile::TempDir,
    pub records: Records,
    pub tenant: HttpClient,
    pub node_tls: ClientTls,
    pub authority: Authority,
    /// The owner's key of policies.
    pub policy_key: SigningKey,
    /// The verifier's key of the revocation log.
    pub revocation_key: SigningKey,
    ca: String,
    /// URL of the verifier's database.
    pub database_url: String,
    pub registrar_url: String,
    pub url: String,
    server: JoinHandle<()>,
    verifier: Option<Arc<Verifier>>,
}

fn identity(authority: &Authority, role: Role) -> (String, String) {
    // The last is this side of the bridge in tests with network namespaces.
    let names = ["localhost", "127.0.0.1", "10.77.0.254"].map(str::to_owned);
    let identity = authority.issue_service(role, &names).unwrap();
    (identity.certificate_pem, identity.key_pem.to_string())
}

impl World {
    pub async fn new() -> Self {
        let records = Records::default();
        Self::around(registrar(records.clone()), records).await
    }

    /// A world with another registrar.
    pub async fn with_registrar(router: Router) -> Self {
        Self::around(router, Records::default()).await
    }

    async fn around(registrar: Router, records: Records) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::generate("owner").unwrap();
        let ca = authority.certificate_pem().to_owned();
        let (certificate, key) = identity(&authority, Role::Tenant);
        let tls = ClientTls::with_identity(ca.as_bytes(), certificate.as_bytes(), key.as_bytes());
        let mut world = Self {
            tenant: HttpClient::new(tls.unwrap(), Role::Verifier),
            node_tls: ClientTls::new(ca.as_bytes()).unwrap(),
            database_url: format!("sqlite://{}", folder.path().join("verifier.db").display()),
            folder,
            records,
            authority,
            policy_key: SigningKey::generate().unwrap(),
            revocation_key: SigningKey::generate().unwrap(),
            ca,
            registrar_url: String::new(),
            url: String::new(),
            server: tokio::spawn(async {}),
            verifier: None,
        };
        (world.registrar_url, _) = world.serve(Role::Registrar, registrar).await;
        world.start().await;
        world
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn serve(&self, role: Role, router: Router) -> (String, JoinHandle<()>) {
        self.serve_at("127.0.0.1:0", role, router).await
    }

    pub async fn serve_at(
        &self,
        address: &str,
        role: Role,
        router: Router,
    ) -> (String, JoinHandle<()>) {
        let (certificate, key) = identity(&self.authority, role);
        let certificate = self.file(&format!("{role}-service.pem"), &certificate);
        let key = self.file(&format!("{role}-service.key"), &key);
        let ca = self.file("ca.pem", &self.ca);
        let tls = ServerTls::load(&certificate, &key, &ca).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let serving = async move {
            serve_tls(listener, tls, router, std::future::pending())
                .await
                .unwrap();
        };
        (url, tokio::spawn(serving))
    }

    pub fn client(&self, role: Option<Role>) -> HttpClient {
        let tls = match role {
            None => ClientTls::new(self.ca.as_bytes()),
            Some(role) => {
                let (certificate, key) = identity(&self.authority, role);
                ClientTls::with_identity(self.ca.as_bytes(), certificate.as_bytes(), key.as_bytes())
            }
        };
        HttpClient::new(tls.unwrap(), Role::Verifier)
    }

    /// A client with this role for services of another.
    pub fn client_for(&self, own: Role, server: Role) -> HttpClient {
        let (certificate, key) = identity(&self.authority, own);
        let tls =
            ClientTls::with_identity(self.ca.as_bytes(), certificate.as_bytes(), key.as_bytes());
        HttpClient::new(tls.unwrap(), server)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.verifier().metrics_router();
        tokio::spawn(serve_plain(listener, router, std::future::pending()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Waits until `/metrics` has this text.
    pub async fn counted(&self, text: &str) {
        for _ in 0..200 {
            if self.metrics().await.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no {text} in {}", self.metrics().await);
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("verifier.db")
    }

    /// Ends the verifier as a crash does.
    pub fn stop(&mut self) {
        self.server.abort();
        self.verifier = None;
    }

    /// Starts a verifier on the folder's database; an older one is left behind, as after a crash.
    pub async fn start(&mut self) {
        self.server.abort();
        let verifier = self.open().await;
        (self.url, self.server) = self.serve(Role::Verifier, verifier.router()).await;
        self.verifier = Some(verifier);
    }

    /// Starts a verifier that keeps a revocation log and tells the CA of this URL.
    pub async fn start_revoking(&mut self, ca: Option<&str>) {
        self.start_revoking_at("127.0.0.1:0", ca).await;
    }

    /// The same at this address.
    pub async fn start_revoking_at(&mut self, address: &str, ca: Option<&str>) {
        self.server.abort();
        let verifier = self.open().await;
        self.revoke_with(&verifier, ca).await;
        let router = verifier.router();
        (self.url, self.server) = self.serve_at(address, Role::Verifier, router).await;
        self.verifier = Some(verifier);
    }

    pub async fn revoke_with(&self, verifier: &Arc<Verifier>, ca: Option<&str>) {
        let key = SigningKey::from_pem(&self.revocation_key.to_pem()).unwrap();
        let client = HttpClient::new(self.verifier_tls(), Role::Ca);
        let ca = ca.map(|url| CaNotices::new(client, url));
        verifier.start_revocations(key, ca).await.unwrap();
    }

    fn verifier_tls(&self) -> ClientTls {
        let (certificate, key) = identity(&self.authority, Role::Verifier);
        ClientTls::with_identity(self.ca.as_bytes(), certificate.as_bytes(), key.as_bytes())
            .unwrap()
    }

    /// The public key of the revocation log.
    pub fn revocation_keys(&self) -> VerifyingKeys {
        VerifyingKeys::from_pem(&self.revocation_key.public_pem()).unwrap()
    }

    /// Another verifier on the same database.
    pub async fn open(&self) -> Arc<Verifier> {
        let registrar = Registrar::new(
            HttpClient::new(self.verifier_tls(), Role::Registrar),
            &self.registrar_url,
        );
        let policy_keys = VerifyingKeys::from_pem(&self.policy_key.public_pem()).unwrap();
        Verifier::open_with(
            &self.database_url,
            StateKey::from_bytes(STATE_KEY),
            registrar,
            Some(policy_keys),
        )
        .await
        .unwrap()
    }

    /// The verifier that runs now.
    pub fn verifier(&self) -> &Arc<Verifier> {
        self.verifier.as_ref().unwrap()
    }

    /// The registrar learns of a machine.
    pub fn register(&self, machine: &Machine, generation: u64) {
        let record = NodeRecord {
            node_id: machine.node.clone(),
            generation,
            ek_public: machine.ek_public.clone().into(),
            ek_certificate: None,
            assurance: EkAssurance::Approval {
                note: "test".into(),
            },
            ak_public: machine.ak_public.clone().into(),
            registered_at: 1,
        };
        self.records
            .lock()
            .unwrap()
            .insert(machine.node.clone(), record);
    }

    /// A machine that is registered and enrolled with policies of its present boot.
    pub async fn enrolled(&self, name: &str) -> (Machine, Enrolment) {
        let machine = Machine::booted(name);
        self.register(&machine, 1);
        let enrolment = enrolment(&machine);
        self.enrol(&machine.node, &enrolment).await.unwrap();
        (machine, enrolment)
    }

    pub fn node_url(&self, node: &NodeId) -> String {
        format!("{}/v1/nodes/{node}", self.url)
    }

    pub async fn enrol(
        &self,
        node: &NodeId,
        enrolment: &Enrolment,
    ) -> Result<NodeStatus, HttpError> {
        self.tenant.put(&self.node_url(node), enrolment).await
    }

    pub async fn status(&self, node: &NodeId) -> NodeStatus {
        self.tenant.get(&self.node_url(node)).await.unwrap()
    }

    pub async fn steps(&self, node: &NodeId, after: u64) -> Steps {
        let url = format!("{}/steps?after={after}", self.node_url(node));
        self.tenant.get(&url).await.unwrap()
    }

    pub async fn relay(&self, node: &NodeId, phase: Phase, call: Call) -> Result<Reply, HttpError> {
        let url = format!("{}/relay", self.node_url(node));
        self.tenant.post(&url, &RelayRequest { phase, call }).await
    }

    /// Waits until the node is in this state.
    pub async fn until(&self, node: &NodeId, state: State) -> NodeStatus {
        for _ in 0..600 {
            let status = self.status(node).await;
            if status.state == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not {}: {:?}", state.as_str(), self.status(node).await);
    }

    /// Waits for a step of this kind and gives its detail.
    pub async fn step(&self, node: &NodeId, step: &str) -> String {
        let mut after = 0;
        for _ in 0..600 {
            let steps = self.steps(node, after).await;
            for record in steps.steps {
                after = record.number;
                if record.step == step {
                    return record.detail;
                }
            }
        }
        panic!("no step {step}");
    }
}

fn registrar(records: Records) -> Router {
    let answer = move |Path(id): Path<String>| {
        let record = records.lock().unwrap().get(&id.parse().unwrap()).cloned();
        async move {
            let unknown = || Problem::new(ProblemKind::NotFound, "unknown-node", "no such node");
            record.map(Json).ok_or_else(|| ProblemResponse(unknown()))
        }
    };
    Router::new().route("/v1/nodes/{id}", get(answer))
}

/// Policies of the machine's present boot; `/usr/bin/true` is listed, too.
pub fn policies(machine: &Machine) -> (BootPolicy, RuntimePolicy) {
    let call = boot_call(Nonce::fresh().unwrap(), Role::Tenant, 0);
    let exporter = [0; 32];
    let question = Question {
        node: &machine.node,
        ak: &machine.ak(),
        call: &call,
        exporter: &exporter,
        phase: machine.phase,
    };
    let good = inspect(&question, &machine.evidence(&call, &exporter)).unwrap();
    let options = BootOptions::default();
    let boot = BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &options).unwrap();
    let mut runtime = RuntimePolicy::from_list(&good.ima).unwrap();
    runtime
        .accept_file("/usr/bin/true", Sha256::digest(b"true").into())
        .unwrap();
    (boot, runtime)
}

pub fn enrolment(machine: &Machine) -> Enrolment {
    let (boot, runtime) = policies(machine);
    let mut latched = machine.clone();
    latched.pcrs[15] = [0; 32];
    latched.extend(15, &LATCH);
    Enrolment {
        label: "web-1".into(),
        generation: 1,
        ak_digest: Sha256::digest(&machine.ak_public).as_slice().into(),
        share_v: SHARE_V.as_slice().into(),
        envelope: ENVELOPE.into(),
        latched_pcr15: latched.pcrs[15].as_slice().into(),
        boot_policy: PolicySource::Document(boot.to_value().unwrap()),
        runtime_policy: PolicySource::Document(runtime.to_value().unwrap()),
        interval_seconds: 60,
        addresses: Vec::new(),
        serials: Vec::new(),
        on_failure: OnFailure::default(),
        unattended: None,
    }
}

pub fn tenant_quote() -> QuoteCall {
    boot_call(Nonce::fresh().unwrap(), Role::Tenant, 0)
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(result: Result<T, HttpError>) -> String {
    let error = result.unwrap_err();
    let problem = error.problem();
    problem.map_or_else(|| error.to_string(), |problem| problem.code.clone())
}
