//! The endorsement key and its certificate.

use tss_esapi::{
    handles::KeyHandle,
    interface_types::resource_handles::Hierarchy,
    structures::{EccParameter, EccPoint, Public},
    traits::Marshall,
    Context,
};

use crate::{scope, template, Tpm, TpmError};

/// Which of the TCG default templates (EK Credential Profile §B.3 and §B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EkKind {
    /// NIST P-256, template L-2.
    EccP256,
    /// NIST P-256, template H-2 of the high range: another key.
    EccP256High,
    /// RSA-2048, template L-1.
    Rsa2048,
    /// RSA-2048, template H-1 of the high range: another key.
    Rsa2048High,
}

impl EkKind {
    /// P-256 first: it is much faster to make and to use.
    const BY_PREFERENCE: [Self; 4] = [
        Self::EccP256,
        Self::EccP256High,
        Self::Rsa2048,
        Self::Rsa2048High,
    ];

    /// NV index of its certificate (EK Credential Profile §2.2.1.4, §2.2.1.5).
    fn certificate_index(self) -> u32 {
        match self {
            Self::EccP256 => 0x01c0_000a,
            Self::EccP256High => 0x01c0_0014,
            Self::Rsa2048 => 0x01c0_0002,
            Self::Rsa2048High => 0x01c0_0012,
        }
    }

    pub(crate) fn is_high(self) -> bool {
        matches!(self, Self::EccP256High | Self::Rsa2048High)
    }
}

/// Where firmware and provisioning tools keep an EK they made persistent (Provisioning Guidance §7.8).
const PERSISTENT_EKS: [u32; 2] = [0x8101_0001, 0x8101_0002];

/// How to come by an EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Made anew from its template, always the same one.
    Template,
    /// Already there: spares making it, which takes a chip seconds for RSA.
    Persistent(KeyHandle),
}

/// The EK in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) kind: EkKind,
    source: Source,
}

/// The public half of an EK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ek {
    /// Which template.
    pub kind: EkKind,
    /// Marshalled `TPMT_PUBLIC`; coordinates are written with 32 bytes.
    pub public: Vec<u8>,
    /// The certificate as NV holds it: DER, perhaps with padding after it.
    pub certificate: Option<Vec<u8>>,
}

impl Tpm {
    /// The EK this project uses for this TPM: the first kind (P-256, then RSA-2048) with a certificate for just that
    /// key, else P-256 without a certificate. [`Tpm::activate_credential`] uses it from then on.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_public(&mut self) -> Result<Ek, TpmError> {
        for kind in EkKind::BY_PREFERENCE {
            if let Some(certificate) = self.ek_certificate(kind)? {
                match self.certified_ek(kind, certificate)? {
                    Some(ek) => return Ok(ek),
                    None => tracing::warn!(?kind, "the EK certificate in NV is for another key"),
                }
            }
        }
        self.use_ek(EkKind::EccP256);
        self.ek_of_kind(EkKind::EccP256)
    }

    /// The EK of one template, without its certificate.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_of_kind(&mut self, kind: EkKind) -> Result<Ek, TpmError> {
        let source = Source::Template;
        let public = self.ek_from(Chosen { kind, source })?;
        Ok(Ek {
            kind,
            public: canonical(public)?,
            certificate: None,
        })
    }

    /// The certificate of one EK; `None` when the TPM has none that we may read.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ek_certificate(&mut self, kind: EkKind) -> Result<Option<Vec<u8>>, TpmError> {
        match self.nv_read(kind.certificate_index()) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(TpmError::NvAbsent { .. }) => Ok(None),
            Err(TpmError::NvUnreadable { index }) => {
                tracing::warn!(index, "the EK certificate in NV may not be read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Says which EK template [`Tpm::activate_credential`] uses; [`Tpm::ek_public`] sets it too.
    pub fn use_ek(&mut self, kind: EkKind) {
        let source = Source::Template;
        self.ek = Some(Chosen { kind, source });
    }

    /// The EK in use, found if need be.
    pub(crate) fn ek_in_use(&mut self) -> Result<Chosen, TpmError> {
        if self.ek.is_none() {
            self.ek_public()?;
        }
        self.ek.ok_or(TpmError::Unexpected("no EK"))
    }

    /// The EK that `certificate` names, from wherever it is, and from now on in use.
    fn certified_ek(&mut self, kind: EkKind, certificate: Vec<u8>) -> Result<Option<Ek>, TpmError> {
        let template = template::ek(kind)?;
        for source in self.ek_sources()? {
            let chosen = Chosen { kind, source };
            let public = self.ek_from(chosen)?;
            if template::made_by(&public, &template)? && names(&certificate, &public) {
                self.ek = Some(chosen);
                return Ok(Some(Ek {
                    kind,
                    public: canonical(public)?,
                    certificate: Some(certificate),
                }));
            }
        }
        Ok(None)
    }

    fn ek_sources(&mut self) -> Result<Vec<Source>, TpmError> {
        let mut sources = Vec::with_capacity(PERSISTENT_EKS.len() + 1);
        for handle in PERSISTENT_EKS {
            sources.extend(self.persistent(handle)?.map(Source::Persistent));
        }
        sources.push(Source::Template);
        Ok(sources)
    }

    fn ek_from(&mut self, chosen: Chosen) -> Result<Public, TpmError> {
        self.with_ek(chosen, |context, key| {
            let (public, _, _) =
                context.execute_without_session(|context| context.read_public(key))?;
            Ok(public)
        })
    }

    /// Has the EK loaded for the length of `work`.
    pub(crate) fn with_ek<T>(
        &mut self,
        chosen: Chosen,
        work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        if let Source::Persistent(key) = chosen.source {
            return work(&mut self.context, key);
        }
        let template = template::ek(chosen.kind)?;
        let made = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)?)
        })?;
        scope::with_object(&mut self.context, made.key_handle, work)
    }
}

/// The marshalled public area in the one form that gives the node's id: some TPMs leave leading zeros of a coordinate
/// out. Unlike the AK's, the EK's own name is used nowhere.
fn canonical(public: Public) -> Result<Vec<u8>, TpmError> {
    let Public::Ecc {
        object_attributes,
        name_hashing_algorithm,
        auth_policy,
        parameters,
        unique,
    } = public
    else {
        return Ok(public.marshall()?);
    };
    let unique = EccPoint::new(padded(unique.x())?, padded(unique.y())?);
    Ok(Public::Ecc {
        object_attributes,
        name_hashing_algorithm,
        auth_policy,
        parameters,
        unique,
    }
    .marshall()?)
}

fn padded(coordinate: &EccParameter) -> Result<EccParameter, TpmError> {
    const LEN: usize = 32;
    let bytes = coordinate.value();
    let zeros = vec![0; LEN.saturating_sub(bytes.len())];
    Ok(EccParameter::try_from([&zeros, bytes].concat())?)
}

/// Whether a certificate is for this key. Only to choose among our own keys, so looking for the key's bytes will do;
/// the registrar is the one that checks.
fn names(certificate: &[u8], public: &Public) -> bool {
    let key = match public {
        Public::Ecc { unique, .. } => unique.x().value(),
        Public::Rsa { unique, .. } => unique.value(),
        _ => return false,
    };
    !key.is_empty() && certificate.windows(key.len()).any(|bytes| bytes == key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn short_coordinates_are_padded() {
        for (given, expected) in [
            (vec![1; 31], [vec![0], vec![1; 31]].concat()),
            (vec![1; 32], vec![1; 32]),
            (vec![], vec![0; 32]),
        ] {
            let coordinate = EccParameter::try_from(given).unwrap();
            assert_eq!(padded(&coordinate).unwrap().value(), expected);
        }
    }
}
