//! A CA over real TLS, its public listener, its database, and openssl to judge what it signs.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "../../../crates/store/tests/postgres/mod.rs"]
pub mod postgres;
#[path = "../../../crates/service/tests/common/mod.rs"]
pub mod service;

use std::{fs, net::SocketAddr, path::Path, process::Command, sync::Arc};

use bootkeep_ca::{Ca, CaError, Lifetimes, Urls};
use bootkeep_link::{HttpClient, HttpError};
use bootkeep_pki::{node::new_key_and_csr, state_key::StateKey};
use bootkeep_protocol::{
    ca::{IssueRequest, Issued, RevokeCertificates, RevokedCertificates},
    NodeId, Problem, Role,
};
use bootkeep_service::{serve_plain, Limits};
use postgres::Postgres;
use service::{Pki, Server, Wanted};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where a CA keeps its state.
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
            Self::Sqlite(folder) => format!("sqlite://{}/ca.db", folder.path().display()),
            Self::Postgres(cluster) => cluster.url(),
        }
    }

    pub async fn pool(&self) -> sqlx::AnyPool {
        sqlx::any::install_default_drivers();
        sqlx::AnyPool::connect(&self.url()).await.unwrap()
    }

    pub async fn open(&self, key: u8) -> Result<Arc<Ca>, CaError> {
        let key = StateKey::from_bytes([key; 32]);
        let urls = Urls {
            crl: "http://crl.example/crl.der".into(),
            ocsp: Some("http://crl.example/ocsp".into()),
            ca: Some("http://crl.example/ca.der".into()),
        };
        Ca::open(&self.url(), &key, urls, Lifetimes::default()).await
    }
}

/// A running CA.
pub struct Front {
    pub server: Server,
    pub public: SocketAddr,
    pub ca: Arc<Ca>,
    /// Of a CA that is started once.
    own: Option<Database>,
}

impl Front {
    pub async fn start(database: &Database) -> Self {
        let ca = database.open(1).await.unwrap();
        let pki = Arc::new(Pki::new("owner"));
        let identity = pki.issue(&Wanted::role(Role::Ca));
        let server = Server::start_as(pki, &identity, Limits::default(), ca.router()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = listener.local_addr().unwrap();
        tokio::spawn(serve_plain(
            listener,
            ca.public_router(),
            std::future::pending(),
        ));
        Self {
            server,
            public,
            ca,
            own: None,
        }
    }

    /// With an SQLite database of its own.
    pub async fn alone() -> Self {
        let database = Database::sqlite();
        let front = Self::start(&database).await;
        Self {
            own: Some(database),
            ..front
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url)
    }

    pub fn client(&self, role: Role) -> HttpClient {
        let identity = self.server.pki.issue(&Wanted::role(role));
        HttpClient::new(self.server.pki.client_tls(&identity), Role::Ca)
    }

    pub async fn issue(&self, request: &IssueRequest) -> Result<Issued, HttpError> {
        self.client(Role::Tenant)
            .post(&self.url("/v1/certificates"), request)
            .await
    }

    pub async fn revoke(&self, node: &NodeId) -> RevokedCertificates {
        self.revoke_but(node, &[]).await
    }

    /// Revokes all certificates of a node but these.
    pub async fn revoke_but(&self, node: &NodeId, keep: &[&str]) -> RevokedCertificates {
        let url = self.url(&format!("/v1/nodes/{node}/revoke"));
        let body = RevokeCertificates {
            reason: "it is not what it was".into(),
            keep: keep.iter().map(|&serial| serial.to_owned()).collect(),
        };
        self.client(Role::Verifier).post(&url, &body).await.unwrap()
    }

    /// Status, content type and body of a public page.
    pub async fn page(&self, path: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.public).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(answer[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let status = head[9..12].parse().unwrap();
        let kind = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "));
        (
            status,
            kind.unwrap_or_default().to_owned(),
            answer.split_off(end + 4),
        )
    }

    pub async fn crl(&self) -> Vec<u8> {
        let (status, kind, body) = self.page("/crl.der").await;
        assert_eq!((status, kind.as_str()), (200, "application/pkix-crl"));
        body
    }
}

pub fn node(name: &str) -> NodeId {
    NodeId::of_ek_public(name.as_bytes())
}

pub fn request(name: &str, label: &str) -> IssueRequest {
    let (_, csr) = new_key_and_csr(label).unwrap();
    IssueRequest {
        node_id: node(name),
        label: label.into(),
        csr: csr.into(),
    }
}

/// What was refused.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, HttpError>) -> Problem {
    match answer.unwrap_err() {
        HttpError::Refused(problem) => problem,
        other => unreachable!("{other}"),
    }
}

/// Runs openssl; whether it was content, and all it said.
pub fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Whether openssl takes the certificate, given the CA's certificate and its list.
pub fn verify(issued: &Issued, crl: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("ca.pem"), &issued.chain_pem).unwrap();
    fs::write(path.join("node.pem"), &issued.certificate_pem).unwrap();
    fs::write(path.join("crl.der"), crl).unwrap();
    let (good, text) = openssl(
        path,
        &[
            "crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem", "-CAfile", "ca.pem",
        ],
    );
    assert!(good && text.contains("verify OK"), "{text}");
    let arguments = [
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CAfile",
        "ca.pem",
        "-CRLfile",
        "crl.pem",
        "node.pem",
    ];
    match openssl(path, &arguments) {
        (true, _) => Ok(()),
        (false, text) => Err(text),
    }
}
