//! The node's certificate, its key, and its name in IKE.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer, X509Certificate},
};
use zeroize::Zeroizing;

/// Largest file of an identity (bytes).
const MAX_FILE: usize = 64 * 1024;
/// Most certificates of a chain.
const MAX_CHAIN: usize = 8;
/// What names of nodes end in: see `NodeId::host_name`.
pub(crate) const NODE_SUFFIX: &str = ".node.bootkeep.internal";

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What a node shows in IKE.
pub struct Identity {
    /// Its name: the DNS name of a node in its certificate.
    pub host_name: String,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The authorities it trusts, DER: the node CA, and what is between.
    pub authorities: Vec<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.host_name).finish()
    }
}

impl Identity {
    /// Reads `certificate.pem`, `key.pem` and `chain.pem` of a folder.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(folder: &Path) -> Result<Self, IdentityError> {
        let certificate = one_certificate(&folder.join("certificate.pem"))?;
        let host_name = host_name(&certificate).ok_or_else(|| IdentityError::Content {
            path: folder.join("certificate.pem"),
            problem: "no DNS name of a node in it (….node.bootkeep.internal); have it issued again",
        })?;
        Ok(Self {
            host_name,
            certificate,
            authorities: certificates(&folder.join("chain.pem"))?,
            key: key(&folder.join("key.pem"))?,
        })
    }

    /// The private key, PEM.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }
}

fn key(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let bytes = Zeroizing::new(read(path)?);
    let begins = b"-----BEGIN ";
    if !bytes.windows(begins.len()).any(|part| part == begins) {
        return Err(IdentityError::Content {
            path: path.to_owned(),
            problem: "no PEM in it",
        });
    }
    Ok(bytes)
}

fn one_certificate(path: &Path) -> Result<Vec<u8>, IdentityError> {
    Ok(certificates(path)?.swap_remove(0))
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, IdentityError> {
    let bad = |problem| IdentityError::Content {
        path: path.to_owned(),
        problem,
    };
    let bytes = read(path)?;
    let all: Vec<Vec<u8>> = Pem::iter_from_buffer(&bytes)
        .take(MAX_CHAIN)
        .map(|pem| match pem {
            Ok(pem) if pem.label == "CERTIFICATE" => Ok(pem.contents),
            _ => Err(bad("something other than PEM certificates in it")),
        })
        .collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(bad("no certificate in it"));
    }
    Ok(all)
}

fn host_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) if name.ends_with(NODE_SUFFIX) => Some((*name).to_owned()),
            _ => None,
        })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    read_bounded(path, MAX_FILE).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A whole file, unless it has more bytes than `most`.
pub(crate) fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let problem = format!("more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}
