//! TLS by hand, for peers that misbehave.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bootkeep_link::crypto_provider;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{client::TlsStream, TlsAcceptor, TlsConnector};

use super::{Identity, Server};

/// The set-up of a client that trusts the service's CA and resumes when it can.
pub fn config(server: &Server, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(server.pki.ca_pem.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(identity) => {
            let (chain, key) = read(identity);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

fn read(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (
        vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
    )
}

/// A TLS connection that has said nothing yet.
pub async fn connect(
    server: &Server,
    identity: Option<&Identity>,
) -> io::Result<TlsStream<TcpStream>> {
    connect_with(server, Arc::new(config(server, identity))).await
}

/// A TLS connection of a client with this set-up.
pub async fn connect_with(
    server: &Server,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(config)
        .connect("localhost".try_into().unwrap(), stream)
        .await
}

/// Whether the handshake was a short one.
pub fn is_resumed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Sends bytes over bare TCP and gives what comes back until the end.
pub async fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// A TLS service as rustls makes it by default: it resumes.
pub struct TicketGiver {
    pub url: String,
    /// For each connection, whether it was resumed.
    pub resumed: Arc<Mutex<Vec<bool>>>,
}

impl TicketGiver {
    pub async fn start(identity: &Identity) -> Self {
        let (chain, key) = read(identity);
        let config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let resumed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&resumed);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let kind = stream.get_ref().1.handshake_kind();
                seen.lock()
                    .unwrap()
                    .push(kind == Some(HandshakeKind::Resumed));
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, resumed }
    }
}
