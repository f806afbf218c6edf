//! The seed that asker and TPM come to share through the EK (TPM 2.0 Part 1, Annex B.10.3 for RSA, C.6.3 for ECC).

use aws_lc_rs::{
    agreement::{agree_ephemeral, EphemeralPrivateKey, UnparsedPublicKey, ECDH_P256},
    rand::{self, SystemRandom},
    rsa::{OaepPublicEncryptingKey, PublicEncryptingKey, OAEP_SHA256_MGF1SHA256},
    signature::RsaPublicKeyComponents,
};
use bootkeep_evidence::{key::KeyMaterial, EkPublic};
use zeroize::Zeroizing;

use crate::{blob::tpm2b, kdf::kdf_e, CredentialError, DIGEST_LEN};

/// Seed and `TPM2B_ENCRYPTED_SECRET` contents.
type Shared = (Zeroizing<[u8; DIGEST_LEN]>, Vec<u8>);

const LABEL: &str = "IDENTITY";
/// The label as OAEP takes it: with the NUL that ends it (Annex B.4).
const OAEP_LABEL: &[u8] = b"IDENTITY\0";

/// A fresh seed, and what lets the EK's TPM find it.
pub(crate) fn share(ek: &EkPublic) -> Result<Shared, CredentialError> {
    match ek.material() {
        KeyMaterial::Rsa { modulus, exponent } => by_rsa(modulus, *exponent),
        KeyMaterial::P256 { x, y } => by_p256(x, y),
    }
}

fn by_rsa(modulus: &[u8], exponent: u32) -> Result<Shared, CredentialError> {
    let exponent = exponent.to_be_bytes().into_iter();
    let exponent: Vec<u8> = exponent.skip_while(|&byte| byte == 0).collect();
    let components = RsaPublicKeyComponents {
        n: modulus,
        e: exponent.as_slice(),
    };
    let key: PublicEncryptingKey = components
        .try_into()
        .map_err(|_| CredentialError::EkPublic)?;
    let key = OaepPublicEncryptingKey::new(key)?;
    let mut seed = Zeroizing::new([0; DIGEST_LEN]);
    rand::fill(seed.as_mut_slice())?;
    let mut out = vec![0; key.ciphertext_size()];
    let label = Some(OAEP_LABEL);
    let length = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, seed.as_slice(), &mut out, label)?
        .len();
    out.truncate(length);
    Ok((seed, out))
}

fn by_p256(x: &[u8; 32], y: &[u8; 32]) -> Result<Shared, CredentialError> {
    let ephemeral = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())?;
    let ours = ephemeral.compute_public_key()?;
    // An uncompressed point: 4, x, y.
    let (our_x, our_y) = ours
        .as_ref()
        .get(1..)
        .and_then(|point| point.split_at_checked(32))
        .ok_or(CredentialError::Crypto)?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, [&[4], &x[..], &y[..]].concat());
    // The library checks that their point is on the curve.
    let seed = agree_ephemeral(ephemeral, theirs, CredentialError::EkPublic, |shared| {
        Ok(kdf_e(shared, LABEL, our_x, x))
    })?;
    Ok((seed, [tpm2b(our_x), tpm2b(our_y)].concat()))
}
