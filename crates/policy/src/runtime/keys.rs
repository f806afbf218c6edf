//! Keys whose signatures speak for files.

use bootkeep_evidence::ima::{Entry, FileDigest, FileKey, FileSignature, SignatureError};
use serde::{Deserialize, Serialize};
use x509_cert::{
    der::{oid::AssociatedOid, Decode, DecodePem, Encode},
    ext::pkix::SubjectKeyIdentifier,
    spki::SubjectPublicKeyInfoOwned,
    Certificate,
};

use super::{
    pattern::{PathPattern, Patterns},
    verdict::Missing,
};
use crate::error::PolicyError;

/// Most keys of one policy.
const MAX_KEYS: usize = 32;
/// Longest name of a key (bytes).
const MAX_NAME: usize = 64;
/// Longest PEM text of a key (bytes).
const MAX_PEM: usize = 16 * 1024;
/// Shortest `RSAPublicKey` of 2048 bits (bytes).
const MIN_RSA: usize = 266;

/// A key as it is written: whose signature on a file makes it accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// For refusals and people.
    pub name: String,
    /// One `CERTIFICATE` or `PUBLIC KEY`: RSA of 2048 bits and more, P-256 or P-384. Validity, usage and issuer of a
    /// certificate decide nothing: the policy names the key itself.
    pub pem: String,
    /// Where it speaks for files; everywhere when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
}

#[derive(Clone, Debug)]
struct Key {
    written: SigningKey,
    key: FileKey,
    paths: Patterns,
}

/// The keys of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct SigningKeys(Vec<Key>);

impl PartialEq for SigningKeys {
    fn eq(&self, other: &Self) -> bool {
        self.written().eq(other.written())
    }
}

impl SigningKeys {
    pub(super) fn new(list: Vec<SigningKey>) -> Result<Self, PolicyError> {
        let mut keys = Self::default();
        for key in list {
            keys.add(key)?;
        }
        Ok(keys)
    }

    pub(super) fn add(&mut self, written: SigningKey) -> Result<(), PolicyError> {
        let bad = |problem: &str| PolicyError::Key {
            name: written.name.chars().take(MAX_NAME).collect(),
            problem: problem.to_owned(),
        };
        if written.name.is_empty() || written.name.len() > MAX_NAME {
            return Err(bad("its name must have 1 to 64 bytes"));
        }
        if let Some(same) = self.0.iter().find(|key| key.written.name == written.name) {
            if same.written == written {
                return Ok(());
            }
            return Err(bad("another key has the same name"));
        }
        if self.0.len() >= MAX_KEYS {
            return Err(PolicyError::TooMany {
                what: "signing keys",
                limit: MAX_KEYS,
            });
        }
        let key = read(&written.pem).map_err(bad)?;
        let paths = Patterns::new(written.paths.clone())?;
        self.0.push(Key {
            written,
            key,
            paths,
        });
        Ok(())
    }

    pub(super) fn written(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.iter().map(|key| &key.written)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key whose signature speaks for this entry. `names` are the names its path goes by.
    pub(super) fn accept(
        &self,
        entry: &Entry,
        digest: &FileDigest,
        names: &[&str],
    ) -> Result<&str, Missing> {
        let signature = FileSignature::parse(&entry.signature)
            .map_err(|error| Missing::new(code(&error), error))?;
        let mut missing = None;
        let id = signature.key_id();
        for key in self.0.iter().filter(|key| key.key.ids().contains(&id)) {
            match key.speaks_for(&signature, digest, names) {
                Ok(()) => return Ok(&key.written.name),
                Err(problem) => missing = Some(problem),
            }
        }
        Err(missing.unwrap_or_else(|| {
            Missing::new(
                "file-signature-key",
                format!(
                    "is signed with the key {}, which is not in the policy",
                    hex::encode(id)
                ),
            )
        }))
    }
}

impl Key {
    fn speaks_for(
        &self,
        signature: &FileSignature<'_>,
        digest: &FileDigest,
        names: &[&str],
    ) -> Result<(), Missing> {
        let name = &self.written.name;
        self.key.verify(signature, digest).map_err(|error| {
            Missing::new(code(&error), format!("signing key {name:?}: {error}"))
        })?;
        let here = names.iter().any(|name| self.paths.find(name).is_some());
        if here || self.paths.is_empty() {
            return Ok(());
        }
        Err(Missing::new(
            "file-signature-path",
            format!("is signed by {name:?}, which does not speak for files here"),
        ))
    }
}

fn code(error: &SignatureError) -> &'static str {
    match error {
        SignatureError::Malformed(_) => "file-signature-malformed",
        SignatureError::Portable => "file-signature-kind",
        SignatureError::Algorithm(_) | SignatureError::OtherDigest { .. } => {
            "file-signature-algorithm"
        }
        SignatureError::Wrong => "file-signature",
    }
}

fn read(pem: &str) -> Result<FileKey, &'static str> {
    if pem.len() > MAX_PEM {
        return Err("its PEM text is over its limit");
    }
    if pem.contains("PRIVATE KEY") {
        return Err("that is a private key: give its public key or certificate");
    }
    if pem.matches("-----BEGIN").count() != 1 {
        return Err("its PEM text must hold one CERTIFICATE or PUBLIC KEY");
    }
    let mut ids = Vec::new();
    let spki = if pem.contains("-----BEGIN CERTIFICATE-----") {
        let certificate =
            Certificate::from_pem(pem.trim()).map_err(|_| "its certificate cannot be read")?;
        ids.extend(subject_key_id(&certificate));
        certificate.tbs_certificate.subject_public_key_info
    } else {
        SubjectPublicKeyInfoOwned::from_pem(pem.trim())
            .map_err(|_| "its public key cannot be read")?
    };
    let point = spki.subject_public_key.raw_bytes();
    let id = FileKey::id_of(point);
    if !ids.contains(&id) {
        ids.push(id);
    }
    if spki.algorithm.oid == RSA && point.len() < MIN_RSA {
        return Err("RSA keys must have 2048 bits or more");
    }
    let der = spki.to_der().map_err(|_| "its public key cannot be read")?;
    FileKey::new(&der, ids).ok_or("it is not an RSA, P-256 or P-384 key")
}

const RSA: x509_cert::der::oid::ObjectIdentifier =
    x509_cert::der::oid::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The last four bytes of the certificate's subject key identifier: that is what the kernel compares.
fn subject_key_id(certificate: &Certificate) -> Option<[u8; 4]> {
    let extensions = certificate.tbs_certificate.extensions.as_ref()?;
    let extension = extensions
        .iter()
        .find(|extension| extension.extn_id == SubjectKeyIdentifier::OID)?;
    let id = SubjectKeyIdentifier::from_der(extension.extn_value.as_bytes()).ok()?;
    id.0.as_bytes().last_chunk().copied()
}
