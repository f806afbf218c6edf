//! PCRs of the SHA-256 bank.

use tss_esapi::{
    handles::PcrHandle,
    interface_types::algorithm::HashingAlgorithm,
    structures::{Digest, DigestValues, PcrSelectionList, PcrSelectionListBuilder, PcrSlot},
};

use crate::{scope, Tpm, TpmError};

/// A selection of the SHA-256 bank.
pub(crate) fn selection(pcrs: &[u8]) -> Result<PcrSelectionList, TpmError> {
    let ascending = pcrs.windows(2).all(|pair| pair[0] < pair[1]);
    if pcrs.is_empty() || !ascending || pcrs.iter().any(|&pcr| pcr > 23) {
        return Err(TpmError::PcrSelection);
    }
    let slots = pcrs
        .iter()
        .map(|&pcr| PcrSlot::try_from(1u32 << pcr))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(PcrSelectionListBuilder::new()
        .with_selection(HashingAlgorithm::Sha256, &slots)
        .build()?)
}

impl Tpm {
    /// Values of some PCRs, ascending, and the TPM's update counter when they were read.
    ///
    /// # Errors
    /// [`TpmError::PcrSelection`], [`TpmError::NoSha256Bank`], [`TpmError::Tss`].
    pub fn pcr_read(&mut self, pcrs: &[u8]) -> Result<Vec<(u8, [u8; 32])>, TpmError> {
        selection(pcrs)?;
        let mut values = Vec::with_capacity(pcrs.len());
        // One command gives at most eight digests (TPM 2.0 Part 2 §10.9.7).
        for some in pcrs.chunks(8) {
            let wanted = selection(some)?;
            let (_, _, digests) = self
                .context
                .execute_without_session(|context| context.pcr_read(wanted))?;
            if digests.len() != some.len() {
                return Err(TpmError::NoSha256Bank);
            }
            for (&index, digest) in some.iter().zip(digests.value()) {
                let value = digest.value().try_into();
                values.push((index, value.map_err(|_| TpmError::NoSha256Bank)?));
            }
        }
        Ok(values)
    }

    /// Extends one PCR of the SHA-256 bank.
    ///
    /// # Errors
    /// [`TpmError::PcrSelection`] above 23, [`TpmError::Tss`].
    pub fn pcr_extend(&mut self, pcr: u8, digest: &[u8; 32]) -> Result<(), TpmError> {
        if pcr > 23 {
            return Err(TpmError::PcrSelection);
        }
        // PCR handles are the PCRs' numbers (TPM 2.0 Part 2 §7.2).
        let handle = PcrHandle::try_from(u32::from(pcr))?;
        let mut digests = DigestValues::new();
        digests.set(HashingAlgorithm::Sha256, Digest::try_from(digest.to_vec())?);
        scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.pcr_extend(handle, digests)?)
        })
    }
}
