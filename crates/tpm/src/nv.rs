//! NV indices.

use tss_esapi::{
    attributes::NvIndexAttributesBuilder,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
    },
    structures::{Digest, MaxNvBuffer, NvPublicBuilder},
    Context,
};

use crate::{scope, Tpm, TpmError};

/// Bytes moved with one command: below every TPM's `TPM2_MAX_NV_BUFFER_SIZE`.
const CHUNK: usize = 512;

impl Tpm {
    /// Makes an NV index of the owner's that the owner may read and write.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when it exists or there is no room.
    pub fn nv_define(&mut self, index: u32, size: u16) -> Result<(), TpmError> {
        self.define(index, size, None)
    }

    /// Makes an NV index of the owner's that the owner may write and only this policy may read.
    pub(crate) fn nv_define_for(
        &mut self,
        index: u32,
        size: u16,
        policy: &[u8; 32],
    ) -> Result<(), TpmError> {
        self.define(index, size, Some(Digest::try_from(policy.as_slice())?))
    }

    fn define(&mut self, index: u32, size: u16, policy: Option<Digest>) -> Result<(), TpmError> {
        let attributes = NvIndexAttributesBuilder::new()
            .with_owner_write(true)
            .with_owner_read(policy.is_none())
            .with_policy_read(policy.is_some())
            .with_no_da(true)
            .build()?;
        let public = NvPublicBuilder::new()
            .with_nv_index(NvIndexTpmHandle::new(index)?)
            .with_index_name_algorithm(HashingAlgorithm::Sha256)
            .with_index_attributes(attributes)
            .with_index_auth_policy(policy.unwrap_or_default())
            .with_data_area_size(size.into())
            .build()?;
        let defined = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.nv_define_space(Provision::Owner, None, public)?)
        })?;
        self.context.tr_close(&mut defined.into())?;
        Ok(())
    }

    /// Writes an index from its start.
    ///
    /// # Errors
    /// [`TpmError::NvAbsent`], [`TpmError::Tss`] when it is too small.
    pub fn nv_write(&mut self, index: u32, bytes: &[u8]) -> Result<(), TpmError> {
        self.with_nv(index, |context, handle| {
            let mut offset = 0;
            for chunk in bytes.chunks(CHUNK) {
                let buffer = MaxNvBuffer::try_from(chunk.to_vec())?;
                context.nv_write(NvAuth::Owner, handle, buffer, offset)?;
                offset += chunk.len() as u16;
            }
            Ok(())
        })
    }

    /// Reads a whole index, with its own empty authorization where it allows that, else with the owner's.
    ///
    /// # Errors
    /// [`TpmError::NvAbsent`] when it is not there or was never written, [`TpmError::NvUnreadable`],
    /// [`TpmError::Tss`].
    pub fn nv_read(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        self.with_nv(index, |context, handle| {
            let (public, _) =
                context.execute_without_session(|context| context.nv_read_public(handle))?;
            let attributes = public.attributes();
            if !attributes.written() {
                return Err(TpmError::NvAbsent { index });
            }
            let authorization = match (attributes.auth_read(), attributes.owner_read()) {
                (true, _) => NvAuth::NvIndex(handle),
                (false, true) => NvAuth::Owner,
                (false, false) => return Err(TpmError::NvUnreadable { index }),
            };
            read_all(context, authorization, handle, public.data_size())
        })
    }

    /// Removes an index of the owner's.
    ///
    /// # Errors
    /// [`TpmError::NvAbsent`], [`TpmError::Tss`].
    pub fn nv_undefine(&mut self, index: u32) -> Result<(), TpmError> {
        let handle = self.nv_handle(index)?;
        scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.nv_undefine_space(Provision::Owner, handle)?)
        })
    }

    /// Runs `work`, authorized with empty passwords, on an index that is there.
    fn with_nv<T>(
        &mut self,
        index: u32,
        work: impl FnOnce(&mut Context, NvIndexHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let handle = self.nv_handle(index)?;
        let result = scope::with_empty_auth(&mut self.context, |context| work(context, handle));
        let closed = self.context.tr_close(&mut handle.into());
        let value = result?;
        closed?;
        Ok(value)
    }

    pub(crate) fn nv_handle(&mut self, index: u32) -> Result<NvIndexHandle, TpmError> {
        let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
        if !self.handle_exists(handle)? {
            return Err(TpmError::NvAbsent { index });
        }
        let object = self
            .context
            .execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        Ok(object.into())
    }
}

fn read_all(
    context: &mut Context,
    authorization: NvAuth,
    handle: NvIndexHandle,
    size: usize,
) -> Result<Vec<u8>, TpmError> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        // An index holds less than 64 KiB (TPM 2.0 Part 2 §13.6), so neither number is cut.
        let (offset, most) = (bytes.len() as u16, CHUNK.min(size - bytes.len()) as u16);
        let some = context.nv_read(authorization, handle, most, offset)?;
        if some.value().is_empty() {
            return Err(TpmError::Unexpected("no bytes of an NV index"));
        }
        bytes.extend_from_slice(some.value());
    }
    Ok(bytes)
}
