//! The role a service certificate carries.

use bootkeep_protocol::Role;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Why a certificate carries no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// Not an X.509 certificate that can be read.
    #[error("the certificate cannot be read")]
    Certificate,
    /// No `bootkeep://role/…` URI among its subject alternative names.
    #[error("the certificate names no role; issue it with `bootkeep init`")]
    None,
    /// More than one role, or a URI of that kind that names none.
    #[error("the certificate names more than one role, or one that does not exist")]
    Ambiguous,
}

/// The one role a certificate names in a URI subject alternative name.
///
/// Says nothing of who signed the certificate: check the chain first.
///
/// # Errors
/// [`RoleError`]: no role, more than one, or an unknown one.
pub fn certificate_role(certificate: &CertificateDer<'_>) -> Result<Role, RoleError> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|_| RoleError::Certificate)?;
    let mut uris = parsed
        .valid_uri_names()
        .filter(|uri| uri.starts_with("bootkeep:"));
    let uri = uris.next().ok_or(RoleError::None)?;
    if uris.next().is_some() {
        return Err(RoleError::Ambiguous);
    }
    Role::from_uri(uri).ok_or(RoleError::Ambiguous)
}
