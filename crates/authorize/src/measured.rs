//! Signatures of PCR 11 as systemd-measure writes them and systemd-stub carries them in `.pcrsig`.

use std::collections::BTreeMap;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_protocol::{
    kept::{SignedPcrPolicy, MAX_PCR_POLICIES},
    limits::MAX_PCR_SIGNATURES,
};
use serde::Deserialize;

use crate::{tpm_format::rsa_signature, AuthorizeError};

/// One signature; `pkfp` and whatever later versions add are not needed.
#[derive(Deserialize)]
struct Entry {
    pcrs: Vec<u8>,
    pol: String,
    sig: String,
}

/// The PCR policies of the SHA-256 bank in a `.pcrsig` document. Nothing is verified here: the TPM does it.
///
/// # Errors
/// [`AuthorizeError::PcrSignatures`].
pub fn from_pcr_signatures(document: &[u8]) -> Result<Vec<SignedPcrPolicy>, AuthorizeError> {
    let bad = |text: String| AuthorizeError::PcrSignatures(text);
    if document.len() > MAX_PCR_SIGNATURES {
        return Err(bad(format!("over {MAX_PCR_SIGNATURES} bytes")));
    }
    // Debian's systemd pads the section with zeros.
    let end = document.iter().rposition(|&byte| byte != 0);
    let text = document
        .get(..end.map_or(0, |last| last + 1))
        .unwrap_or_default();
    let banks: BTreeMap<String, Vec<Entry>> =
        serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    let entries = banks.get("sha256").map_or(&[][..], Vec::as_slice);
    if entries.len() > MAX_PCR_POLICIES {
        return Err(bad(format!("over {MAX_PCR_POLICIES} signatures")));
    }
    entries
        .iter()
        .map(|entry| {
            let policy = hex::decode(&entry.pol).map_err(|error| bad(error.to_string()))?;
            let signature = STANDARD
                .decode(&entry.sig)
                .map_err(|error| bad(error.to_string()))?;
            Ok(SignedPcrPolicy {
                pcrs: entry.pcrs.clone(),
                policy: policy.into(),
                signature: rsa_signature(&signature).into(),
            })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Made by `systemd-measure sign` of systemd 252.
    const DOCUMENT: &[u8] = include_bytes!("../../policy/tests/data/uki/pcrsig.json");

    #[test]
    fn systemds_document_is_read() {
        let policies = from_pcr_signatures(DOCUMENT).unwrap();
        assert!(!policies.is_empty());
        for policy in &policies {
            assert_eq!(policy.pcrs, [11]);
            assert_eq!(policy.policy.0.len(), 32);
            assert_eq!(policy.signature.0[..6], [0, 0x14, 0, 0x0b, 1, 0]);
        }
        let padded = [DOCUMENT, &[0; 100]].concat();
        assert_eq!(from_pcr_signatures(&padded).unwrap(), policies);
    }

    #[test]
    fn other_documents_are_refused() {
        for bad in [
            &b""[..],
            b"[]",
            b"{\"sha256\":[{}]}",
            b"{\"sha256\":[{\"pcrs\":[11],\"pol\":\"zz\",\"sig\":\"\"}]}",
        ] {
            assert!(from_pcr_signatures(bad).is_err());
        }
        assert!(from_pcr_signatures(&vec![b' '; MAX_PCR_SIGNATURES + 1]).is_err());
        assert!(from_pcr_signatures(b"{\"sha1\":[]}").unwrap().is_empty());
    }
}
