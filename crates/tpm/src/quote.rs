//! TPM2_Quote by the AK.

use tss_esapi::{
    structures::{AttestInfo, Data, SignatureScheme},
    traits::Marshall,
};

use crate::{pcr, scope, Tpm, TpmError};

/// How often a quote is tried when PCRs change between the quote and the reading of their values.
const ATTEMPTS: usize = 8;

/// A quote as the TPM made it, with the values it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmQuote {
    /// Marshalled `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// Values of the SHA-256 bank, ascending.
    pub pcrs: Vec<(u8, [u8; 32])>,
}

impl Tpm {
    /// Quotes PCRs of the SHA-256 bank with the AK. Values that do not fit the quote are read again with a new quote:
    /// IMA may extend PCR 10 at any moment.
    ///
    /// # Errors
    /// [`TpmError::PcrSelection`], [`TpmError::PcrsBusy`], [`TpmError::Tss`].
    pub fn quote(&mut self, qualifying: &[u8], pcrs: &[u8]) -> Result<TpmQuote, TpmError> {
        let qualifying = Data::try_from(qualifying.to_vec())?;
        let ak = self.ak()?;
        for _ in 0..ATTEMPTS {
            let wanted = pcr::selection(pcrs)?;
            let question = qualifying.clone();
            let before = self.pcr_read(pcrs)?;
            let (attest, signature) = scope::with_empty_auth(&mut self.context, |context| {
                Ok(context.quote(ak, question, SignatureScheme::Null, wanted)?)
            })?;
            let AttestInfo::Quote { info } = attest.attested() else {
                return Err(TpmError::Unexpected("an attestation that is no quote"));
            };
            if info.pcr_digest().value() == digest_of(&before) {
                return Ok(TpmQuote {
                    attest: attest.marshall()?,
                    signature: signature.marshall()?,
                    pcrs: before,
                });
            }
        }
        Err(TpmError::PcrsBusy)
    }
}

fn digest_of(values: &[(u8, [u8; 32])]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (_, value) in values {
        hash.update(value);
    }
    hash.finalize().into()
}
