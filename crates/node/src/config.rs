//! The node's configuration file.

use std::path::{Path, PathBuf};

use bootkeep_protocol::limits::REVOCATION_HEARTBEAT_SECONDS;
use bootkeep_tpm::AkKind;
use serde::{Deserialize, Serialize};

/// Where both agents look.
pub const DEFAULT_PATH: &str = "/etc/bootkeep/agent.yaml";
/// Largest configuration file that is read (bytes).
const MAX_FILE: u64 = 64 * 1024;
/// A node fails closed no sooner: the heartbeat and time for one to arrive late (seconds).
const SHORTEST_SILENCE: u64 = REVOCATION_HEARTBEAT_SECONDS * 3 / 2;
/// A node that fails closed does so within a week (seconds).
const LONGEST_SILENCE: u64 = 7 * 24 * 60 * 60;

/// `/etc/bootkeep/agent.yaml`. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Base URLs of the registrar, `https://HOST:PORT`; tried in parallel.
    pub registrar: Vec<String>,
    /// Base URLs of the verifiers; tried in parallel.
    pub verifier: Vec<String>,
    /// PEM file with the CA of the services' certificates.
    #[serde(default = "default_ca")]
    pub server_ca: PathBuf,
    /// Name of the LUKS volume to open, as in `rd.luks.name=UUID=NAME`.
    #[serde(default = "default_volume")]
    pub volume: String,
    /// The TPM's device.
    #[serde(default = "default_tpm")]
    pub tpm: PathBuf,
    /// What kind of AK the node has. Another kind is another AK: the node is provisioned anew.
    #[serde(default)]
    pub ak: AkChoice,
    /// How long the initramfs waits for its shares before it gives up (seconds).
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u64,
    /// Whether a person at the console may type the passphrase or recovery key once the initramfs has given up.
    #[serde(default)]
    pub passphrase: bool,
    /// How the booted node hears of revocations; absent: it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationConfig>,
}

/// `revocation:` of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationConfig {
    /// PEM file with the public keys that revocations are signed with.
    #[serde(default = "default_revocation_keys")]
    pub keys: PathBuf,
    /// Without a fresh word of the verifier for this long the node speaks with no peer (seconds); absent: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_closed_after_seconds: Option<u64>,
    /// The node's IPsec group. The file may be missing: then there is no IPsec to enforce.
    #[serde(default = "default_ipsec")]
    pub ipsec: PathBuf,
}

/// The kinds of AK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AkChoice {
    /// ECDSA on NIST P-256.
    #[default]
    #[serde(rename = "ecc-p256")]
    EccP256,
    /// RSA, 2048 bits; slower, for TPMs without P-256.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

impl From<AkChoice> for AkKind {
    fn from(choice: AkChoice) -> Self {
        match choice {
            AkChoice::EccP256 => Self::EccP256,
            AkChoice::Rsa2048 => Self::Rsa2048,
        }
    }
}

fn default_ca() -> PathBuf {
    "/etc/bootkeep/ca.pem".into()
}
fn default_volume() -> String {
    "cryptroot".into()
}
fn default_tpm() -> PathBuf {
    "/dev/tpmrm0".into()
}
fn default_deadline() -> u64 {
    600
}
fn default_revocation_keys() -> PathBuf {
    "/etc/bootkeep/revocation.pem".into()
}
fn default_ipsec() -> PathBuf {
    "/etc/bootkeep/ipsec.yaml".into()
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read {path}: {source}; install the files that `bootkeep init` wrote under node/"
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is over its limit.
    #[error("{0} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// Not the YAML expected.
    #[error("{path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_yaml::Error,
    },
    /// A value out of its range.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

impl AgentConfig {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            serde_yaml::from_str(&read_bounded(path)?).map_err(|source| ConfigError::Parse {
                path: path.into(),
                source,
            })?;
        config
            .check()
            .map_err(|(key, problem)| ConfigError::Value {
                path: path.into(),
                key,
                problem,
            })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, urls) in [("registrar", &self.registrar), ("verifier", &self.verifier)] {
            if urls.is_empty() || urls.len() > 8 {
                return Err((key, "one to eight URLs are needed".into()));
            }
            if let Some(url) = urls.iter().find(|url| !url.starts_with("https://")) {
                return Err((key, format!("{url:?} does not start with https://")));
            }
        }
        // The name becomes a file name under /run/cryptsetup-keys.d.
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.volume.is_empty()
            || self.volume.len() > 64
            || self.volume.starts_with('.')
            || !self.volume.chars().all(good)
        {
            return Err((
                "volume",
                "1 to 64 letters, digits, '-', '_' or '.', not starting with '.'".into(),
            ));
        }
        if !(10..=86_400).contains(&self.deadline_seconds) {
            return Err(("deadline_seconds", "10 to 86400 are allowed".into()));
        }
        self.revocation
            .as_ref()
            .map_or(Ok(()), RevocationConfig::check)
    }
}

impl RevocationConfig {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let allowed = SHORTEST_SILENCE..=LONGEST_SILENCE;
        match self.fail_closed_after_seconds {
            Some(seconds) if !allowed.contains(&seconds) => Err((
                "revocation.fail_closed_after_seconds",
                format!(
                    "{SHORTEST_SILENCE} to {LONGEST_SILENCE} are allowed: the verifier speaks every \
                     {REVOCATION_HEARTBEAT_SECONDS} s"
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_FILE {
        return Err(ConfigError::TooLarge(path.into()));
    }
    std::fs::read_to_string(path).map_err(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AgentConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        AgentConfig::load(file.path())
    }

    #[test]
    fn the_least_file_is_enough() {
        let config = load("registrar: [https://r:1]\nverifier: [https://v:1]\n").unwrap();
        assert_eq!(config.volume, "cryptroot");
        assert!(!config.passphrase);
        assert_eq!(config.deadline_seconds, 600);
        assert_eq!(config.ak, AkChoice::EccP256);
    }

    #[test]
    fn the_kind_of_ak_can_be_chosen() {
        let with = |ak: &str| {
            load(&format!(
                "registrar: [https://r]\nverifier: [https://v]\nak: {ak}\n"
            ))
        };
        assert_eq!(with("rsa-2048").unwrap().ak, AkChoice::Rsa2048);
        assert_eq!(with("ecc-p256").unwrap().ak, AkChoice::EccP256);
        assert!(with("rsa-1024").is_err());
    }

    #[test]
    fn revocation_is_off_unless_asked_for() {
        let least = "registrar: [https://r]\nverifier: [https://v]\n";
        assert_eq!(load(least).unwrap().revocation, None);
        let text = format!("{least}revocation: {{fail_closed_after_seconds: 60}}\n");
        let revocation = load(&text).unwrap().revocation.unwrap();
        assert_eq!(revocation.fail_closed_after_seconds, Some(60));
        assert_eq!(revocation.keys, Path::new("/etc/bootkeep/revocation.pem"));
        assert_eq!(revocation.ipsec, Path::new("/etc/bootkeep/ipsec.yaml"));
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let cases = [
            ("registrar: []\nverifier: [https://v]\n", "registrar"),
            ("registrar: [http://r]\nverifier: [https://v]\n", "https://"),
            ("registrar: [https://r]\n", "verifier"),
            (
                "registrar: [https://r]\nverifier: [https://v]\nsesame: 1\n",
                "sesame",
            ),
            (
                "registrar: [https://r]\nverifier: [https://v]\nvolume: ../x\n",
                "volume",
            ),
            (
                "registrar: [https://r]\nverifier: [https://v]\ndeadline_seconds: 1\n",
                "deadline_seconds",
            ),
            (
                "registrar: [https://r]\nverifier: [https://v]\nrevocation: {sesame: 1}\n",
                "sesame",
            ),
            (
                "registrar: [https://r]\nverifier: [https://v]\nrevocation: {fail_closed_after_seconds: 10}\n",
                "15 to 604800",
            ),
        ];
        for (text, named) in cases {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error} does not name {named}");
        }
    }
}
