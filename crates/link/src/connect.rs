//! One TLS connection: every address of the host, a little apart, the first that finishes its handshake wins.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bootkeep_protocol::limits::HANDSHAKE_SECONDS;
use futures_util::{stream::FuturesUnordered, StreamExt};
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{client::TlsStream, TlsConnector};

use crate::target::Target;

/// How long a host name may take to resolve, and one address to connect and shake hands.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(HANDSHAKE_SECONDS);
/// Between the starts of two attempts (RFC 8305 §8 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;

/// Connects to the target; the error names every address that was tried.
pub(crate) async fn connect(
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, String> {
    first_of(resolve(target).await?, target, tls).await
}

/// The first of these addresses that finishes its handshake. One that is silent costs the next no more than [`STAGGER`],
/// one that refuses costs it nothing.
async fn first_of(
    mut waiting: VecDeque<SocketAddr>,
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(attempt(address, target, tls));
        } else if running.is_empty() {
            return Err(failures.join(", "));
        }
        let next = async {
            match waiting.is_empty() {
                true => std::future::pending().await,
                false => sleep(STAGGER).await,
            }
        };
        tokio::select! {
            Some(result) = running.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(failure) => failures.push(failure),
            },
            () = next => {}
        }
    }
}

async fn resolve(target: &Target) -> Result<VecDeque<SocketAddr>, String> {
    let host = &target.host;
    let found = timeout(
        ATTEMPT,
        tokio::net::lookup_host((host.as_str(), target.port)),
    )
    .await
    .map_err(|_| format!("{host}: the name service did not answer"))?
    .map_err(|error| format!("{host}: {error}"))?;
    let (v6, v4): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let addresses = interleave(v6, v4);
    if addresses.is_empty() {
        return Err(format!("{host}: no address"));
    }
    Ok(addresses)
}

/// IPv6 and IPv4 in turn (RFC 8305 §4).
fn interleave(first: Vec<SocketAddr>, second: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] || all.len() >= MAX_ADDRESSES {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

async fn attempt(
    address: SocketAddr,
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, String> {
    let work = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        // Frames are answers to questions: waiting for more to send with them gains nothing.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(Arc::clone(tls))
            .connect(target.server_name()?, stream)
            .await
            .map_err(|error| format!("{address}: {}", explain(&error)))
    };
    timeout(ATTEMPT, work)
        .await
        .unwrap_or_else(|_| Err(format!("{address}: no answer in {} s", ATTEMPT.as_secs())))
}

/// rustls wraps what our own verifier says; say it plainly.
fn explain(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::InvalidCertificate(CertificateError::Other(other))) => other.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustls::{
        crypto::aws_lc_rs, pki_types::PrivateKeyDer, version::TLS13, RootCertStore, ServerConfig,
    };
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let v6 = vec![address("[::1]:1"), address("[::2]:1")];
        let v4 = vec![address("1.1.1.1:1")];
        let expected = [address("[::1]:1"), address("1.1.1.1:1"), address("[::2]:1")];
        assert_eq!(interleave(v6, v4), expected);
        assert!(interleave(vec![], vec![]).is_empty());
    }

    /// Two ends of TLS for the name `service.test`.
    fn ends() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let signed = rcgen::generate_simple_self_signed(["service.test".into()]).unwrap();
        let certificate = signed.cert.der().clone();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }

    /// What stands behind one address of a name.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Behind {
        /// The service.
        Service,
        /// Somebody who takes the connection and says nothing for ever.
        Silence,
        /// Nobody.
        Nobody,
    }

    async fn open(loopback: &str, behind: Behind, tls: &Arc<ServerConfig>) -> SocketAddr {
        let listener = TcpListener::bind((loopback, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(tls.clone());
        match behind {
            Behind::Nobody => drop(listener),
            Behind::Silence => drop(tokio::spawn(async move {
                let mut kept = Vec::new();
                loop {
                    kept.push(listener.accept().await);
                }
            })),
            Behind::Service => drop(tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let _kept = acceptor.accept(stream).await.unwrap();
                std::future::pending::<()>().await;
            })),
        }
        address
    }

    #[tokio::test]
    async fn dead_addresses_of_a_name_hold_nothing_up() {
        use Behind::{Nobody, Service, Silence};
        let cases = [
            [("::1", Silence), ("127.0.0.1", Service)],
            [("127.0.0.1", Silence), ("::1", Service)],
            [("::1", Nobody), ("127.0.0.1", Service)],
            [("127.0.0.1", Nobody), ("::1", Service)],
        ];
        let (server, client) = ends();
        let target = Target::parse("https://service.test:1").unwrap();
        for case in cases {
            let mut addresses = VecDeque::new();
            for (loopback, behind) in case {
                addresses.push_back(open(loopback, behind, &server).await);
            }
            let live = addresses[1];
            let found = timeout(ATTEMPT / 2, first_of(addresses, &target, &client)).await;
            // An error here: the live address was not tried in time.
            let stream = found.unwrap().unwrap();
            assert_eq!(stream.get_ref().0.peer_addr().unwrap(), live, "{case:?}");
        }
    }

    #[tokio::test]
    async fn every_address_that_failed_is_named() {
        let (server, client) = ends();
        let dead = open("127.0.0.1", Behind::Nobody, &server).await;
        let target = Target::parse("https://service.test:1").unwrap();
        let failed = first_of(VecDeque::from([dead, dead]), &target, &client).await;
        let text = failed.unwrap_err();
        assert_eq!(text.matches(&dead.to_string()).count(), 2, "{text}");
    }
}
