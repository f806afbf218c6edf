//! The endorsement key and its certificate.

use tss_esapi::{
    abstraction::{ek, AsymmetricAlgorithmSelection},
    handles::{KeyHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{ecc::EccCurve, key_bits::RsaKeyBits, resource_handles::Hierarchy},
    structures::Public,
    traits::Marshall,
    Context,
};

use crate::{scope, Tpm, TpmError};

/// Which of the TCG default templates (EK Credential Profile §B.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EkKind {
    /// NIST P-256.
    EccP256,
    /// RSA-2048.
    Rsa2048,
}

impl EkKind {
    /// NV index of its certificate (EK Credential Profile §2.2.1.4).
    fn certificate_index(self) -> u32 {
        match self {
            Self::EccP256 => 0x01c0_000a,
            Self::Rsa2048 => 0x01c0_0002,
        }
    }

    fn selection(self) -> AsymmetricAlgorithmSelection {
        match self {
            Self::EccP256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            Self::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        }
    }
}

/// The public half of an EK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ek {
    /// Which template.
    pub kind: EkKind,
    /// Marshalled `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// The certificate as NV holds it: DER, perhaps with padding after it.
    pub certificate: Option<Vec<u8>>,
}

pub(crate) fn marshalled(public: &Public) -> Result<Vec<u8>, TpmError> {
    Ok(public.marshall()?)
}

impl Tpm {
    /// The EK this project uses for this TPM: P-256 when its certificate is there (it is much faster to make), else
    /// RSA-2048 when that one's is, else P-256 without a certificate.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_public(&mut self) -> Result<Ek, TpmError> {
        for kind in [EkKind::EccP256, EkKind::Rsa2048] {
            if let Some(certificate) = self.ek_certificate(kind)? {
                let mut ek = self.ek_of_kind(kind)?;
                ek.certificate = Some(certificate);
                self.ek_kind = Some(kind);
                return Ok(ek);
            }
        }
        self.ek_kind = Some(EkKind::EccP256);
        self.ek_of_kind(EkKind::EccP256)
    }

    /// The EK of one template, without its certificate.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_of_kind(&mut self, kind: EkKind) -> Result<Ek, TpmError> {
        self.with_ek(kind, |context, key| {
            let (public, _, _) =
                context.execute_without_session(|context| context.read_public(key))?;
            Ok(Ek {
                kind,
                public: marshalled(&public)?,
                certificate: None,
            })
        })
    }

    /// The certificate of one EK; `None` when the TPM has none.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_certificate(&mut self, kind: EkKind) -> Result<Option<Vec<u8>>, TpmError> {
        let index = NvIndexTpmHandle::new(kind.certificate_index())?;
        if !self.nv_exists(index)? {
            return Ok(None);
        }
        self.nv_read_all(index).map(Some)
    }

    /// Says which EK template [`Tpm::activate_credential`] uses; [`Tpm::ek_public`] sets it too.
    pub fn use_ek(&mut self, kind: EkKind) {
        self.ek_kind = Some(kind);
    }

    /// The template in use, found if need be.
    pub(crate) fn ek_in_use(&mut self) -> Result<EkKind, TpmError> {
        match self.ek_kind {
            Some(kind) => Ok(kind),
            None => self.ek_public().map(|ek| ek.kind),
        }
    }

    /// Makes the EK from its template for the length of `work`.
    pub(crate) fn with_ek<T>(
        &mut self,
        kind: EkKind,
        work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let template = ek::create_ek_public_from_default_template_2(kind.selection(), None)?;
        let made = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)?)
        })?;
        scope::with_object(&mut self.context, made.key_handle, work)
    }

    fn nv_exists(&mut self, index: NvIndexTpmHandle) -> Result<bool, TpmError> {
        self.handle_exists(TpmHandle::NvIndex(index))
    }
}
