//! Measured buffers: keys that went into keyrings, command lines of kexec, critical data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_cert::{
    der::{DecodePem, Encode},
    Certificate,
};

use super::{
    pattern::{TextPattern, MAX_PATTERNS},
    verdict::Missing,
};
use crate::{digest::Digest32, error::PolicyError};

/// Most rules for one buffer's name that name a digest or a certificate.
const MAX_DIGESTS: usize = 4096;
/// Most names.
const MAX_NAMES: usize = 1024;

/// What a measured buffer may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BufferRule {
    /// `sha256: <hex>`
    Sha256(Sha256Rule),
    /// `certificate: <PEM>`: a key of a keyring.
    Certificate(CertificateRule),
    /// `text: …` or `text: { regex: … }`
    Text(TextRule),
}

/// The digest of the buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sha256Rule {
    /// SHA-256 over all of it.
    pub sha256: Digest32,
}

/// The certificate that the buffer holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRule {
    /// PEM.
    pub certificate: String,
}

/// The text that the buffer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRule {
    /// The whole text.
    pub text: TextPattern,
}

impl BufferRule {
    /// A buffer with this digest.
    #[must_use]
    pub fn sha256(digest: [u8; 32]) -> Self {
        Self::Sha256(Sha256Rule {
            sha256: digest.into(),
        })
    }

    /// A buffer with this text.
    #[must_use]
    pub fn text(text: TextPattern) -> Self {
        Self::Text(TextRule { text })
    }
}

/// The rules as they are written: name of the buffer, and what it may be.
pub(super) type Written = BTreeMap<String, Vec<BufferRule>>;

#[derive(Clone, Debug, Default)]
struct Accepted {
    digests: BTreeSet<[u8; 32]>,
    texts: Vec<TextPattern>,
}

/// The rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers {
    written: Written,
    accepted: BTreeMap<String, Accepted>,
}

impl PartialEq for Buffers {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Buffers {
    pub(super) fn new(written: Written) -> Result<Self, PolicyError> {
        if written.len() > MAX_NAMES {
            return Err(PolicyError::TooMany {
                what: "names of buffers",
                limit: MAX_NAMES,
            });
        }
        let mut buffers = Self::default();
        for (name, rules) in written {
            for rule in rules {
                buffers.add(&name, rule)?;
            }
        }
        Ok(buffers)
    }

    pub(super) fn add(&mut self, name: &str, rule: BufferRule) -> Result<(), PolicyError> {
        let rules = self.written.entry(name.to_owned()).or_default();
        if rules.contains(&rule) {
            return Ok(());
        }
        let accepted = self.accepted.entry(name.to_owned()).or_default();
        match &rule {
            BufferRule::Sha256(rule) => {
                accepted.digests.insert(rule.sha256.0);
            }
            BufferRule::Certificate(rule) => {
                let digest = certificate_digest(name, &rule.certificate)?;
                accepted.digests.insert(digest);
            }
            BufferRule::Text(rule) => accepted.texts.push(rule.text.clone()),
        }
        if accepted.digests.len() > MAX_DIGESTS || accepted.texts.len() > MAX_PATTERNS {
            return Err(PolicyError::TooMany {
                what: "rules for one buffer",
                limit: MAX_DIGESTS,
            });
        }
        rules.push(rule);
        Ok(())
    }

    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    /// `None` when there is no rule for this name.
    pub(super) fn accept(&self, name: &str, buffer: &[u8]) -> Option<Result<(), Missing>> {
        let accepted = self.accepted.get(name)?;
        let digest: [u8; 32] = Sha256::digest(buffer).into();
        let text = std::str::from_utf8(buffer);
        let good = accepted.digests.contains(&digest)
            || text.is_ok_and(|text| accepted.texts.iter().any(|rule| rule.matches(text)));
        Some(if good {
            Ok(())
        } else {
            Err(other(name, &digest, buffer))
        })
    }
}

fn other(name: &str, digest: &[u8; 32], buffer: &[u8]) -> Missing {
    let shown = match std::str::from_utf8(buffer) {
        Ok(text) if text.len() <= 200 && !text.chars().any(char::is_control) => {
            format!("{text:?}, sha256:{}", hex::encode(digest))
        }
        _ => format!("sha256:{}", hex::encode(digest)),
    };
    match name {
        "kexec-cmdline" => Missing::new(
            "kexec-cmdline",
            format!("another command line than the policy accepts ({shown})"),
        ),
        _ if name.starts_with(['.', '_']) => Missing::new(
            "keyring-key",
            format!("a key went into this keyring that is not in the policy ({shown})"),
        ),
        _ => Missing::new(
            "buffer",
            format!("is not what the policy accepts ({shown})"),
        ),
    }
}

fn certificate_digest(name: &str, pem: &str) -> Result<[u8; 32], PolicyError> {
    let bad = || PolicyError::Key {
        name: name.to_owned(),
        problem: "its certificate cannot be read: one PEM certificate is needed".into(),
    };
    let certificate = Certificate::from_pem(pem.trim()).map_err(|_| bad())?;
    let der = certificate.to_der().map_err(|_| bad())?;
    Ok(Sha256::digest(der).into())
}
