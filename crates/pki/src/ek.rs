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
    asn1_rs::{oid, Oid},
    prelude::{parse_x509_certificate, FromDer, Pem, X509Certificate},
    public_key::{PublicKey, RSAPublicKey},
};

/// Largest file of the folder that is read (bytes).
const MAX_FILE: u64 = 1024 * 1024;
/// Most certificates a folder may hold.
const MAX_CERTIFICATES: usize = 4096;
/// tcg-kp-EKCertificate, 2.23.133.8.1, DER contents.
const EK_PURPOSE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

const OID_RSAES_OAEP: Oid<'static> = oid!(1.2.840 .113549 .1 .1 .7);

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
    not_before: i64,
    not_after: i64,
    /// How many intermediates may stand below it.
    path_length: Option<u32>,
}

impl Anchor {
    /// Seconds since 1970 (UTC).
    fn is_valid_at(&self, now: u64) -> bool {
        i64::try_from(now).is_ok_and(|now| (self.not_before..=self.not_after).contains(&now))
    }
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
            self.add(der).map_err(content)?;
        }
        if self.anchors.len() + self.intermediates.len() > MAX_CERTIFICATES {
            return Err(content("more certificates than the limit"));
        }
        Ok(())
    }

    fn add(&mut self, der: Vec<u8>) -> Result<(), &'static str> {
        const UNREADABLE: &str = "a certificate cannot be read";
        let (_, certificate) = parse_x509_certificate(&der).map_err(|_| UNREADABLE)?;
        let path_length =
            authority_of(&certificate).ok_or("a certificate that may not sign certificates")?;
        let self_issued = certificate.subject().as_raw() == certificate.issuer().as_raw();
        let name = certificate.subject().to_string();
        let validity = certificate.validity();
        let (not_before, not_after) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let der = CertificateDer::from(der);
        if !self_issued {
            self.intermediates.push(der);
            return Ok(());
        }
        let anchor = anchor_from_trusted_cert(&der)
            .map_err(|_| UNREADABLE)?
            .to_owned();
        self.anchors.push(Anchor {
            anchor,
            name,
            not_before,
            not_after,
            path_length,
        });
        Ok(())
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
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        // webpki takes anchors as they are: their validity and path length are ours to check.
        let valid = || {
            self.anchors
                .iter()
                .filter(|root| root.is_valid_at(now.as_secs()))
        };
        let anchors: Vec<_> = valid().map(|root| root.anchor.clone()).collect();
        let path = certificate
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(now),
                KeyUsage::required_if_present(EK_PURPOSE),
                None,
                None,
            )
            .map_err(refused)?;
        let below = path.intermediate_certificates().count();
        let root = valid()
            .filter(|root| root.anchor == *path.anchor())
            .find(|root| root.path_length.is_none_or(|most| below <= most as usize));
        root.map(|root| root.name.clone())
            .ok_or_else(|| EkError::Chain("the path below the root is too long".into()))
    }
}

/// Whether the certificate is an authority's; how many intermediates it allows below itself.
#[allow(clippy::option_option)]
fn authority_of(certificate: &X509Certificate<'_>) -> Option<Option<u32>> {
    let constraints = certificate.basic_constraints().ok()??.value;
    let usage = certificate.key_usage().ok()?;
    let signs = usage.is_none_or(|usage| usage.value.key_cert_sign());
    (constraints.ca && signs).then_some(constraints.path_len_constraint)
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

/// Whether the certificate's public key is this one.
fn is_for(certificate: &X509Certificate<'_>, key: &KeyMaterial) -> bool {
    match (key, public_key(certificate)) {
        (KeyMaterial::Rsa { modulus, exponent }, Some(PublicKey::RSA(found))) => {
            unpadded(found.modulus) == unpadded(modulus)
                && found.try_exponent().ok() == Some(u64::from(*exponent))
        }
        (KeyMaterial::P256 { .. }, Some(PublicKey::EC(point))) => key
            .p256_point()
            .is_some_and(|own| own.as_slice() == point.data()),
        _ => false,
    }
}

/// An RSA key may also stand under id-RSAES-OAEP in older certificates.
fn public_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<PublicKey<'a>> {
    let info = certificate.public_key();
    if info.algorithm.algorithm == OID_RSAES_OAEP {
        let (_, key) = RSAPublicKey::from_der(info.subject_public_key.as_ref()).ok()?;
        return Some(PublicKey::RSA(key));
    }
    info.parsed().ok()
}

fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}
