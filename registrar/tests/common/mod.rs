//! A registrar over real TLS, its database, and nodes with software TPMs.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "../../../crates/store/tests/postgres/mod.rs"]
pub mod postgres;
#[path = "../../../crates/service/tests/common/mod.rs"]
pub mod service;

use std::{sync::Arc, time::Duration};

use bootkeep_link::{HttpClient, HttpError};
use bootkeep_node::{identity::IdentityError, tpm::TpmThread, Identity};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    registrar::{Activated, Approval, ApprovedEk, NodeRecord, RegisterRequest},
    NodeId, Problem, Role,
};
use bootkeep_registrar::Registrar;
use bootkeep_service::{serve_plain, Limits};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::Tcti;
use service::{Pki, Server, Wanted};
use sqlx::AnyPool;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use postgres::Postgres;

/// Where a registrar keeps its state.
pub enum Database {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        Self::Postgres(Postgres::start())
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}/registrar.db", folder.path().display()),
            Self::Postgres(cluster) => cluster.url(),
        }
    }

    /// A connection behind the registrar's back.
    pub async fn pool(&self) -> AnyPool {
        sqlx::any::install_default_drivers();
        AnyPool::connect(&self.url()).await.unwrap()
    }
}

/// A running registrar.
pub struct Front {
    pub server: Server,
    pub registrar: Arc<Registrar>,
    /// Of a registrar that is started once.
    own: Option<Database>,
}

impl Front {
    pub async fn start(database: &Database, roots: EkRoots) -> Self {
        let pki = Arc::new(Pki::new("owner"));
        Self::start_in(pki, database, roots).await
    }

    /// With an SQLite database of its own.
    pub async fn alone(roots: EkRoots) -> Self {
        let database = Database::sqlite();
        let front = Self::start(&database, roots).await;
        Self {
            own: Some(database),
            ..front
        }
    }

    pub async fn start_in(pki: Arc<Pki>, database: &Database, roots: EkRoots) -> Self {
        let registrar = Registrar::open(&database.url(), roots).await.unwrap();
        let identity = pki.issue(&Wanted::role(Role::Registrar));
        let server = Server::start_as(pki, &identity, Limits::default(), registrar.router()).await;
        Self {
            server,
            registrar,
            own: None,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    /// A client with a certificate of this role.
    pub fn client(&self, role: Role) -> HttpClient {
        let identity = self.server.pki.issue(&Wanted::role(role));
        HttpClient::new(self.server.pki.client_tls(&identity), Role::Registrar)
    }

    /// A client without a certificate, as nodes are.
    pub fn stranger(&self) -> HttpClient {
        HttpClient::new(self.server.pki.node_tls(), Role::Registrar)
    }

    pub async fn record(&self, node: &NodeId) -> Result<NodeRecord, HttpError> {
        let url = self.url(&format!("/v1/nodes/{node}"));
        self.client(Role::Verifier).get(&url).await
    }

    pub async fn records(&self) -> Vec<NodeRecord> {
        self.client(Role::Tenant)
            .get(&self.url("/v1/nodes"))
            .await
            .unwrap()
    }

    pub async fn approve(&self, node: &NodeId, note: &str) -> Result<ApprovedEk, HttpError> {
        let url = self.url(&format!("/v1/approvals/{node}"));
        let approval = Approval { note: note.into() };
        self.client(Role::Tenant).put(&url, &approval).await
    }

    /// What the metrics listener says.
    pub async fn metrics(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.registrar.metrics_router();
        tokio::spawn(serve_plain(listener, router, std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub async fn register(&self, node: &Node) -> Result<Activated, IdentityError> {
        let urls = [self.server.url.clone()];
        node.identity
            .register(&node.tpm, &self.stranger(), &urls)
            .await
    }
}

/// The certificates of a TPM's manufacturer.
pub fn roots(swtpm: &Swtpm) -> EkRoots {
    EkRoots::load(&swtpm.roots()).unwrap()
}

pub fn no_roots() -> EkRoots {
    let folder = tempfile::tempdir().unwrap();
    EkRoots::load(folder.path()).unwrap()
}

/// A node: its TPM is open as long as it lives.
pub struct Node {
    pub tpm: TpmThread,
    pub identity: Identity,
}

impl Node {
    pub async fn of(swtpm: &Swtpm) -> Self {
        let tpm = open(swtpm).await;
        let identity = Identity::load(&tpm).await.unwrap();
        Self { tpm, identity }
    }

    /// The same TPM with an AK of another kind.
    pub async fn with_ak(self, kind: bootkeep_tpm::AkKind) -> Self {
        let identity = Identity::load_with(&self.tpm, kind).await.unwrap();
        Self { identity, ..self }
    }

    pub fn id(&self) -> &NodeId {
        &self.identity.node_id
    }

    pub fn request(&self) -> RegisterRequest {
        RegisterRequest {
            ek_public: self.identity.ek_public.as_slice().into(),
            ek_certificate: self.identity.ek_certificate.clone().map(Into::into),
            ak_public: self.identity.ak_public.as_slice().into(),
        }
    }
}

pub async fn open(swtpm: &Swtpm) -> TpmThread {
    let way = Tcti::Swtpm { port: swtpm.port() };
    TpmThread::open_at(way, Duration::from_secs(10))
        .await
        .unwrap()
}

/// The refusal of a request that must be refused.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, HttpError>) -> Problem {
    match answer.unwrap_err() {
        HttpError::Refused(problem) => problem,
        other => unreachable!("{other}"),
    }
}

/// The refusal of a registration that must be refused.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, IdentityError>) -> Problem {
    match answer.unwrap_err() {
        IdentityError::Registrar(error) => refusal(Err::<(), _>(error)),
        other => unreachable!("{other}"),
    }
}
