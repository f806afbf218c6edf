//! `verifier.yaml`.

use std::path::{Path, PathBuf};

use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_pki::state_key::StateKey;
use bootkeep_protocol::Role;
use bootkeep_service::{resolve, Limits, ServerTls, ServiceError};
use bootkeep_signed::{SigningKey, VerifyingKeys};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    error::VerifierError, registrar::Registrar, CaNotices, WebhookConfig, WebhookError,
    WebhookTarget,
};

/// The configuration. Relative paths start in the file's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port of API and link.
    pub listen: String,
    /// Certificate chain with the role `verifier`, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The CA of all service certificates, PEM.
    pub client_ca: PathBuf,
    /// `sqlite:///path` or `postgres://…`.
    pub database: String,
    /// 32 bytes that seal V and envelopes at rest.
    pub state_key: PathBuf,
    /// URL of the registrar.
    pub registrar: String,
    /// The key that revocations are signed with, PKCS #8 PEM; absent: nothing is revoked at other nodes.
    #[serde(default)]
    pub revocation_key: Option<PathBuf>,
    /// The owner's public keys for policies, PEM; absent: no policy is taken but those of enrolments.
    #[serde(default)]
    pub policy_keys: Option<PathBuf>,
    /// URL of the CA; absent: it is not told of revocations.
    #[serde(default)]
    pub ca: Option<String>,
    /// Address and port of `/metrics`, plain HTTP; absent: none.
    #[serde(default)]
    pub metrics_listen: Option<String>,
    /// Other systems that are told of changes.
    #[serde(default)]
    pub webhooks: Vec<WebhookConfig>,
    /// Connections: how many, how long.
    #[serde(default)]
    pub limits: Limits,
}

fn read(path: PathBuf) -> Result<Vec<u8>, VerifierError> {
    std::fs::read(&path).map_err(|source| VerifierError::File { path, source })
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
        for path in [&mut self.revocation_key, &mut self.policy_keys]
            .into_iter()
            .flatten()
        {
            *path = resolve(file, path);
        }
        for webhook in &mut self.webhooks {
            webhook.secret_file = resolve(file, &webhook.secret_file);
            webhook.ca = webhook.ca.as_ref().map(|ca| resolve(file, ca));
        }
        self
    }

    /// The targets of webhooks.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn webhook_targets(&self) -> Result<Vec<WebhookTarget>, WebhookError> {
        self.webhooks.iter().map(WebhookTarget::open).collect()
    }

    /// The keys of signed policies.
    ///
    /// # Errors
    /// [`VerifierError::File`], [`VerifierError::Keys`].
    pub fn policy_keys(&self) -> Result<Option<VerifyingKeys>, VerifierError> {
        let Some(path) = &self.policy_keys else {
            tracing::warn!("no policy_keys: signed policies do not count here");
            return Ok(None);
        };
        let pem = read(path.clone())?;
        let keys = VerifyingKeys::from_pem(&String::from_utf8_lossy(&pem));
        keys.map(Some).map_err(|source| VerifierError::Keys {
            path: path.clone(),
            source,
        })
    }

    /// The front's TLS.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn server_tls(&self) -> Result<ServerTls, ServiceError> {
        ServerTls::load(&self.certificate, &self.key, &self.client_ca)
    }

    /// The client for the registrar.
    ///
    /// # Errors
    /// [`VerifierError::File`], [`VerifierError::Tls`].
    pub fn registrar(&self) -> Result<Registrar, VerifierError> {
        Ok(Registrar::new(
            HttpClient::new(self.client_tls()?, Role::Registrar),
            &self.registrar,
        ))
    }

    /// The key of the revocation log.
    ///
    /// # Errors
    /// [`VerifierError::File`], [`VerifierError::Keys`].
    pub fn revocation_key(&self) -> Result<Option<SigningKey>, VerifierError> {
        let Some(path) = &self.revocation_key else {
            tracing::warn!("no revocation_key: nodes are not told of revocations");
            return Ok(None);
        };
        let pem = Zeroizing::new(read(path.clone())?);
        let text = std::str::from_utf8(&pem).unwrap_or_default();
        SigningKey::from_pem(text)
            .map(Some)
            .map_err(|source| VerifierError::Keys {
                path: path.clone(),
                source,
            })
    }

    /// The way to the CA.
    ///
    /// # Errors
    /// [`VerifierError::File`], [`VerifierError::Tls`].
    pub fn ca_notices(&self) -> Result<Option<CaNotices>, VerifierError> {
        let Some(url) = &self.ca else {
            return Ok(None);
        };
        let client = HttpClient::new(self.client_tls()?, Role::Ca);
        Ok(Some(CaNotices::new(client, url)))
    }

    fn client_tls(&self) -> Result<ClientTls, VerifierError> {
        let ca = read(self.client_ca.clone())?;
        let certificate = read(self.certificate.clone())?;
        let key = Zeroizing::new(read(self.key.clone())?);
        ClientTls::with_identity(&ca, &certificate, &key)
            .map_err(|error| VerifierError::Tls(error.to_string()))
    }

    /// The key of the secrets at rest.
    ///
    /// # Errors
    /// [`VerifierError::StateKey`].
    pub fn state_key(&self) -> Result<StateKey, VerifierError> {
        StateKey::load(&self.state_key).map_err(|error| VerifierError::StateKey(error.to_string()))
    }
}
