//! Certificates of nodes (for IPsec and TLS) and their revocation list.

use std::time::{Duration, SystemTime};

use bootkeep_protocol::NodeId;
use rcgen::{
    string::Ia5String, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateSigningRequestDer;
use zeroize::Zeroizing;

use crate::{
    identity::{new_key, uri, Authority},
    ocsp::authority_info_access,
    validity, PkiError,
};

/// Length of a serial number (bytes): 128 random bits, as RFC 5280 §4.1.2.2 allows up to 20.
const SERIAL_LEN: usize = 16;
/// Longest common name (characters), RFC 5280 appendix A.1 `ub-common-name`.
const MAX_COMMON_NAME: usize = 64;
/// Names below it are identities of nodes: made from their ids, never from labels.
const NODE_SUFFIX: &str = ".node.bootkeep.internal";

/// Signs node certificates and the revocation list.
pub struct NodeAuthority(Authority);

/// What a node certificate says.
#[derive(Clone, Copy, Debug)]
pub struct NodeCertificateTerms<'a> {
    /// Whose.
    pub node: &'a NodeId,
    /// The subject's common name; a host name also becomes a DNS name.
    pub label: &'a str,
    /// How long it is valid.
    pub days: u32,
    /// Where its revocation list is.
    pub crl_url: &'a str,
    /// Where its status can be asked for (OCSP).
    pub ocsp_url: Option<&'a str>,
    /// Where the authority's certificate is.
    pub ca_url: Option<&'a str>,
}

/// A node certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCertificate {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// PEM.
    pub certificate_pem: String,
    /// Seconds since 1970 (UTC).
    pub not_after: u64,
}

/// One entry of the revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedSerial {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// Seconds since 1970 (UTC).
    pub revoked_at: u64,
}

/// A fresh P-256 key and a certification request for it.
///
/// # Errors
/// [`PkiError::Certificate`].
pub fn new_key_and_csr(common_name: &str) -> Result<(Zeroizing<String>, Vec<u8>), PkiError> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name_of(common_name);
    let request = params.serialize_request(&key)?;
    Ok((
        Zeroizing::new(key.serialize_pem()),
        request.der().as_ref().to_vec(),
    ))
}

fn common_name_of(label: &str) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    let label: String = label.chars().take(MAX_COMMON_NAME).collect();
    name.push(DnType::CommonName, label);
    name
}

fn is_host_name(label: &str) -> bool {
    let good = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    label.len() <= 253 && label.split('.').all(good)
}

/// A positive serial number: the first bit is clear, the first byte is not zero.
fn random_serial() -> Result<[u8; SERIAL_LEN], PkiError> {
    let mut serial = [0; SERIAL_LEN];
    getrandom::fill(&mut serial).map_err(PkiError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

impl NodeAuthority {
    /// A fresh authority with a P-256 key, valid for ten years.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn generate(common_name: &str) -> Result<Self, PkiError> {
        Authority::generate(common_name).map(Self)
    }

    /// An authority that was kept.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        Authority::from_pem(certificate_pem, key_pem).map(Self)
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        self.0.certificate_pem()
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.0.issuer().key()
    }

    /// Its private key, PKCS #8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.0.key_pem()
    }

    /// Issues a certificate for the public key of a PKCS #10 request. Nothing else of the request is used.
    ///
    /// # Errors
    /// [`PkiError::Request`] when it is not self-signed or its key is not P-256.
    pub fn issue(
        &self,
        csr_der: &[u8],
        terms: &NodeCertificateTerms<'_>,
    ) -> Result<NodeCertificate, PkiError> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
                .map_err(|_| PkiError::Request("it cannot be read, or its signature is wrong"))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Request("its key is not NIST P-256"));
        }
        let serial = random_serial()?;
        let mut params = node_params(terms)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let not_after = u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0);
        let certificate = params.signed_by(&request.public_key, self.0.issuer())?;
        Ok(NodeCertificate {
            serial: hex::encode(serial),
            certificate_pem: certificate.pem(),
            not_after,
        })
    }

    /// The revocation list, DER: number, this update now, next update after `valid_for`.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn crl(
        &self,
        number: u64,
        revoked: &[RevokedSerial],
        valid_for: Duration,
    ) -> Result<Vec<u8>, PkiError> {
        let now = SystemTime::now();
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + valid_for).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().filter_map(revoked_entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(self.0.issuer())?.der().as_ref().to_vec())
    }
}

/// Serials come from our own store; one that is not hex was never issued.
fn revoked_entry(entry: &RevokedSerial) -> Option<RevokedCertParams> {
    let serial = hex::decode(&entry.serial).ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(entry.revoked_at))?;
    Some(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time: time.into(),
        reason_code: Some(RevocationReason::PrivilegeWithdrawn),
        invalidity_date: None,
    })
}

fn dns_name(name: &str) -> Result<SanType, PkiError> {
    let name = Ia5String::try_from(name).map_err(|_| PkiError::Name(name.into()))?;
    Ok(SanType::DnsName(name))
}

/// A label must not claim the identity of another node.
fn is_free_host_name(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    is_host_name(&label) && !label.ends_with(NODE_SUFFIX)
}

fn node_params(terms: &NodeCertificateTerms<'_>) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name_of(terms.label);
    let identity = dns_name(&terms.node.host_name())?;
    params.subject_alt_names = vec![uri(&format!("bootkeep://node/{}", terms.node))?, identity];
    if is_free_host_name(terms.label) {
        params.subject_alt_names.push(dns_name(terms.label)?);
    }
    // With it, rcgen writes the subject key identifier too.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.crl_distribution_points = vec![CrlDistributionPoint {
        uris: vec![terms.crl_url.to_owned()],
    }];
    params.use_authority_key_identifier_extension = true;
    params
        .custom_extensions
        .extend(authority_info_access(terms.ocsp_url, terms.ca_url)?);
    validity::set(&mut params, terms.days);
    Ok(params)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    fn terms(node: &NodeId) -> NodeCertificateTerms<'_> {
        NodeCertificateTerms {
            node,
            label: "web-1.example",
            days: 30,
            crl_url: "http://127.0.0.1/crl.der",
            ocsp_url: Some("http://127.0.0.1/ocsp"),
            ca_url: None,
        }
    }

    #[test]
    fn certificates_say_whose_they_are() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let node = NodeId::of_ek_public(b"ek");
        let (_, csr) = new_key_and_csr("anything").unwrap();
        let issued = authority.issue(&csr, &terms(&node)).unwrap();
        let (_, pem) = parse_x509_pem(issued.certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(hex::encode(certificate.raw_serial()), issued.serial);
        let text = format!(
            "{:?}",
            certificate
                .subject_alternative_name()
                .unwrap()
                .unwrap()
                .value
        );
        assert!(
            text.contains(&format!("bootkeep://node/{node}")) && text.contains("web-1.example")
        );
        assert!(!certificate.is_ca());
        assert!(certificate.subject().to_string().contains("web-1.example"));
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let node = NodeId::of_ek_public(b"ek");
        let (_, mut csr) = new_key_and_csr("x").unwrap();
        assert!(authority
            .issue(&csr[..csr.len() - 1], &terms(&node))
            .is_err());
        let last = csr.len() - 1;
        csr[last] ^= 1;
        assert!(authority.issue(&csr, &terms(&node)).is_err());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert!(matches!(
            authority.issue(other.der(), &terms(&node)),
            Err(PkiError::Request(_))
        ));
    }

    #[test]
    fn the_list_names_what_was_revoked() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let entry = RevokedSerial {
            serial: "4a00000000000000000000000000beef".into(),
            revoked_at: 1_700_000_000,
        };
        let der = authority
            .crl(7, &[entry], Duration::from_secs(3600))
            .unwrap();
        let (_, crl) = CertificateRevocationList::from_der(&der).unwrap();
        assert_eq!(crl.crl_number().unwrap(), &7u32.into());
        let serials: Vec<String> = crl
            .iter_revoked_certificates()
            .map(|revoked| hex::encode(revoked.raw_serial()))
            .collect();
        assert_eq!(serials, ["4a00000000000000000000000000beef"]);
    }

    #[test]
    fn host_names_are_told_from_labels() {
        assert!(is_host_name("web-1.example"));
        for label in ["", "web 1", "-a", "a..b", "café"] {
            assert!(!is_host_name(label), "{label}");
        }
        let other = NodeId::of_ek_public(b"other").host_name();
        assert!(is_host_name(&other) && is_free_host_name("web-1.example"));
        assert!(!is_free_host_name(&other) && !is_free_host_name(&other.to_uppercase()));
    }
}
