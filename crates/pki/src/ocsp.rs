//! OCSP (RFC 6960, in the short form of RFC 5019): whether one certificate of the node authority is still good.

use std::time::{Duration, SystemTime};

use rcgen::SigningKey as _;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::{
    certificate::Certificate,
    der::{
        asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString},
        DateTime, Decode, DecodePem, Encode,
    },
    ext::{
        pkix::{name::GeneralName, AccessDescription, AuthorityInfoAccessSyntax, CrlReason},
        Extension,
    },
    spki::AlgorithmIdentifierOwned,
};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponderId,
    ResponseData, RevokedInfo, SingleResponse,
};

use crate::{node::NodeAuthority, PkiError};

/// Most certificates one request may ask about.
const MAX_ASKED: usize = 8;
/// Largest request (bytes).
pub const MAX_REQUEST: usize = 4096;
/// Longest nonce (bytes), RFC 8954 §2.1.
const MAX_NONCE: usize = 32;

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const AD_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

/// A request that could be read.
#[derive(Clone, Debug)]
pub struct OcspRequest {
    asked: Vec<CertId>,
    nonce: Option<Extension>,
}

/// What is known of a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialStatus {
    /// Issued and not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// Seconds since 1970 (UTC).
        at: u64,
    },
    /// Never issued here.
    Unknown,
}

impl OcspRequest {
    /// Reads a request. Its signature, if any, is not looked at: anybody may ask.
    ///
    /// # Errors
    /// [`PkiError::Request`].
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > MAX_REQUEST {
            return Err(PkiError::Request("it is too long"));
        }
        let request = x509_ocsp::OcspRequest::from_der(der)
            .map_err(|_| PkiError::Request("it is not an OCSP request"))?;
        let request = request.tbs_request;
        if !(1..=MAX_ASKED).contains(&request.request_list.len()) {
            return Err(PkiError::Request("it asks about none, or about too many"));
        }
        let nonce = request.request_extensions.and_then(|extensions| {
            let mut extensions = extensions.into_iter();
            extensions.find(|extension| extension.extn_id == NONCE)
        });
        Ok(Self {
            asked: request
                .request_list
                .into_iter()
                .map(|one| one.req_cert)
                .collect(),
            // A longer one than the standard allows is left out, as it says.
            nonce: nonce.filter(|nonce| nonce.extn_value.as_bytes().len() <= MAX_NONCE + 2),
        })
    }

    /// The serial numbers asked about, lower-case hex.
    #[must_use]
    pub fn serials(&self) -> Vec<String> {
        self.asked.iter().map(serial_of).collect()
    }
}

fn serial_of(id: &CertId) -> String {
    hex::encode(id.serial_number.as_bytes())
}

/// The answer to a request that could not be read.
#[must_use]
pub fn malformed_request() -> Vec<u8> {
    OcspResponse::malformed_request()
        .to_der()
        .unwrap_or_default()
}

/// The answer when the responder has a fault.
#[must_use]
pub fn try_later() -> Vec<u8> {
    OcspResponse::try_later().to_der().unwrap_or_default()
}

impl NodeAuthority {
    /// Answers a request, signed by the authority itself (RFC 6960 §4.2.2.2). `status` is asked for serial numbers of
    /// this authority only; a certificate of another one is unknown.
    ///
    /// # Errors
    /// [`PkiError::Ocsp`].
    pub fn ocsp(
        &self,
        request: &OcspRequest,
        status: impl Fn(&str) -> SerialStatus,
        valid_for: Duration,
    ) -> Result<Vec<u8>, PkiError> {
        let certificate = Certificate::from_pem(self.certificate_pem())?;
        let tbs = certificate.tbs_certificate;
        let key = tbs.subject_public_key_info.subject_public_key.raw_bytes();
        let issuer = Issuer {
            name: tbs.subject.to_der()?,
            key: key.to_vec(),
        };
        let now = SystemTime::now();
        let single = |id: &CertId| {
            let status = match issuer.is_of(id) {
                true => status(&serial_of(id)),
                false => SerialStatus::Unknown,
            };
            Ok(SingleResponse {
                cert_id: id.clone(),
                cert_status: cert_status(status)?,
                this_update: time_of(now)?,
                next_update: Some(time_of(now + valid_for)?),
                single_extensions: None,
            })
        };
        let data = ResponseData {
            version: x509_ocsp::Version::V1,
            responder_id: ResponderId::ByKey(OctetString::new(Sha1::digest(&issuer.key).to_vec())?),
            produced_at: time_of(now)?,
            responses: request
                .asked
                .iter()
                .map(single)
                .collect::<Result<_, PkiError>>()?,
            response_extensions: request.nonce.clone().map(|nonce| vec![nonce]),
        };
        self.signed_response(data)
    }

    fn signed_response(&self, data: ResponseData) -> Result<Vec<u8>, PkiError> {
        let signature = self.key().sign(&data.to_der()?)?;
        let response = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: ECDSA_WITH_SHA256,
                parameters: None,
            },
            signature: BitString::from_bytes(&signature)?,
            certs: None,
        };
        Ok(OcspResponse::successful(response)?.to_der()?)
    }
}

struct Issuer {
    name: Vec<u8>,
    key: Vec<u8>,
}

impl Issuer {
    fn is_of(&self, id: &CertId) -> bool {
        let digests = match id.hash_algorithm.oid {
            SHA1 => (
                Sha1::digest(&self.name).to_vec(),
                Sha1::digest(&self.key).to_vec(),
            ),
            SHA256 => (
                Sha256::digest(&self.name).to_vec(),
                Sha256::digest(&self.key).to_vec(),
            ),
            _ => return false,
        };
        id.issuer_name_hash.as_bytes() == digests.0 && id.issuer_key_hash.as_bytes() == digests.1
    }
}

fn cert_status(status: SerialStatus) -> Result<CertStatus, PkiError> {
    Ok(match status {
        SerialStatus::Good => CertStatus::Good(Null),
        SerialStatus::Unknown => CertStatus::Unknown(Null),
        SerialStatus::Revoked { at } => CertStatus::Revoked(RevokedInfo {
            revocation_time: time_of(SystemTime::UNIX_EPOCH + Duration::from_secs(at))?,
            revocation_reason: Some(CrlReason::PrivilegeWithdrawn),
        }),
    })
}

fn time_of(time: SystemTime) -> Result<OcspGeneralizedTime, PkiError> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Whole seconds: DER allows no fractions here.
    let whole = DateTime::from_unix_duration(Duration::from_secs(since.as_secs()))?;
    Ok(OcspGeneralizedTime(GeneralizedTime::from_date_time(whole)))
}

/// The extension `authorityInfoAccess` (RFC 5280 §4.2.2.1): its object identifier's arcs and its contents.
pub(crate) fn authority_info_access(
    ocsp_url: Option<&str>,
    ca_url: Option<&str>,
) -> Result<Option<rcgen::CustomExtension>, PkiError> {
    let access = |method, url: Option<&str>| {
        url.map(|url| {
            let uri = x509_cert::der::asn1::Ia5String::new(url)?;
            Ok::<_, PkiError>(AccessDescription {
                access_method: method,
                access_location: GeneralName::UniformResourceIdentifier(uri),
            })
        })
    };
    let all: Vec<AccessDescription> = [access(AD_OCSP, ocsp_url), access(AD_CA_ISSUERS, ca_url)]
        .into_iter()
        .flatten()
        .collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Ok(None);
    }
    let contents = AuthorityInfoAccessSyntax(all).to_der()?;
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    Ok(Some(rcgen::CustomExtension::from_oid_content(
        &oid, contents,
    )))
}
