//! The owner's home folder: `tenant.yaml`, identities, roots, and what is known of each node.

use std::{
    env,
    path::{Path, PathBuf},
};

use bootkeep_protocol::NodeId;
use serde::{Deserialize, Serialize};

use crate::{files, Error};

/// Environment variable that names the home.
pub const HOME_VARIABLE: &str = "BOOTKEEP_HOME";
/// The home of a machine whose administrator is the owner of the nodes.
const SYSTEM_HOME: &str = "/etc/bootkeep/tenant";
/// Largest configuration file that is read (bytes).
const MAX_CONFIG: u64 = 64 * 1024;

/// `tenant.yaml`. Unknown keys are errors; paths are relative to the file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URL of the registrar.
    pub registrar: String,
    /// Base URL of the verifier.
    pub verifier: String,
    /// Base URL of the CA.
    pub ca: String,
    /// PEM file with the CA of the services' certificates.
    pub server_ca: PathBuf,
    /// The tenant's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, mode 0600.
    pub key: PathBuf,
    /// Folder with the roots of TPM makers that the owner believes in.
    pub ek_roots: PathBuf,
    /// The key that policies are signed with, PEM, mode 0600. The file may be missing where nothing is signed.
    #[serde(default = "default_policy_key")]
    pub policy_key: PathBuf,
    /// The public keys whose policies count, PEM.
    #[serde(default = "default_policy_keys")]
    pub policy_keys: PathBuf,
    /// The public keys of the verifier's revocations, PEM.
    #[serde(default = "default_revocation_keys")]
    pub revocation_keys: PathBuf,
    /// The key that PCR policies are signed with, PEM, mode 0600. The file may be missing where none are signed.
    #[serde(default = "default_authorize_key")]
    pub authorize_key: PathBuf,
}

fn default_policy_key() -> PathBuf {
    "policy.key".into()
}
fn default_policy_keys() -> PathBuf {
    "policy.pem".into()
}
fn default_revocation_keys() -> PathBuf {
    "revocation.pem".into()
}
fn default_authorize_key() -> PathBuf {
    "authorize.key".into()
}

/// A home folder.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The home in this folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self(folder.into())
    }

    /// `--home`, else [`HOME_VARIABLE`], else the user's configuration folder, else the machine's.
    #[must_use]
    pub fn find(given: Option<&Path>) -> Self {
        if let Some(folder) = given {
            return Self::at(folder);
        }
        if let Some(folder) = env::var_os(HOME_VARIABLE).filter(|value| !value.is_empty()) {
            return Self(folder.into());
        }
        let system = PathBuf::from(SYSTEM_HOME);
        match user_folder() {
            Some(user) if user.exists() || !system.exists() => Self(user),
            _ => Self(system),
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// A path of the configuration, which is relative to the folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    /// `tenant.yaml`.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.0.join("tenant.yaml")
    }

    /// What is kept of one node.
    #[must_use]
    pub fn node_folder(&self, node: &NodeId) -> PathBuf {
        self.nodes_folder().join(node.as_str())
    }

    /// The public key that recovery keys are sealed to; missing when no recovery keys are made.
    #[must_use]
    pub fn recovery_public_path(&self) -> PathBuf {
        self.0.join("recovery.pub")
    }

    /// What is kept of the nodes.
    #[must_use]
    pub fn nodes_folder(&self) -> PathBuf {
        self.0.join("nodes")
    }

    /// Reads `tenant.yaml`.
    ///
    /// # Errors
    /// [`Error::NotFound`] with what to do, or [`Error::Usage`] naming file and line.
    pub fn config(&self) -> Result<Config, Error> {
        let path = self.config_path();
        let text = match files::read_text(&path, MAX_CONFIG) {
            Err(Error::NotFound(_)) => {
                return Err(Error::NotFound(format!(
                "{} does not exist; run `bootkeep init {}` or name the right folder with --home",
                path.display(),
                self.0.display()
            )))
            }
            other => other?,
        };
        let config: Config = serde_yaml::from_str(&text)
            .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        config
            .check()
            .map_err(|problem| Error::Usage(format!("{}: {problem}", path.display())))?;
        Ok(config)
    }
}

impl Config {
    fn check(&self) -> Result<(), String> {
        let urls = [
            ("registrar", &self.registrar),
            ("verifier", &self.verifier),
            ("ca", &self.ca),
        ];
        for (key, url) in urls {
            if !url.starts_with("https://") {
                return Err(format!("{key}: {url:?} does not start with https://"));
            }
        }
        Ok(())
    }
}

fn user_folder() -> Option<PathBuf> {
    let base = env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("bootkeep"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bad_configurations_are_refused_by_name() {
        let good = "registrar: https://r\nverifier: https://v\nca: https://c\nserver_ca: ca.pem\n\
                    certificate: t.pem\nkey: t.key\nek_roots: ek-roots\n";
        let cases = [
            (good.replace("https://v", "http://v"), "verifier"),
            (good.replace("ca: https://c\n", ""), "ca"),
            (format!("{good}sesame: 1\n"), "sesame"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        assert_eq!(home.config().unwrap_err().exit_code(), 3);
        for (text, named) in cases {
            std::fs::write(home.config_path(), text).unwrap();
            let error = home.config().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(named), "{error}");
        }
        std::fs::write(home.config_path(), good).unwrap();
        assert_eq!(home.config().unwrap().verifier, "https://v");
    }
}
