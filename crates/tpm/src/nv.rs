//! NV indices.

use tss_esapi::{
    abstraction::nv,
    attributes::NvIndexAttributesBuilder,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
    },
    structures::{MaxNvBuffer, NvPublicBuilder},
};

use crate::{scope, Tpm, TpmError};

/// Bytes written with one command: below every TPM's `TPM2_MAX_NV_BUFFER_SIZE`.
const WRITE_CHUNK: usize = 512;

impl Tpm {
    /// Makes an NV index of the owner's that the owner may read and write.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when it exists or there is no room.
    pub fn nv_define(&mut self, index: u32, size: u16) -> Result<(), TpmError> {
        let attributes = NvIndexAttributesBuilder::new()
            .with_owner_write(true)
            .with_owner_read(true)
            .with_no_da(true)
            .build()?;
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_data_area_size(size.into())
            .build()?;
        scope::with_empty_auth(&mut self.context, |context| {
            context.nv_define_space(Provision::Owner, None, public)?;
            Ok(())
        })
    }

    /// Writes an index from its start.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when it is not there or too small.
    pub fn nv_write(&mut self, index: u32, bytes: &[u8]) -> Result<(), TpmError> {
        let handle = self.nv_handle(index)?;
        let mut offset = 0;
        for chunk in bytes.chunks(WRITE_CHUNK) {
            let buffer = MaxNvBuffer::try_from(chunk.to_vec())?;
            scope::with_empty_auth(&mut self.context, |context| {
                Ok(context.nv_write(NvAuth::Owner, handle, buffer, offset)?)
            })?;
            offset += chunk.len() as u16;
        }
        Ok(())
    }

    /// Reads a whole index with the owner's authorization.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when it is not there or was never written.
    pub fn nv_read(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        self.nv_read_all(NvIndexTpmHandle::new(index)?)
    }

    /// Removes an index of the owner's.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn nv_undefine(&mut self, index: u32) -> Result<(), TpmError> {
        let handle = self.nv_handle(index)?;
        scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.nv_undefine_space(Provision::Owner, handle)?)
        })
    }

    pub(crate) fn nv_read_all(&mut self, index: NvIndexTpmHandle) -> Result<Vec<u8>, TpmError> {
        scope::with_empty_auth(&mut self.context, |context| {
            Ok(nv::read_full(context, NvAuth::Owner, index)?)
        })
    }

    fn nv_handle(&mut self, index: u32) -> Result<NvIndexHandle, TpmError> {
        let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
        let object = self
            .context
            .execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        Ok(object.into())
    }
}
