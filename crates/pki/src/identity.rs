//! The owner's authority and the identities of services.

use bootkeep_protocol::Role;
use rcgen::{
    string::Ia5String, BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, PKCS_ECDSA_P256_SHA256,
};
use zeroize::Zeroizing;

use crate::{validity, PkiError};

const AUTHORITY_DAYS: u32 = 3650;
const SERVICE_DAYS: u32 = 1825;

/// Signs the certificates of the owner's services. Its key stays with the owner.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A service's certificate and key, PEM.
pub struct ServiceIdentity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: Zeroizing<String>,
}

/// A fresh P-256 key.
pub(crate) fn new_key() -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// The parameters of a certification authority that signs end entities only.
fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    validity::set(&mut params, AUTHORITY_DAYS);
    params
}

pub(crate) fn uri(text: &str) -> Result<SanType, PkiError> {
    Ia5String::try_from(text)
        .map(SanType::URI)
        .map_err(|_| PkiError::Name(text.into()))
}

impl Authority {
    /// A fresh authority with a P-256 key, valid for ten years.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn generate(common_name: &str) -> Result<Self, PkiError> {
        let key = new_key()?;
        let params = authority_params(common_name);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that was kept.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when one of the two is not PEM of the right kind.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self {
            certificate_pem: certificate_pem.into(),
            issuer: Issuer::from_ca_cert_pem(certificate_pem, key)?,
        })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its private key, PKCS #8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// A service's identity: a P-256 key, the role as URI, and the host names and IP addresses it answers to.
    /// Valid for five years.
    ///
    /// # Errors
    /// [`PkiError::Name`] for a name that is neither, [`PkiError::Certificate`].
    pub fn issue_service(&self, role: Role, names: &[String]) -> Result<ServiceIdentity, PkiError> {
        let mut params =
            CertificateParams::new(names).map_err(|_| PkiError::Name(names.join(" ")))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Bootkeep {role}"));
        params.subject_alt_names.push(uri(&role.uri())?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        validity::set(&mut params, SERVICE_DAYS);
        let key = new_key()?;
        Ok(ServiceIdentity {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_authority_signs_as_before() {
        let fresh = Authority::generate("owner").unwrap();
        let kept = Authority::from_pem(fresh.certificate_pem(), &fresh.key_pem()).unwrap();
        let names = [
            "verifier.example".to_owned(),
            "10.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        let identity = kept.issue_service(Role::Verifier, &names).unwrap();
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(identity.certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(fresh.certificate_pem().as_bytes()).unwrap();
        let issuer = pem.parse_x509().unwrap();
        assert_eq!(certificate.issuer(), issuer.subject());
        let san = certificate.subject_alternative_name().unwrap().unwrap();
        let text = format!("{:?}", san.value);
        assert!(text.contains("bootkeep://role/verifier"), "{text}");
        assert!(text.contains("verifier.example"), "{text}");
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let authority = Authority::generate("owner").unwrap();
        assert!(authority
            .issue_service(Role::Ca, &["zürich".to_owned()])
            .is_err());
    }
}
