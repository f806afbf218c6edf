//! Endorsement keys.

use super::{parse, KeyError, KeyMaterial};

/// Everything of a default template's `TPMT_PUBLIC` but the key itself (EK Credential Profile §B.3, §B.4): key type,
/// name algorithm SHA-256, attributes, policy, AES-128-CFB, no scheme, P-256 or RSA-2048 with the default exponent.
const TEMPLATES: [Template; 4] = [
    Template::low(ECC),
    Template::low(RSA),
    Template::high(ECC),
    Template::high(RSA),
];

/// AES-128-CFB, null scheme, P-256, null KDF; what follows is two coordinates of 32 bytes.
const ECC: Kind = (0x0023, &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10]);
/// AES-128-CFB, null scheme, 2048 bits, default exponent; what follows is a modulus of 256 bytes.
const RSA: Kind = (0x0001, &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0]);

/// Key type, and parameters after the policy.
type Kind = (u16, &'static [u8]);

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const ATTRIBUTES: u32 = 0x0003_00b2;
const USER_WITH_AUTH: u32 = 0x40;
/// PolicySecret(endorsement).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// Policy A or an authorization kept in NV.
const POLICY_B: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];

struct Template {
    kind: Kind,
    attributes: u32,
    policy: [u8; 32],
}

impl Template {
    const fn low(kind: Kind) -> Self {
        Self {
            kind,
            attributes: ATTRIBUTES,
            policy: POLICY_A,
        }
    }

    const fn high(kind: Kind) -> Self {
        Self {
            kind,
            attributes: ATTRIBUTES | USER_WITH_AUTH,
            policy: POLICY_B,
        }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = self.kind.0.to_be_bytes().to_vec();
        head.extend_from_slice(&[0, 0x0b]);
        head.extend_from_slice(&self.attributes.to_be_bytes());
        head.extend_from_slice(&[0, 32]);
        head.extend_from_slice(&self.policy);
        head.extend_from_slice(self.kind.1);
        head
    }
}

/// An endorsement key: a restricted decryption key that its TPM makes from a seed of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    material: KeyMaterial,
}

impl EkPublic {
    /// Parses a marshalled `TPMT_PUBLIC`, which must be one of the TCG's default templates (L-1, L-2, H-1, H-2) to the
    /// byte, coordinates written with 32 bytes.
    ///
    /// Nothing but the key is covered by an EK certificate, and a credential opens whatever the rest says. Were
    /// anything else left to the node, it could show one EK with many public areas and have as many node ids.
    ///
    /// # Errors
    /// [`KeyError`], naming the attribute or algorithm.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let material = parse(bytes)?.material;
        let key_len = match &material {
            KeyMaterial::P256 { .. } => 2 * (2 + 32),
            KeyMaterial::Rsa { .. } => 2 + 256,
        };
        let head = bytes.get(..bytes.len().saturating_sub(key_len));
        if TEMPLATES
            .iter()
            .any(|template| head == Some(&template.head()))
        {
            Ok(Self { material })
        } else {
            Err(KeyError::Template)
        }
    }

    /// The key.
    #[must_use]
    pub fn material(&self) -> &KeyMaterial {
        &self.material
    }
}
