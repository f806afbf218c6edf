//! `registrar.yaml`.

use std::path::{Path, PathBuf};

use bootkeep_pki::ek::{EkError, EkRoots};
use bootkeep_service::{resolve, Limits, ServerTls, ServiceError};
use serde::Deserialize;

/// The configuration. Relative paths start in the file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port of the API.
    pub listen: String,
    /// Certificate chain with the role `registrar`, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The CA of all service certificates, PEM.
    pub client_ca: PathBuf,
    /// `sqlite:///path` or `postgres://…`.
    pub database: String,
    /// Folder with the certificates of TPM manufacturers.
    pub ek_roots: PathBuf,
    /// Address and port of `/metrics`, plain HTTP; absent: none.
    #[serde(default)]
    pub metrics_listen: Option<String>,
    /// Limits of the API's front.
    #[serde(default)]
    pub limits: Limits,
}

impl Config {
    /// With every path resolved against the configuration file's folder.
    #[must_use]
    pub fn resolved(mut self, file: &Path) -> Self {
        for path in [
            &mut self.certificate,
            &mut self.key,
            &mut self.client_ca,
            &mut self.ek_roots,
        ] {
            *path = resolve(file, path);
        }
        self
    }

    /// The front's TLS.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn server_tls(&self) -> Result<ServerTls, ServiceError> {
        ServerTls::load(&self.certificate, &self.key, &self.client_ca)
    }

    /// The manufacturers' certificates.
    ///
    /// # Errors
    /// [`EkError`].
    pub fn roots(&self) -> Result<EkRoots, EkError> {
        EkRoots::load(&self.ek_roots)
    }
}
