//! TLS as a service: TLS 1.3 only, client certificates checked when given, no resumption.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use bootkeep_link::{certificate_role, crypto_provider};
use bootkeep_protocol::{Role, EXPORTER_LABEL, EXPORTER_LEN};
use rustls::{
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
    RootCertStore, ServerConfig, ServerConnection,
};
use rustls_pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::ServiceError;

/// Largest certificate or key file (bytes).
const MAX_FILE: u64 = 256 * 1024;

/// The TLS side of a front.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads certificate chain, key and the CA of client certificates (all PEM).
    ///
    /// A client may come without a certificate. One it shows must chain to `client_ca` and be in its validity, or the
    /// handshake fails; what it may do is decided by its role, route by route.
    ///
    /// # Errors
    /// [`ServiceError`], naming the file.
    pub fn load(certificate: &Path, key: &Path, client_ca: &Path) -> Result<Self, ServiceError> {
        let mut roots = RootCertStore::empty();
        for ca in certificates(client_ca)? {
            roots.add(ca).map_err(|error| bad(client_ca, &error))?;
        }
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| ServiceError::File(key.into(), "no private key in it".into()))?;
        let provider = Arc::new(crypto_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| bad(client_ca, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates(certificate)?, private)
            .map_err(|error| bad(certificate, &error))?;
        // The exporter must name one handshake with one client certificate: nothing is resumed, nothing is sent early.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0))
    }
}

/// Role and exporter of a connection whose handshake is done.
pub(crate) fn identify(
    connection: &ServerConnection,
) -> Result<(Option<Role>, [u8; EXPORTER_LEN]), rustls::Error> {
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first());
    let role = certificate.and_then(|certificate| {
        certificate_role(certificate)
            .inspect_err(|error| tracing::warn!(%error, "client certificate without a role"))
            .ok()
    });
    let exporter = connection.export_keying_material([0; EXPORTER_LEN], EXPORTER_LABEL, None)?;
    Ok((role, exporter))
}

fn bad(path: &Path, error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::File(path.into(), error.to_string())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServiceError> {
    let pem = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(path, &error))?;
    if found.is_empty() {
        return Err(bad(path, &"no certificate in it"));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, ServiceError> {
    let failed = |source| ServiceError::Read(PathBuf::from(path), source);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
