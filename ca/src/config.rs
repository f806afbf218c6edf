//! `ca.yaml`.

use std::path::{Path, PathBuf};

use bootkeep_pki::{state_key::StateKey, PkiError};
use bootkeep_service::{resolve, Limits, ServerTls, ServiceError};
use serde::Deserialize;

/// The configuration. Relative paths start in the file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port of the API.
    pub listen: String,
    /// Address and port of `/crl.der` and `/ca.der`, plain HTTP.
    pub crl_listen: String,
    /// Certificate chain with the role `ca`, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The CA of all service certificates, PEM.
    pub client_ca: PathBuf,
    /// `sqlite:///path` or `postgres://…`.
    pub database: String,
    /// 32 bytes that seal the issuing key at rest.
    pub state_key: PathBuf,
    /// Where nodes find the revocation list; written into every certificate.
    pub crl_url: String,
    /// Where nodes ask for the status of one certificate (OCSP); written into every certificate when given.
    #[serde(default)]
    pub ocsp_url: Option<String>,
    /// Where nodes find the CA's certificate; written into every certificate when given.
    #[serde(default)]
    pub ca_url: Option<String>,
    /// Lifetimes.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// Limits of the API's front.
    #[serde(default)]
    pub limits: Limits,
}

/// What is written into certificates: where the public listener is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// Of the revocation list.
    pub crl: String,
    /// Of the OCSP responder.
    pub ocsp: Option<String>,
    /// Of the CA's certificate.
    pub ca: Option<String>,
}

/// How long what the CA signs is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lifetimes {
    /// Of a node certificate (days).
    pub certificate_days: u32,
    /// Of a revocation list (hours). A new one comes at half of it, so there is always one that is good for the other
    /// half.
    pub crl_hours: u32,
    /// Of an OCSP answer (minutes): how long whoever asked may go on without asking again.
    pub ocsp_minutes: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            certificate_days: 365,
            crl_hours: 24,
            ocsp_minutes: 5,
        }
    }
}

impl Config {
    /// With every path resolved against the configuration file's folder.
    #[must_use]
    pub fn resolved(mut self, file: &Path) -> Self {
        for path in [
            &mut self.certificate,
            &mut self.key,
            &mut self.client_ca,
            &mut self.state_key,
        ] {
            *path = resolve(file, path);
        }
        self
    }

    /// Where certificates say that the public listener is.
    #[must_use]
    pub fn urls(&self) -> Urls {
        Urls {
            crl: self.crl_url.clone(),
            ocsp: self.ocsp_url.clone(),
            ca: self.ca_url.clone(),
        }
    }

    /// The front's TLS.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn server_tls(&self) -> Result<ServerTls, ServiceError> {
        ServerTls::load(&self.certificate, &self.key, &self.client_ca)
    }

    /// The key that seals the issuing key.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn state_key(&self) -> Result<StateKey, PkiError> {
        StateKey::load(&self.state_key)
    }
}
