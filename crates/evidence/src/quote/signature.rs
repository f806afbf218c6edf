//! `TPMT_SIGNATURE` (TPM 2.0 Part 2 §11.3.4).

use aws_lc_rs::signature::{
    RsaPublicKeyComponents, UnparsedPublicKey, ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256,
};

use super::{QuoteError, ALG_SHA256};
use crate::{
    key::{left_padded, AkPublic, AkScheme, KeyMaterial},
    reader::Reader,
};

const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;

/// A signature taken apart.
enum Parts<'a> {
    Ecdsa { r: &'a [u8], s: &'a [u8] },
    Rsa(&'a [u8]),
}

/// Checks that `signature` is by `ak`, in the AK's own scheme with SHA-256, over `message`.
pub(super) fn verify(ak: &AkPublic, message: &[u8], signature: &[u8]) -> Result<(), QuoteError> {
    let good = match (parse(ak.scheme(), signature)?, ak.material()) {
        (Parts::Ecdsa { r, s }, KeyMaterial::P256 { .. }) => ecdsa(ak, message, r, s),
        (Parts::Rsa(bytes), KeyMaterial::Rsa { modulus, exponent }) => {
            rsa(ak.scheme(), modulus, *exponent, message, bytes)
        }
        _ => false,
    };
    good.then_some(()).ok_or(QuoteError::Signature)
}

fn parse(scheme: AkScheme, signature: &[u8]) -> Result<Parts<'_>, QuoteError> {
    let mut reader = Reader::new(signature);
    let form = |_| QuoteError::SignatureForm("cut short");
    let algorithm = reader.u16_be().map_err(form)?;
    let hash = reader.u16_be().map_err(form)?;
    if algorithm != algorithm_of(scheme) || hash != ALG_SHA256 {
        return Err(QuoteError::SignatureForm("not the AK's scheme"));
    }
    let first = reader.tpm2b().map_err(form)?;
    let parts = match scheme {
        AkScheme::Ecdsa => Parts::Ecdsa {
            r: first,
            s: reader.tpm2b().map_err(form)?,
        },
        AkScheme::RsaSsa | AkScheme::RsaPss => Parts::Rsa(first),
    };
    if reader.is_empty() {
        Ok(parts)
    } else {
        Err(QuoteError::SignatureForm("bytes too many"))
    }
}

fn algorithm_of(scheme: AkScheme) -> u16 {
    match scheme {
        AkScheme::RsaSsa => ALG_RSASSA,
        AkScheme::RsaPss => ALG_RSAPSS,
        AkScheme::Ecdsa => ALG_ECDSA,
    }
}

fn rsa(scheme: AkScheme, modulus: &[u8], exponent: u32, message: &[u8], signature: &[u8]) -> bool {
    let exponent = exponent.to_be_bytes().into_iter();
    let exponent: Vec<u8> = exponent.skip_while(|&byte| byte == 0).collect();
    let key = RsaPublicKeyComponents {
        n: modulus,
        e: exponent.as_slice(),
    };
    let parameters = match scheme {
        AkScheme::RsaPss => &RSA_PSS_2048_8192_SHA256,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    };
    key.verify(parameters, message, signature).is_ok()
}

fn ecdsa(ak: &AkPublic, message: &[u8], r: &[u8], s: &[u8]) -> bool {
    let (Some(point), Some(r), Some(s)) =
        (ak.material().p256_point(), left_padded(r), left_padded(s))
    else {
        return false;
    };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(message, &[r, s].concat())
        .is_ok()
}
