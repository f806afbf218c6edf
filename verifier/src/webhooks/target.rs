//! Who is told, and how.

use std::{
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bootkeep_link::crypto_provider;
use hmac::{Hmac, Mac};
use http::{header, Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{connect::HttpConnector, Client},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{pem::PemObject, CertificateDer};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::event::EventKind;
use crate::clock::now_ms;

/// Shortest secret (bytes).
const MIN_SECRET: usize = 16;
/// Longest secret and largest CA file (bytes).
const MAX_FILE: u64 = 256 * 1024;

/// One entry of `webhooks:` in `verifier.yaml`. Relative paths start in the file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://…`; plain `http://` only on this machine's loopback.
    pub url: String,
    /// File with the secret that signs what is sent: 16 bytes or more, mode 0600. Its last line feed does not count.
    pub secret_file: PathBuf,
    /// The CA of the receiver, PEM; absent: those of the operating system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What to tell; absent: all but `trusted`.
    #[serde(default)]
    pub events: Option<Vec<EventKind>>,
}

/// Why a webhook cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Not a URL that is told anything.
    #[error(
        "webhooks: {0:?} is not an https:// URL (http:// only to 127.0.0.1, [::1] or localhost)"
    )]
    Url(String),
    /// A file cannot be read.
    #[error("webhooks: {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The secret is readable by others.
    #[error("webhooks: {0} can be read by others; run: chmod 600 {0}")]
    Exposed(PathBuf),
    /// The secret is too short.
    #[error("webhooks: {0} holds fewer than {MIN_SECRET} bytes; make one: openssl rand -hex 32")]
    Short(PathBuf),
    /// The CA is none.
    #[error("webhooks: {0} holds no certificate, in PEM")]
    Ca(PathBuf),
    /// No certificates to trust.
    #[error("webhooks: TLS: {0}")]
    Tls(String),
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("no answer in {} s", Target::DEADLINE.as_secs())]
    Slow,
    #[error("{0}")]
    Unreachable(String),
    #[error("the target answered {0}")]
    Status(http::StatusCode),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
}

/// A target that can be told.
pub struct Target {
    uri: Uri,
    name: String,
    secret: Zeroizing<Vec<u8>>,
    events: Option<Vec<EventKind>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, WebhookError> {
    use std::io::Read as _;
    let file = |source| WebhookError::File {
        path: path.into(),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(file)?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(file)?;
    Ok(bytes)
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, WebhookError> {
    let found = std::fs::metadata(path).map_err(|source| WebhookError::File {
        path: path.into(),
        source,
    })?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(WebhookError::Exposed(path.into()));
    }
    let mut secret = Zeroizing::new(read(path)?);
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    if secret.len() < MIN_SECRET {
        return Err(WebhookError::Short(path.into()));
    }
    Ok(secret)
}

fn checked_uri(url: &str) -> Result<Uri, WebhookError> {
    let bad = || WebhookError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = address == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if loopback => Ok(uri),
        _ => Err(bad()),
    }
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, WebhookError> {
    let fault = |error: &dyn std::fmt::Display| WebhookError::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| fault(&error))?;
    let Some(path) = ca else {
        let builder = builder.with_native_roots().map_err(|error| fault(&error))?;
        return Ok(builder.with_no_client_auth());
    };
    let none = || WebhookError::Ca(path.into());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let certificate = certificate.map_err(|_| none())?;
        roots.add(certificate).map_err(|_| none())?;
    }
    if roots.is_empty() {
        return Err(none());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Target {
    /// How long one delivery may take.
    pub(super) const DEADLINE: Duration = Duration::from_secs(15);

    /// Reads the files of the configuration, whose paths are resolved.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn open(config: &WebhookConfig) -> Result<Self, WebhookError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config.ca.as_deref())?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            uri: checked_uri(&config.url)?,
            name: hex::encode(&Sha256::digest(&config.url)[..8]),
            secret: read_secret(&config.secret_file)?,
            events: config.events.clone(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Names the target in the outbox: the same as long as its URL is.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it wants to be told of such an event.
    pub(super) fn wants(&self, kind: EventKind) -> bool {
        match &self.events {
            Some(events) => events.contains(&kind),
            None => kind != EventKind::Trusted,
        }
    }

    /// Sends one event; done when the target answers with success.
    pub(super) async fn send(&self, event: &str, id: &str, body: &str) -> Result<(), SendError> {
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("bootkeep-verifier/", env!("CARGO_PKG_VERSION")),
            )
            .header("Bootkeep-Event", event)
            .header("Bootkeep-Delivery", id)
            .header(
                "Bootkeep-Signature",
                signature(&self.secret, now_ms() / 1000, body),
            )
            .body(Full::new(Bytes::from(body.to_owned())))?;
        let answer = timeout(Self::DEADLINE, self.client.request(request))
            .await
            .map_err(|_| SendError::Slow)?
            .map_err(|error| SendError::Unreachable(causes(&error)))?;
        // What the target has to say beside that is not read.
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(SendError::Status(status)),
        }
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`. The time is in it so that a receiver can refuse old ones.
fn signature(secret: &[u8], seconds: u64, body: &str) -> String {
    // A key of any length is good for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    format!(
        "t={seconds},v1={}",
        hex::encode(mac.finalize().into_bytes())
    )
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encrypted_or_stay_on_the_machine() {
        for good in [
            "https://ops.example/hook?x=1",
            "http://127.0.0.1:8080/",
            "http://localhost/hook",
            "http://[::1]:9/x",
        ] {
            checked_uri(good).unwrap();
        }
        for bad in [
            "http://ops.example/",
            "http://127.0.0.1.example/",
            "http://10.0.0.1/",
            "ftp://ops.example/",
            "/hook",
            "",
            "https://",
        ] {
            assert!(
                matches!(checked_uri(bad), Err(WebhookError::Url(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn secrets_are_private_and_long_enough() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let chmod = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        chmod(0o644);
        assert!(matches!(
            read_secret(file.path()),
            Err(WebhookError::Exposed(_))
        ));
        chmod(0o600);
        assert_eq!(*read_secret(file.path()).unwrap(), b"0123456789abcdef");
        std::fs::write(file.path(), "0123456789abcde\n").unwrap();
        assert!(matches!(
            read_secret(file.path()),
            Err(WebhookError::Short(_))
        ));
    }

    #[test]
    fn the_signature_is_that_of_a_known_vector() {
        // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'sixteen byte key'
        let expected =
            "t=1700000000,v1=dd78914ef3a0291f2976781bc27e306dbb90eaed1c3c9f4e06105dfc5aa1fc0d";
        assert_eq!(
            signature(b"sixteen byte key", 1_700_000_000, r#"{"a":1}"#),
            expected
        );
    }
}
