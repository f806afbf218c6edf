//! TLS as a client: TLS 1.3 only, no resumption, the server's role checked inside the certificate verifier.

use std::{fmt, sync::Arc};

use bootkeep_protocol::Role;
use rustls::{
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        Resumption, WebPkiServerVerifier,
    },
    crypto::{aws_lc_rs, CryptoProvider},
    version::TLS13,
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::{certificate_role, RoleError, TlsError};

/// The cryptography of every Bootkeep connection: aws-lc-rs, hybrid post-quantum key exchange first.
#[must_use]
pub fn crypto_provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

/// Whom a client trusts, and the certificate it shows.
#[derive(Clone)]
pub struct ClientTls {
    provider: Arc<CryptoProvider>,
    servers: Arc<WebPkiServerVerifier>,
    identity: Option<Arc<Identity>>,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Trusts these CA certificates (PEM, one or more) and shows no certificate: a node.
    ///
    /// # Errors
    /// [`TlsError`] when there is no usable certificate in the text.
    pub fn new(ca_pem: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(crypto_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_pem)? {
            roots.add(certificate)?;
        }
        let servers =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsError::Roots(error.to_string()))?;
        Ok(Self {
            provider,
            servers,
            identity: None,
        })
    }

    /// Trusts these CA certificates and shows this certificate: a service or the tenant. All PEM.
    ///
    /// # Errors
    /// [`TlsError`] when a part cannot be read or key and certificate do not belong together.
    pub fn with_identity(
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, TlsError> {
        let identity = Identity {
            chain: certificates(certificate_pem)?,
            key: PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| TlsError::Key)?,
        };
        let tls = Self {
            identity: Some(Arc::new(identity)),
            ..Self::new(ca_pem)?
        };
        // Key and certificate are matched here, not at the first connection.
        tls.config(Role::Verifier)?;
        Ok(tls)
    }

    /// The set-up for connections to services of this role.
    pub(crate) fn config(&self, server: Role) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = RoleVerifier {
            chain: Arc::clone(&self.servers),
            role: server,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if found.is_empty() {
        return Err(TlsError::Certificate("there is none in it".into()));
    }
    Ok(found)
}

/// The usual checks (chain, name, time, use), then the role.
#[derive(Debug)]
struct RoleVerifier {
    chain: Arc<WebPkiServerVerifier>,
    role: Role,
}

/// The server is one of ours, but not the one we dialled.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not that of a {wanted}: {found}")]
struct WrongRole {
    wanted: Role,
    found: String,
}

impl RoleVerifier {
    fn check_role(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let found = match certificate_role(certificate) {
            Ok(role) if role == self.role => return Ok(()),
            Ok(role) => format!("it is a {role}"),
            Err(RoleError::Certificate) => return Err(CertificateError::BadEncoding.into()),
            Err(error) => error.to_string(),
        };
        let error = WrongRole {
            wanted: self.role,
            found,
        };
        Err(CertificateError::Other(OtherError(Arc::new(error))).into())
    }
}

impl ServerCertVerifier for RoleVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.check_role(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
