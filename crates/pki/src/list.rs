//! Reading the node authority's revocation list, at whoever hands it on: RFC 5280 §5.

use bootkeep_protocol::limits::{MAX_CERTIFICATE, MAX_CRL};
use x509_parser::{
    prelude::{CertificateRevocationList, FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

/// Why a list is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Too large to be handed to every node.
    #[error("the revocation list has {0} bytes, {MAX_CRL} are handed on at most; shorten `certificate_days` of the CA, so that revoked certificates leave it sooner")]
    TooLarge(usize),
    /// No list, or one with something behind it.
    #[error("it is no revocation list in DER")]
    Unreadable,
    /// No certificate of an authority with a P-256 key.
    #[error("it is no certificate of an authority with a key on NIST P-256")]
    Authority,
    /// A field that is missing or out of its range.
    #[error("the revocation list has no usable {0}")]
    Field(&'static str),
    /// Another authority's.
    #[error("the revocation list is another authority's")]
    OtherAuthority,
    /// Not signed by the authority.
    #[error("the authority did not sign this revocation list")]
    Signature,
}

/// A list whose authority signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Counts the lists.
    pub number: u64,
    /// Seconds since 1970 (UTC).
    pub this_update: u64,
    /// Seconds since 1970 (UTC).
    pub next_update: u64,
    /// As it travels.
    pub der: Vec<u8>,
}

/// The authority whose lists count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAuthority {
    subject: Vec<u8>,
    /// The key, an uncompressed point.
    key: Vec<u8>,
}

impl ListAuthority {
    /// By its certificate, DER. Who shows it is to be trusted: nothing is checked but its form.
    ///
    /// # Errors
    /// [`ListError::Authority`].
    pub fn from_der(certificate: &[u8]) -> Result<Self, ListError> {
        if certificate.len() > MAX_CERTIFICATE {
            return Err(ListError::Authority);
        }
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| ListError::Authority)?;
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            key: point(certificate.public_key()).ok_or(ListError::Authority)?,
        })
    }

    /// Reads a list of this authority, DER.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn read(&self, der: &[u8]) -> Result<RevocationList, ListError> {
        if der.len() > MAX_CRL {
            return Err(ListError::TooLarge(der.len()));
        }
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| ListError::Unreadable)?;
        if !rest.is_empty() {
            return Err(ListError::Unreadable);
        }
        if list.issuer().as_raw() != self.subject {
            return Err(ListError::OtherAuthority);
        }
        self.check_signature(&list)?;
        let seconds = |time: i64, field| u64::try_from(time).map_err(|_| ListError::Field(field));
        let next = list.next_update().ok_or(ListError::Field("nextUpdate"))?;
        let read = RevocationList {
            number: number(&list).ok_or(ListError::Field("number"))?,
            this_update: seconds(list.last_update().timestamp(), "thisUpdate")?,
            next_update: seconds(next.timestamp(), "nextUpdate")?,
            der: der.to_vec(),
        };
        if read.next_update <= read.this_update {
            return Err(ListError::Field("nextUpdate"));
        }
        Ok(read)
    }

    fn check_signature(&self, list: &CertificateRevocationList<'_>) -> Result<(), ListError> {
        // RFC 5280 §5.1.1.2: the name outside, which is not signed, must be the one inside.
        if list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(ListError::Signature);
        }
        webpki::aws_lc_rs::ECDSA_P256_SHA256
            .verify_signature(
                &self.key,
                list.tbs_cert_list.as_ref(),
                list.signature_value.as_ref(),
            )
            .map_err(|_| ListError::Signature)
    }
}

impl RevocationList {
    /// When half of its life is over: seconds since 1970 (UTC).
    #[must_use]
    pub fn half_life(&self) -> u64 {
        self.this_update + (self.next_update - self.this_update) / 2
    }
}

fn point(key: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    let point = key.subject_public_key.as_ref();
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

fn number(list: &CertificateRevocationList<'_>) -> Option<u64> {
    u64::try_from(list.crl_number()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls_pki_types::{pem::PemObject, CertificateDer};

    use super::*;
    use crate::node::{NodeAuthority, RevokedSerial};

    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(authority: &NodeAuthority) -> Vec<u8> {
        CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())
            .unwrap()
            .to_vec()
    }

    #[test]
    fn a_list_says_its_number_and_its_times() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let known = ListAuthority::from_der(&certificate(&authority)).unwrap();
        let revoked = [RevokedSerial {
            serial: "4a01".into(),
            revoked_at: 1_700_000_000,
        }];
        let der = authority.crl(513, &revoked, DAY).unwrap();
        let list = known.read(&der).unwrap();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert_eq!((list.number, list.der.as_slice()), (513, der.as_slice()));
        assert!(now - list.this_update < 60);
        assert_eq!(list.next_update - list.this_update, 86_400);
        assert_eq!(list.half_life() - list.this_update, 43_200);
    }

    #[test]
    fn what_is_not_the_authoritys_list_is_refused() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let known = ListAuthority::from_der(&certificate(&authority)).unwrap();
        let good = authority.crl(1, &[], DAY).unwrap();
        let namesake = NodeAuthority::generate("nodes").unwrap();
        let stranger = NodeAuthority::generate("strangers").unwrap();
        let cases = [
            (namesake.crl(1, &[], DAY).unwrap(), ListError::Signature),
            (
                stranger.crl(1, &[], DAY).unwrap(),
                ListError::OtherAuthority,
            ),
            ([good.as_slice(), &[0]].concat(), ListError::Unreadable),
            (good[..good.len() - 1].to_vec(), ListError::Unreadable),
            (Vec::new(), ListError::Unreadable),
            (certificate(&authority), ListError::Unreadable),
            (vec![0; MAX_CRL + 1], ListError::TooLarge(MAX_CRL + 1)),
            (
                authority.crl(1, &[], Duration::from_nanos(1)).unwrap(),
                ListError::Field("nextUpdate"),
            ),
        ];
        for (der, expected) in cases {
            assert_eq!(known.read(&der).unwrap_err(), expected);
        }
        assert_eq!(
            ListAuthority::from_der(&good).unwrap_err(),
            ListError::Authority
        );
    }

    #[test]
    fn no_bit_of_a_list_can_be_changed() {
        let authority = NodeAuthority::generate("nodes").unwrap();
        let known = ListAuthority::from_der(&certificate(&authority)).unwrap();
        let good = authority.crl(1, &[], DAY).unwrap();
        let read = known.read(&good).unwrap();
        // The algorithm's name for the second time, outside of what is signed.
        const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let outside = good
            .windows(8)
            .rposition(|part| part == ECDSA_WITH_SHA256)
            .unwrap();
        for bit in 0..good.len() * 8 {
            let mut changed = good.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // Tags outside of it are read with some lenience, and say nothing.
            if let Ok(lenient) = known.read(&changed) {
                assert!(!(outside..outside + 8).contains(&(bit / 8)), "bit {bit}");
                let same = RevocationList {
                    der: good.clone(),
                    ..lenient
                };
                assert_eq!(same, read, "bit {bit}");
            }
        }
    }
}
