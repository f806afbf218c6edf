//! The outer wrap of the secret: encrypted and authenticated under the seed, bound to the AK's name
//! (TPM 2.0 Part 1 §24.4 and §24.5).

use aws_lc_rs::{
    cipher::{EncryptingKey, EncryptionContext, UnboundCipherKey, AES_128},
    hmac,
    iv::FixedLength,
};

use crate::{kdf::kdf_a, CredentialError, DIGEST_LEN};

/// Contents of `TPM2B_ID_OBJECT`: `TPM2B_DIGEST` with the HMAC, then the encrypted `TPM2B_DIGEST` with the secret.
pub(crate) fn protect(
    seed: &[u8],
    ak_name: &[u8],
    secret: &[u8],
) -> Result<Vec<u8>, CredentialError> {
    let identity = encrypt(seed, ak_name, tpm2b(secret))?;
    let key = kdf_a::<DIGEST_LEN>(seed, "INTEGRITY", &[]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
    let mut mac = hmac::Context::with_key(&key);
    mac.update(&identity);
    mac.update(ak_name);
    Ok([tpm2b(mac.sign().as_ref()), identity].concat())
}

/// AES-128-CFB, the symmetric cipher of the default EK templates, in place. The vector is zero as Part 1 §24.4 has it:
/// the key is used once.
fn encrypt(seed: &[u8], ak_name: &[u8], mut bytes: Vec<u8>) -> Result<Vec<u8>, CredentialError> {
    let key = kdf_a::<16>(seed, "STORAGE", ak_name);
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key.as_slice())?)?;
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut bytes, zero)?;
    Ok(bytes)
}

/// `bytes` after their length. What is put in here is at most 32 bytes long.
pub(crate) fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    [&length.to_be_bytes(), bytes].concat()
}
