//! Persistent objects and NV indices by their handles.

use tss_esapi::{
    constants::CapabilityType,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{dynamic_handles::Persistent, resource_handles::Provision},
    structures::CapabilityData,
};

use crate::{scope, Tpm, TpmError};

/// Handles in use, to see that none is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleCount {
    /// Transient objects.
    pub transient: usize,
    /// Loaded sessions.
    pub sessions: usize,
}

impl Tpm {
    /// Counts the transient objects and sessions that are loaded now (through a resource manager: our own).
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn count_handles(&mut self) -> Result<HandleCount, TpmError> {
        // TPM 2.0 Part 2 §7.2: handle types.
        const TRANSIENT_FIRST: u32 = 0x8000_0000;
        const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
        Ok(HandleCount {
            transient: self.handles_from(TRANSIENT_FIRST, 64)?.len(),
            sessions: self.handles_from(LOADED_SESSION_FIRST, 64)?.len(),
        })
    }

    /// The key at a persistent handle, if there is one. The library's object for it is made once and kept: making one
    /// costs a command, and the library never gives its memory back.
    pub(crate) fn persistent(&mut self, handle: u32) -> Result<Option<KeyHandle>, TpmError> {
        if let Some(&key) = self.persistent.get(&handle) {
            return Ok(Some(key));
        }
        let tpm_handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle)?);
        if !self.handle_exists(tpm_handle)? {
            return Ok(None);
        }
        let object = self
            .context
            .execute_without_session(|context| context.tr_from_tpm_public(tpm_handle))?;
        Ok(Some(self.remember(handle, object)))
    }

    /// Makes a transient key persistent.
    pub(crate) fn persist(&mut self, key: KeyHandle, handle: u32) -> Result<KeyHandle, TpmError> {
        let place = Persistent::Persistent(PersistentTpmHandle::new(handle)?);
        let object = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.evict_control(Provision::Owner, key.into(), place)?)
        })?;
        Ok(self.remember(handle, object))
    }

    fn remember(&mut self, handle: u32, object: ObjectHandle) -> KeyHandle {
        let key = KeyHandle::from(object);
        self.persistent.insert(handle, key);
        key
    }

    /// Asks the TPM for its handles rather than trying one: a failed try is an error in every log.
    pub(crate) fn handle_exists(&mut self, handle: TpmHandle) -> Result<bool, TpmError> {
        let number = u32::from(handle);
        Ok(self.handles_from(number, 1)?.first() == Some(&number))
    }

    fn handles_from(&mut self, first: u32, most: u32) -> Result<Vec<u32>, TpmError> {
        let (data, _) = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, first, most)
        })?;
        match data {
            CapabilityData::Handles(handles) => {
                Ok(handles.into_inner().into_iter().map(u32::from).collect())
            }
            _ => Err(TpmError::Unexpected("capability data of another type")),
        }
    }
}
