//! Authorities: public keys in the TPM's form.

use bootkeep_tpkd::Authority;
use x509_cert::{
    der::{asn1::ObjectIdentifier, referenced::OwnedToRef, DecodePem},
    spki::SubjectPublicKeyInfoOwned,
};

use crate::{
    tpm_format::{
        Writer, TPM_ALG_ECC, TPM_ALG_NULL, TPM_ALG_RSA, TPM_ALG_SHA256, TPM_ECC_NIST_P256,
    },
    AuthorizeError,
};

// RFC 5480 §2.1.1, RFC 8017 appendix C.
const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// userWithAuth, sign (TPM 2.0 Part 2 §8.3): a key loaded only to verify with.
const ATTRIBUTES: u32 = 1 << 6 | 1 << 18;

/// The authority of a P-256 key given as its uncompressed point without the leading 4: x and y, 32 bytes each.
#[must_use]
pub fn p256_authority(x: &[u8; 32], y: &[u8; 32], policy_ref: &[u8]) -> Authority {
    let public = Writer::default()
        .u16(TPM_ALG_ECC)
        .u16(TPM_ALG_SHA256)
        .u32(ATTRIBUTES)
        .sized(&[])
        .u16(TPM_ALG_NULL)
        .u16(TPM_ALG_NULL)
        .u16(TPM_ECC_NIST_P256)
        .u16(TPM_ALG_NULL)
        .sized(x)
        .sized(y)
        .done();
    Authority {
        public,
        policy_ref: policy_ref.to_vec(),
    }
}

/// The authority of an RSA key with the exponent 65537; `modulus` without leading zeros, 256, 384 or 512 bytes.
///
/// # Errors
/// [`AuthorizeError::Key`] for another length.
pub fn rsa_authority(modulus: &[u8], policy_ref: &[u8]) -> Result<Authority, AuthorizeError> {
    if ![256, 384, 512].contains(&modulus.len()) {
        return Err(AuthorizeError::Key("RSA key of 2048, 3072 or 4096 bits"));
    }
    let public = Writer::default()
        .u16(TPM_ALG_RSA)
        .u16(TPM_ALG_SHA256)
        .u32(ATTRIBUTES)
        .sized(&[])
        .u16(TPM_ALG_NULL)
        .u16(TPM_ALG_NULL)
        .u16((modulus.len() * 8) as u16)
        // Zero stands for 65537.
        .u32(0)
        .sized(modulus)
        .done();
    Ok(Authority {
        public,
        policy_ref: policy_ref.to_vec(),
    })
}

/// The authority of a public key in PEM (`SubjectPublicKeyInfo`): P-256, or RSA with the exponent 65537.
///
/// # Errors
/// [`AuthorizeError::Key`].
pub fn public_from_pem(pem: &str, policy_ref: &[u8]) -> Result<Authority, AuthorizeError> {
    let bad = || AuthorizeError::Key("public key");
    let key = SubjectPublicKeyInfoOwned::from_pem(pem).map_err(|_| bad())?;
    let spki = key.owned_to_ref();
    let bits = spki.subject_public_key.as_bytes().ok_or_else(bad)?;
    match spki.algorithm.oid {
        ID_EC_PUBLIC_KEY if spki.algorithm.parameters_oid() == Ok(SECP256R1) => {
            let point: &[u8; 65] = bits.try_into().map_err(|_| bad())?;
            let (Some(x), Some(y)) = (part(point, 1), part(point, 33)) else {
                return Err(bad());
            };
            (point[0] == 4)
                .then(|| p256_authority(x, y, policy_ref))
                .ok_or_else(bad)
        }
        RSA_ENCRYPTION => rsa_authority(rsa_modulus(bits).ok_or_else(bad)?, policy_ref),
        _ => Err(bad()),
    }
}

/// The authority as messages carry it.
#[must_use]
pub fn to_wire(authority: &Authority) -> bootkeep_protocol::kept::Authority {
    bootkeep_protocol::kept::Authority {
        public: authority.public.as_slice().into(),
        policy_ref: authority.policy_ref.as_slice().into(),
    }
}

/// An authority out of a message.
#[must_use]
pub fn from_wire(authority: &bootkeep_protocol::kept::Authority) -> Authority {
    Authority {
        public: authority.public.as_slice().to_vec(),
        policy_ref: authority.policy_ref.as_slice().to_vec(),
    }
}

fn part(point: &[u8; 65], from: usize) -> Option<&[u8; 32]> {
    point.get(from..from + 32)?.try_into().ok()
}

/// The modulus of an `RSAPublicKey` whose exponent is 65537.
fn rsa_modulus(der: &[u8]) -> Option<&[u8]> {
    use x509_cert::der::{asn1::UintRef, Decode, Reader, SliceReader};
    let mut reader = SliceReader::new(der).ok()?;
    let numbers = reader
        .sequence(|inner| Ok((UintRef::decode(inner)?, UintRef::decode(inner)?)))
        .ok()?;
    let (modulus, exponent) = numbers;
    (exponent.as_bytes() == [1, 0, 1]).then_some(modulus.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_sign_pcr_policies_are_refused() {
        for bad in [
            "",
            "x",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            assert!(public_from_pem(bad, &[]).is_err(), "{bad}");
        }
        assert!(rsa_authority(&[1; 128], &[]).is_err());
    }
}
