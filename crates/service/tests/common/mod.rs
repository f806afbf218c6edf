//! A CA, certificates of every kind, and a service on a free port of the loopback.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod raw;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::Router;
use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_protocol::Role;
use bootkeep_service::{serve_tls_within, Limits, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use time::{Duration, OffsetDateTime};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// What a certificate is to look like.
#[derive(Clone)]
pub struct Wanted {
    pub uris: Vec<String>,
    pub names: Vec<String>,
    pub age: Duration,
    pub validity: Duration,
}

impl Wanted {
    pub fn role(role: Role) -> Self {
        Self::uris(&[&role.uri()])
    }

    pub fn uris(uris: &[&str]) -> Self {
        Self {
            uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            age: Duration::hours(1),
            validity: Duration::days(1),
        }
    }

    pub fn expired(self) -> Self {
        Self {
            age: Duration::days(3),
            ..self
        }
    }

    pub fn not_yet(self) -> Self {
        Self {
            age: Duration::days(-1),
            ..self
        }
    }

    pub fn named(self, name: &str) -> Self {
        Self {
            names: vec![name.into()],
            ..self
        }
    }
}

/// A CA.
pub struct Pki {
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate and key, PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self {
            ca_pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, wanted: &Wanted) -> Identity {
        let mut params = CertificateParams::new(wanted.names.clone()).unwrap();
        for uri in &wanted.uris {
            let uri = uri.as_str().try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_before = OffsetDateTime::now_utc() - wanted.age;
        params.not_after = params.not_before + wanted.validity;
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// TLS of a client with a certificate.
    pub fn client_tls(&self, identity: &Identity) -> ClientTls {
        ClientTls::with_identity(
            self.ca_pem.as_bytes(),
            identity.certificate.as_bytes(),
            identity.key.as_bytes(),
        )
        .unwrap()
    }

    /// TLS of a client without one.
    pub fn node_tls(&self) -> ClientTls {
        ClientTls::new(self.ca_pem.as_bytes()).unwrap()
    }

    pub fn server_tls(&self, identity: &Identity) -> ServerTls {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        ServerTls::load(
            &write("s.pem", &identity.certificate),
            &write("s.key", &identity.key),
            &write("ca.pem", &self.ca_pem),
        )
        .unwrap()
    }
}

/// A running service, stopped when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub url: String,
    pub pki: Arc<Pki>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// A verifier with these routes.
    pub async fn start(limits: Limits, router: Router) -> Self {
        let pki = Arc::new(Pki::new("test CA"));
        let identity = pki.issue(&Wanted::role(Role::Verifier));
        Self::start_as(pki, &identity, limits, router).await
    }

    pub async fn start_as(
        pki: Arc<Pki>,
        identity: &Identity,
        limits: Limits,
        router: Router,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = pki.server_tls(identity);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            serve_tls_within(limits, listener, tls, router, stopped)
                .await
                .unwrap();
        });
        Self {
            url: format!("https://127.0.0.1:{}", address.port()),
            address,
            pki,
            stop: Some(stop),
            task,
        }
    }

    /// Asks the service to stop and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }

    /// A client of this service with a certificate of this role.
    pub fn client(&self, role: Role) -> HttpClient {
        let identity = self.pki.issue(&Wanted::role(role));
        HttpClient::new(self.pki.client_tls(&identity), Role::Verifier)
    }

    /// A client without a certificate.
    pub fn stranger(&self) -> HttpClient {
        HttpClient::new(self.pki.node_tls(), Role::Verifier)
    }
}
