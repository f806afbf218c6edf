//! SRK and AK: persistent keys of the owner's hierarchy.

use tss_esapi::{
    attributes::ObjectAttributesBuilder,
    constants::CapabilityType,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        dynamic_handles::Persistent,
        ecc::EccCurve,
        resource_handles::{Hierarchy, Provision},
    },
    structures::{
        CapabilityData, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public,
        PublicBuilder, PublicEccParametersBuilder, SymmetricDefinitionObject,
    },
    Context,
};

use crate::{ek::marshalled, scope, Tpm, TpmError};

/// TCG TPM v2.0 Provisioning Guidance §7.8: the SRK's place.
const SRK_HANDLE: u32 = 0x8100_0001;
/// Our AK's place, in the part of the owner's range that is free for use.
const AK_HANDLE: u32 = 0x8100_b007;

/// The public half of the AK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ak {
    /// Marshalled `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// Contents of its `TPM2B_NAME`.
    pub name: Vec<u8>,
}

fn attributes(
    restricted_signing: bool,
) -> Result<tss_esapi::attributes::ObjectAttributes, TpmError> {
    Ok(ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(restricted_signing)
        .with_decrypt(!restricted_signing)
        .build()?)
}

fn template(
    signing: bool,
    symmetric: SymmetricDefinitionObject,
    scheme: EccScheme,
) -> Result<Public, TpmError> {
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes(signing)?)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new()
                .with_symmetric(symmetric)
                .with_ecc_scheme(scheme)
                .with_curve(EccCurve::NistP256)
                .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
                .with_is_signing_key(signing)
                .with_is_decryption_key(!signing)
                .with_restricted(true)
                .build()?,
        )
        .with_ecc_unique_identifier(EccPoint::default())
        .build()?)
}

fn srk_template() -> Result<Public, TpmError> {
    template(
        false,
        SymmetricDefinitionObject::AES_128_CFB,
        EccScheme::Null,
    )
}

fn ak_template() -> Result<Public, TpmError> {
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    template(true, SymmetricDefinitionObject::Null, scheme)
}

/// Whether `public` is what the template makes: all but the point itself.
fn made_by(public: &Public, template: &Public) -> bool {
    match (public, template) {
        (
            Public::Ecc {
                object_attributes: a,
                name_hashing_algorithm: b,
                auth_policy: c,
                parameters: d,
                ..
            },
            Public::Ecc {
                object_attributes: e,
                name_hashing_algorithm: f,
                auth_policy: g,
                parameters: h,
                ..
            },
        ) => (a, b, c, d) == (e, f, g, h),
        _ => false,
    }
}

impl Tpm {
    /// The SRK, made and made persistent when it is missing. A storage key that others put there is used as it is.
    ///
    /// # Errors
    /// [`TpmError::Tss`].
    pub fn ensure_srk(&mut self) -> Result<(), TpmError> {
        self.srk().map(|_| ())
    }

    /// The AK, made and made persistent when it is missing.
    ///
    /// # Errors
    /// [`TpmError::ForeignKey`] when its handle holds something else.
    pub fn ensure_ak(&mut self) -> Result<Ak, TpmError> {
        let key = match self.persistent(AK_HANDLE)? {
            Some(key) => key,
            None => self.make_ak()?,
        };
        let (public, name, _) = self.read_public(key)?;
        if !made_by(&public, &ak_template()?) {
            return Err(TpmError::ForeignKey { handle: AK_HANDLE });
        }
        Ok(Ak {
            public: marshalled(&public)?,
            name,
        })
    }

    /// The handle of the AK, which must be there.
    pub(crate) fn ak(&mut self) -> Result<KeyHandle, TpmError> {
        match self.persistent(AK_HANDLE)? {
            Some(key) => Ok(key),
            None => {
                self.ensure_ak()?;
                self.persistent(AK_HANDLE)?
                    .ok_or(TpmError::Unexpected("no AK after making one"))
            }
        }
    }

    pub(crate) fn srk(&mut self) -> Result<KeyHandle, TpmError> {
        if let Some(key) = self.persistent(SRK_HANDLE)? {
            return Ok(key);
        }
        let template = srk_template()?;
        let made = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.create_primary(Hierarchy::Owner, template, None, None, None, None)?)
        })?;
        scope::with_object(&mut self.context, made.key_handle, |context, key| {
            persist(context, key, SRK_HANDLE)
        })
    }

    fn make_ak(&mut self) -> Result<KeyHandle, TpmError> {
        let srk = self.srk()?;
        let template = ak_template()?;
        let loaded = scope::with_empty_auth(&mut self.context, |context| {
            let made = context.create(srk, template, None, None, None, None)?;
            Ok(context.load(srk, made.out_private, made.out_public)?)
        })?;
        scope::with_object(&mut self.context, loaded, |context, key| {
            persist(context, key, AK_HANDLE)
        })
    }

    fn read_public(&mut self, key: KeyHandle) -> Result<(Public, Vec<u8>, ()), TpmError> {
        let (public, name, _) = self
            .context
            .execute_without_session(|context| context.read_public(key))?;
        Ok((public, name.value().to_vec(), ()))
    }

    fn persistent(&mut self, handle: u32) -> Result<Option<KeyHandle>, TpmError> {
        let handle = TpmHandle::Persistent(PersistentTpmHandle::new(handle)?);
        if !self.handle_exists(handle)? {
            return Ok(None);
        }
        let object = self
            .context
            .execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        Ok(Some(object.into()))
    }

    /// Asks the TPM for its handles rather than trying one: a failed try is an error in every log.
    pub(crate) fn handle_exists(&mut self, handle: TpmHandle) -> Result<bool, TpmError> {
        let number = u32::from(handle);
        let (data, _) = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, number, 1)
        })?;
        match data {
            CapabilityData::Handles(handles) => {
                Ok(handles.into_inner().first().copied().map(u32::from) == Some(number))
            }
            _ => Err(TpmError::Unexpected("capability data of another type")),
        }
    }
}

fn persist(context: &mut Context, key: KeyHandle, handle: u32) -> Result<KeyHandle, TpmError> {
    let place = Persistent::Persistent(PersistentTpmHandle::new(handle)?);
    scope::with_empty_auth(context, |context| {
        let object: ObjectHandle = context.evict_control(Provision::Owner, key.into(), place)?;
        Ok(object.into())
    })
}
