//! SRK and AK: persistent keys of the owner's hierarchy.

use tss_esapi::{
    handles::KeyHandle, interface_types::resource_handles::Hierarchy, structures::Public,
    traits::Marshall,
};

use crate::{scope, template, Tpm, TpmError};

/// TCG TPM v2.0 Provisioning Guidance §7.8: the SRK's place.
const SRK_HANDLE: u32 = 0x8100_0001;

/// What kind of key the AK is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AkKind {
    /// ECDSA on NIST P-256 with SHA-256.
    #[default]
    EccP256,
    /// RSASSA-PKCS1-v1_5, 2048 bits, with SHA-256.
    Rsa2048,
}

impl AkKind {
    /// Its place, in the part of the owner's range that is free for use.
    fn handle(self) -> u32 {
        match self {
            Self::EccP256 => 0x8100_b007,
            Self::Rsa2048 => 0x8100_b008,
        }
    }
}

/// The public half of the AK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ak {
    /// Marshalled `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// Contents of its `TPM2B_NAME`.
    pub name: Vec<u8>,
}

impl Tpm {
    /// The SRK, made and made persistent when it is missing. A storage key that others put there is used as it is.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ensure_srk(&mut self) -> Result<(), TpmError> {
        self.srk().map(drop)
    }

    /// Says what kind of AK every call from now on uses; P-256 when this is never called.
    pub fn use_ak(&mut self, kind: AkKind) {
        self.ak_kind = kind;
    }

    /// The AK, made and made persistent when it is missing.
    ///
    /// # Errors
    /// [`TpmError::ForeignKey`] when its handle holds something else; [`TpmError::Tss`].
    pub fn ensure_ak(&mut self) -> Result<Ak, TpmError> {
        let key = match self.persistent(self.ak_kind.handle())? {
            Some(key) => key,
            None => self.make_ak()?,
        };
        let (public, name) = self.read_public(key)?;
        if !template::made_by(&public, &template::ak(self.ak_kind)?)? {
            return Err(TpmError::ForeignKey {
                handle: self.ak_kind.handle(),
            });
        }
        self.checked_ak = Some((self.ak_kind, key));
        Ok(Ak {
            public: public.marshall()?,
            name,
        })
    }

    /// The handle of the AK, known to be ours.
    pub(crate) fn ak(&mut self) -> Result<KeyHandle, TpmError> {
        match self.checked_ak {
            Some((kind, key)) if kind == self.ak_kind => Ok(key),
            _ => {
                self.ensure_ak()?;
                self.persistent(self.ak_kind.handle())?
                    .ok_or(TpmError::Unexpected("no AK after making one"))
            }
        }
    }

    pub(crate) fn srk(&mut self) -> Result<KeyHandle, TpmError> {
        if let Some(key) = self.persistent(SRK_HANDLE)? {
            return Ok(key);
        }
        let template = template::srk()?;
        let made = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.create_primary(Hierarchy::Owner, template, None, None, None, None)?)
        })?;
        self.persist_and_flush(made.key_handle, SRK_HANDLE)
    }

    fn make_ak(&mut self) -> Result<KeyHandle, TpmError> {
        let srk = self.srk()?;
        let template = template::ak(self.ak_kind)?;
        let loaded = scope::with_empty_auth(&mut self.context, |context| {
            let made = context.create(srk, template, None, None, None, None)?;
            Ok(context.load(srk, made.out_private, made.out_public)?)
        })?;
        let key = self.persist_and_flush(loaded, self.ak_kind.handle())?;
        tracing::info!(handle = self.ak_kind.handle(), kind = ?self.ak_kind, "AK made");
        Ok(key)
    }

    fn persist_and_flush(&mut self, key: KeyHandle, handle: u32) -> Result<KeyHandle, TpmError> {
        let kept = self.persist(key, handle);
        let flushed = self.context.flush_context(key.into());
        let kept = kept?;
        flushed?;
        Ok(kept)
    }

    pub(crate) fn read_public(&mut self, key: KeyHandle) -> Result<(Public, Vec<u8>), TpmError> {
        let (public, name, _) = self
            .context
            .execute_without_session(|context| context.read_public(key))?;
        Ok((public, name.value().to_vec()))
    }
}
