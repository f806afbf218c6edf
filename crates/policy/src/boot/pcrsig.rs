//! Values of PCR 11 that a key signed: what systemd-measure writes and systemd-stub carries in `.pcrsig`.

use aws_lc_rs::signature::{UnparsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::{engine::general_purpose::STANDARD, Engine};
use sha2::{Digest, Sha256};
use x509_cert::{
    der::{DecodePem, Encode},
    spki::SubjectPublicKeyInfoOwned,
};

use super::document::{PcrSignature, SignedRule};

const PCR: u8 = 11;
const BANK: &str = "sha256";

/// The policy digest after one `TPM2_PolicyPCR` over PCR 11 of the SHA-256 bank (TPM 2.0 Part 3 §23.7): over the
/// empty policy, the command's code, the selection and the digest of the value.
pub(super) fn policy_digest(pcr11: &[u8; 32]) -> [u8; 32] {
    const TPM_CC_POLICY_PCR: u32 = 0x0000_017f;
    // TPML_PCR_SELECTION: one selection, SHA-256, three bytes, bit 11.
    const SELECTION: [u8; 10] = [0, 0, 0, 1, 0x00, 0x0b, 3, 0, 0x08, 0];
    Sha256::new()
        .chain_update([0; 32])
        .chain_update(TPM_CC_POLICY_PCR.to_be_bytes())
        .chain_update(SELECTION)
        .chain_update(Sha256::digest(pcr11))
        .finalize()
        .into()
}

/// The key in DER form, or what is wrong with it.
pub(super) fn key(pem: &str) -> Result<Vec<u8>, String> {
    SubjectPublicKeyInfoOwned::from_pem(pem)
        .and_then(|key| key.to_der())
        .map_err(|error| format!("not a public key in PEM form: {error}"))
}

/// Whether one of the keys signed this value of PCR 11.
pub(super) fn is_signed(rule: &SignedRule, pcr11: &[u8; 32]) -> bool {
    let policy = policy_digest(pcr11);
    let keys: Vec<Vec<u8>> = rule.keys.iter().filter_map(|pem| key(pem).ok()).collect();
    let documents = rule.signatures.iter();
    documents
        .filter_map(|document| document.get(BANK))
        .flatten()
        .filter(|signature| signature.pcrs == [PCR] && signature.pol.0 == policy)
        .any(|signature| keys.iter().any(|key| verifies(key, signature, &policy)))
}

fn verifies(key: &[u8], signature: &PcrSignature, policy: &[u8; 32]) -> bool {
    STANDARD.decode(&signature.sig).is_ok_and(|bytes| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(policy, &bytes)
            .is_ok()
    })
}
