//! Templates of the keys we make.

use tss_esapi::{
    abstraction::{
        ek::create_ek_public_from_default_template_2 as default_ek, AsymmetricAlgorithmSelection,
        KeyCustomization,
    },
    attributes::{ObjectAttributes, ObjectAttributesBuilder},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
    },
    structures::{
        Digest, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, KeyedHashScheme,
        Public, PublicBuilder, PublicEccParametersBuilder, PublicKeyRsa, PublicKeyedHashParameters,
        PublicRsaParametersBuilder, RsaExponent, RsaScheme, SymmetricDefinitionObject,
    },
    traits::Marshall,
};

use crate::{AkKind, EkKind, TpmError};

/// Policies of the EK templates (EK Credential Profile §B.6): PolicySecret(endorsement) is A; B is A or C, where C is
/// an authorization kept in NV that we do not use.
pub(crate) const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const POLICY_B: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
pub(crate) const POLICY_C: [u8; 32] = [
    0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64,
    0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde,
];

/// A default EK template (EK Credential Profile §B.3, §B.4).
pub(crate) fn ek(kind: EkKind) -> Result<Public, TpmError> {
    let algorithm = match kind {
        EkKind::EccP256 | EkKind::EccP256High => {
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256)
        }
        EkKind::Rsa2048 | EkKind::Rsa2048High => {
            AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048)
        }
    };
    let high = kind.is_high().then(HighRange::new).transpose()?;
    Ok(default_ek(algorithm, Customized(high))?)
}

/// What sets the high range's templates H-1 and H-2 apart from L-1 and L-2 of the low range.
struct HighRange(Digest);

impl HighRange {
    fn new() -> Result<Self, TpmError> {
        Ok(Self(Digest::try_from(POLICY_B.as_slice())?))
    }
}

struct Customized(Option<HighRange>);

impl KeyCustomization for Customized {
    fn attributes(&self, builder: ObjectAttributesBuilder) -> ObjectAttributesBuilder {
        match self.0 {
            Some(_) => builder.with_user_with_auth(true),
            None => builder,
        }
    }

    fn template(&self, builder: PublicBuilder) -> PublicBuilder {
        match &self.0 {
            // The builder takes the one that fits the key.
            Some(HighRange(policy)) => builder
                .with_auth_policy(policy.clone())
                .with_rsa_unique_identifier(PublicKeyRsa::default())
                .with_ecc_unique_identifier(EccPoint::default()),
            None => builder,
        }
    }
}

/// The SRK of the TCG TPM v2.0 Provisioning Guidance §7.5.1, P-256.
pub(crate) fn srk() -> Result<Public, TpmError> {
    let (aes, none) = (SymmetricDefinitionObject::AES_128_CFB, EccScheme::Null);
    restricted_p256(false, aes, none)
}

/// An AK: restricted, signing, SHA-256.
pub(crate) fn ak(kind: AkKind) -> Result<Public, TpmError> {
    let sha256 = HashScheme::new(HashingAlgorithm::Sha256);
    match kind {
        AkKind::EccP256 => {
            let none = SymmetricDefinitionObject::Null;
            restricted_p256(true, none, EccScheme::EcDsa(sha256))
        }
        AkKind::Rsa2048 => restricted_rsa(RsaScheme::RsaSsa(sha256)),
    }
}

/// The object that holds a sealed secret: opened by `policy` alone, never by a password.
pub(crate) fn sealed(policy: Digest) -> Result<Public, TpmError> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .build()?;
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()?)
}

fn attributes(signing: bool) -> Result<ObjectAttributes, TpmError> {
    Ok(ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(signing)
        .with_decrypt(!signing)
        .build()?)
}

fn restricted_p256(
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

fn restricted_rsa(scheme: RsaScheme) -> Result<Public, TpmError> {
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes(true)?)
        .with_rsa_parameters(
            PublicRsaParametersBuilder::new()
                .with_symmetric(SymmetricDefinitionObject::Null)
                .with_scheme(scheme)
                .with_key_bits(RsaKeyBits::Rsa2048)
                .with_exponent(RsaExponent::default())
                .with_is_signing_key(true)
                .with_is_decryption_key(false)
                .with_restricted(true)
                .build()?,
        )
        .with_rsa_unique_identifier(PublicKeyRsa::default())
        .build()?)
}

/// Whether `public` is what `template` makes: all but the key itself is the same.
pub(crate) fn made_by(public: &Public, template: &Public) -> Result<bool, TpmError> {
    Ok(without_key(public)? == without_key(template)?)
}

/// A marshalled `TPMT_PUBLIC` up to its `unique`, which comes last.
fn without_key(public: &Public) -> Result<Vec<u8>, TpmError> {
    let unique = match public {
        Public::Ecc { unique, .. } => 4 + unique.x().value().len() + unique.y().value().len(),
        Public::Rsa { unique, .. } => 2 + unique.value().len(),
        _ => 0,
    };
    let mut bytes = public.marshall()?;
    bytes.truncate(bytes.len().saturating_sub(unique));
    Ok(bytes)
}
