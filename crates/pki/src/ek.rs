//! EK certificates (TCG EK Credential Profile): is it by a manufacturer we trust, and is it for this EK.
//!
//! Reading is tolerant: NV padding after the certificate is cut off, and names are never decoded for the decision, so
//! a wrong order inside a name does no harm. Use is strict: a chain of signatures to a root of the folder, validity
//! periods, basic constraints, the EK purpose where an extended key usage is present, and the very same public key.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bootkeep_evidence::{key::KeyMaterial, EkPublic};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{anchor_from_trusted_cert, EndEntityCert, KeyUsage, ALL_VERIFICATION_ALGS};
use x509_parser::{
    prelude::{parse_x509_certificate, Pem, X509Certificate},
    public_key::PublicKey,
};

/// Largest file of the folder that is read (bytes).
const MAX_FILE: u64 = 1024 * 1024;
/// Most certificates a folder may hold.
const MAX_CERTIFICATES: usize = 4096;
/// tcg-kp-EKCertificate, 2.23.133.8.1, DER contents.
const EK_PURPOSE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// Why an EK certificate is not believed, or the folder of roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EkError {
    /// A file or the folder cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no certificate, is too large, or there are too many.
    #[error("{path}: {problem}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The certificate cannot be read.
    #[error("the EK certificate cannot be read")]
    Unreadable,
    /// No chain to a root.
    #[error("the EK certificate does not chain to a root of the EK root folder ({0}); if its manufacturer is to be trusted, put the manufacturer's root and intermediate certificates there")]
    Chain(String),
    /// The certificate is for another key.
    #[error("the EK certificate is for another key than the EK")]
    OtherKey,
}

/// An EK certificate that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkChain {
    /// Subject of the root the chain ends in.
    pub root: String,
    /// The certificate, DER, without what followed it in NV.
    pub certificate: Vec<u8>,
}

/// The roots and intermediates of TPM manufacturers.
#[derive(Debug, Default)]
pub struct EkRoots {
    anchors: Vec<Anchor>,
    intermediates: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
struct Anchor {
    anchor: TrustAnchor<'static>,
    name: String,
}

impl EkRoots {
    /// Reads every certificate of a folder: `.pem`, `.crt`, `.cer`, `.der` (PEM with one or several certificates, or
    /// DER). Self-signed ones are roots, the others intermediates. Other files are left alone.
    ///
    /// # Errors
    /// [`EkError::File`], [`EkError::Content`], naming the file.
    pub fn load(directory: &Path) -> Result<Self, EkError> {
        let failed = |source| EkError::File {
            path: directory.into(),
            source,
        };
        let mut roots = Self::default();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().and_then(|text| text.to_str());
            if matches!(extension, Some("pem" | "crt" | "cer" | "der")) {
                roots.add_file(&path)?;
            }
        }
        Ok(roots)
    }

    /// How many roots there are.
    #[must_use]
    pub fn roots(&self) -> usize {
        self.anchors.len()
    }

    fn add_file(&mut self, path: &Path) -> Result<(), EkError> {
        let content = |problem| EkError::Content {
            path: path.into(),
            problem,
        };
        let certificates = certificates_of(&read_bounded(path)?)
            .filter(|found| !found.is_empty())
            .ok_or(content("no certificate in PEM or DER form"))?;
        for der in certificates {
            self.add(der)
                .ok_or(content("a certificate cannot be read"))?;
        }
        if self.anchors.len() + self.intermediates.len() > MAX_CERTIFICATES {
            return Err(content("more certificates than the limit"));
        }
        Ok(())
    }

    fn add(&mut self, der: Vec<u8>) -> Option<()> {
        let (_, certificate) = parse_x509_certificate(&der).ok()?;
        let self_issued = certificate.subject().as_raw() == certificate.issuer().as_raw();
        let name = certificate.subject().to_string();
        let der = CertificateDer::from(der);
        if self_issued {
            let anchor = anchor_from_trusted_cert(&der).ok()?.to_owned();
            self.anchors.push(Anchor { anchor, name });
        } else {
            self.intermediates.push(der);
        }
        Some(())
    }

    /// Checks an EK certificate as it was read from NV against the EK it should be for.
    ///
    /// # Errors
    /// [`EkError::Unreadable`], [`EkError::OtherKey`], [`EkError::Chain`].
    pub fn verify(
        &self,
        ek_certificate: &[u8],
        ek: &EkPublic,
        now: SystemTime,
    ) -> Result<EkChain, EkError> {
        let (padding, parsed) =
            parse_x509_certificate(ek_certificate).map_err(|_| EkError::Unreadable)?;
        if !is_for(&parsed, ek.material()) {
            return Err(EkError::OtherKey);
        }
        let der = &ek_certificate[..ek_certificate.len() - padding.len()];
        let root = self.chain(der, now)?;
        Ok(EkChain {
            root,
            certificate: der.to_vec(),
        })
    }

    /// The name of the root the certificate chains to.
    fn chain(&self, der: &[u8], now: SystemTime) -> Result<String, EkError> {
        let der = CertificateDer::from(der);
        let refused = |error: webpki::Error| EkError::Chain(format!("{error:?}"));
        let certificate = EndEntityCert::try_from(&der).map_err(refused)?;
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let anchors: Vec<_> = self
            .anchors
            .iter()
            .map(|root| root.anchor.clone())
            .collect();
        let path = certificate
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(since_1970),
                KeyUsage::required_if_present(EK_PURPOSE),
                None,
                None,
            )
            .map_err(refused)?;
        let name = self
            .anchors
            .iter()
            .find(|root| {
                root.anchor.subject == path.anchor().subject
                    && root.anchor.subject_public_key_info == path.anchor().subject_public_key_info
            })
            .map(|root| root.name.clone());
        name.ok_or_else(|| EkError::Chain("the root has no name".into()))
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, EkError> {
    let failed = |source| EkError::File {
        path: path.into(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(EkError::Content {
            path: path.into(),
            problem: "larger than one MiB",
        });
    }
    fs::read(path).map_err(failed)
}

fn certificates_of(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    if bytes.first() == Some(&0x30) {
        return Some(vec![bytes.to_vec()]);
    }
    Pem::iter_from_buffer(bytes)
        .map(|pem| pem.ok().filter(|pem| pem.label == "CERTIFICATE"))
        .map(|pem| pem.map(|pem| pem.contents))
        .collect()
}

/// Whether the certificate's public key is this one. RSA keys may stand under rsaEncryption or id-RSAES-OAEP.
fn is_for(certificate: &X509Certificate<'_>, key: &KeyMaterial) -> bool {
    match (key, certificate.public_key().parsed()) {
        (KeyMaterial::Rsa { modulus, exponent }, Ok(PublicKey::RSA(found))) => {
            let unpadded = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                bytes[zeros..].to_vec()
            };
            unpadded(found.modulus) == unpadded(modulus)
                && found.try_exponent().ok() == Some(u64::from(*exponent))
        }
        (KeyMaterial::P256 { .. }, Ok(PublicKey::EC(point))) => key
            .p256_point()
            .is_some_and(|own| own.as_slice() == point.data()),
        _ => false,
    }
}
