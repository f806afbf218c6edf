//! The CA's revocation list, as far as it is looked at here: charon checks its signature whenever it is used.

use bootkeep_protocol::limits::MAX_CRL;
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};

/// Why a list is not given to charon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Larger than the verifier hands on.
    #[error("it has {0} bytes, at most {MAX_CRL} are taken")]
    TooLarge(usize),
    /// No list in DER.
    #[error("it is no revocation list in DER")]
    Unreadable,
    /// Its issuer is none of the authorities this node trusts.
    #[error("it is of none of the authorities in chain.pem")]
    OtherAuthority,
}

/// Whether this is a list of one of these authorities (certificates, DER).
pub(crate) fn check(der: &[u8], authorities: &[Vec<u8>]) -> Result<(), CrlError> {
    if der.len() > MAX_CRL {
        return Err(CrlError::TooLarge(der.len()));
    }
    let list = match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => list,
        _ => return Err(CrlError::Unreadable),
    };
    let issued_it = |authority: &Vec<u8>| {
        X509Certificate::from_der(authority)
            .is_ok_and(|(_, authority)| authority.subject().as_raw() == list.issuer().as_raw())
    };
    match authorities.iter().any(issued_it) {
        true => Ok(()),
        false => Err(CrlError::OtherAuthority),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use bootkeep_pki::node::NodeAuthority;
    use x509_parser::pem::Pem;

    use super::*;

    #[test]
    fn only_a_list_of_a_trusted_authority_is_taken() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let stranger = NodeAuthority::generate("strangers").unwrap();
        let pem = Pem::iter_from_buffer(authority.certificate_pem().as_bytes());
        let trusted: Vec<_> = pem.map(|pem| pem.unwrap().contents).collect();
        let list = |authority: &NodeAuthority| {
            let day = Duration::from_secs(86_400);
            authority.crl(1, &[], day).unwrap()
        };
        let good = list(&authority);
        assert_eq!(check(&good, &trusted), Ok(()));
        let longer = [good.as_slice(), &[0]].concat();
        let cases = [
            (list(&stranger), CrlError::OtherAuthority),
            (longer, CrlError::Unreadable),
            (trusted[0].clone(), CrlError::Unreadable),
            (Vec::new(), CrlError::Unreadable),
            (vec![0x30; MAX_CRL + 1], CrlError::TooLarge(MAX_CRL + 1)),
        ];
        for (der, expected) in cases {
            assert_eq!(check(&der, &trusted), Err(expected));
        }
        assert_eq!(check(&good, &[]), Err(CrlError::OtherAuthority));
    }
}
