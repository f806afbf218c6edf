//! Values of PCR 11 that a key signed: what systemd-measure writes and systemd-stub carries in `.pcrsig`.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{UnparsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::{engine::general_purpose::STANDARD, Engine};
use bootkeep_protocol::limits::MAX_PCR_SIGNATURES;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use x509_cert::{
    der::{DecodePem, Encode},
    spki::SubjectPublicKeyInfoOwned,
};

use super::document::{PcrSignature, SignedRule};
use crate::digest::Digest32;

const PCR: u8 = 11;
/// Signatures of one value that are tried: a verification costs time, and the node chooses how many there are.
const MAX_TRIED: usize = 64;
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

/// Whether one of the keys signed this value of PCR 11. The keys are the policy's alone; a signature may come from
/// anywhere, also from the node: it proves itself.
pub(super) fn is_signed(rule: &SignedRule, from_node: Option<&[u8]>, pcr11: &[u8; 32]) -> bool {
    let policy = policy_digest(pcr11);
    let keys: Vec<Vec<u8>> = rule.keys.iter().filter_map(|pem| key(pem).ok()).collect();
    let given = from_node.map_or_else(Vec::new, read);
    let listed = rule
        .signatures
        .iter()
        .filter_map(|document| document.get(BANK));
    listed
        .flatten()
        .chain(&given)
        .filter(|signature| signature.pcrs == [PCR] && signature.pol.0 == policy)
        .take(MAX_TRIED)
        .any(|signature| keys.iter().any(|key| verifies(key, signature, &policy)))
}

/// A signature in a document of any systemd: members that later versions add are passed over.
#[derive(Deserialize)]
struct Entry {
    pcrs: Vec<u8>,
    pol: Digest32,
    sig: String,
}

/// The signatures for the SHA-256 bank in what the node sent; none when it cannot be read.
fn read(document: &[u8]) -> Vec<PcrSignature> {
    // Debian's systemd-stub hands over the whole section, which ends in zeros.
    let end = document.iter().rposition(|&byte| byte != 0);
    let text = document.get(..end.map_or(0, |last| last + 1));
    let text = text.filter(|text| text.len() <= MAX_PCR_SIGNATURES);
    let banks: BTreeMap<String, Vec<Entry>> = text
        .and_then(|text| serde_json::from_slice(text).ok())
        .unwrap_or_default();
    let entries = banks.into_iter().find(|(bank, _)| bank == BANK);
    let signatures = entries.into_iter().flat_map(|(_, entries)| entries);
    signatures
        .map(|Entry { pcrs, pol, sig }| PcrSignature {
            pcrs,
            pkfp: String::new(),
            pol,
            sig,
        })
        .collect()
}

fn verifies(key: &[u8], signature: &PcrSignature, policy: &[u8; 32]) -> bool {
    STANDARD.decode(&signature.sig).is_ok_and(|bytes| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(policy, &bytes)
            .is_ok()
    })
}
