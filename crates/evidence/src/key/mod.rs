//! Public areas of TPM keys (`TPMT_PUBLIC`, TPM 2.0 Part 2 §12.2.4).

mod ek;

pub use ek::EkPublic;

use sha2::{Digest, Sha256};

use crate::reader::{CutShort, Reader};

const ALG_RSA: u16 = 0x0001;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAES: u16 = 0x0015;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECDAA: u16 = 0x001a;
const ALG_ECC: u16 = 0x0023;
const CURVE_P256: u16 = 0x0003;
/// The exponent TPMs give RSA keys, which they write as 0.
const RSA_EXPONENT: u32 = 65_537;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// Why a public area is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a `TPMT_PUBLIC`.
    #[error("the public area is cut short")]
    CutShort,
    /// More bytes than a `TPMT_PUBLIC` has.
    #[error("the public area has {0} bytes too many")]
    Trailing(usize),
    /// A key type, curve, size, name or scheme algorithm that is not accepted.
    #[error("{what} 0x{value:04x} is not accepted")]
    Unsupported {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// An attribute that must be set is clear, or the other way round.
    #[error("the key's attribute {0} is not as it must be")]
    Attribute(&'static str),
    /// An EK that is not made from a default template.
    #[error("the EK's public area is not one of the TCG's default templates (RSA-2048 or P-256)")]
    Template,
}

impl From<CutShort> for KeyError {
    fn from(_: CutShort) -> Self {
        Self::CutShort
    }
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// NIST P-256, coordinates padded to 32 bytes.
    P256 {
        /// Big-endian.
        x: [u8; 32],
        /// Big-endian.
        y: [u8; 32],
    },
    /// RSA.
    Rsa {
        /// Big-endian, without leading zeros.
        modulus: Vec<u8>,
        /// 65537; other exponents are not accepted.
        exponent: u32,
    },
}

impl KeyMaterial {
    /// The uncompressed point of a P-256 key, as X.509 holds it.
    #[must_use]
    pub fn p256_point(&self) -> Option<[u8; 65]> {
        let Self::P256 { x, y } = self else {
            return None;
        };
        let mut point = [4; 65];
        point[1..33].copy_from_slice(x);
        point[33..].copy_from_slice(y);
        Some(point)
    }
}

struct Public {
    attributes: u32,
    symmetric: u16,
    scheme: u16,
    scheme_hash: Option<u16>,
    material: KeyMaterial,
}

fn parse(bytes: &[u8]) -> Result<Public, KeyError> {
    let mut reader = Reader::new(bytes);
    let kind = reader.u16_be()?;
    let name_algorithm = reader.u16_be()?;
    if name_algorithm != ALG_SHA256 {
        return Err(unsupported("name algorithm", name_algorithm));
    }
    let attributes = reader.u32_be()?;
    reader.tpm2b()?; // authPolicy
    let symmetric = reader.u16_be()?;
    if symmetric != ALG_NULL {
        reader.take(4)?; // key bits and mode
    }
    let scheme = reader.u16_be()?;
    let scheme_hash = match scheme {
        ALG_NULL | ALG_RSAES => None,
        ALG_ECDAA => return Err(unsupported("signing scheme", scheme)),
        _ => Some(reader.u16_be()?),
    };
    let material = match kind {
        ALG_ECC => ecc(&mut reader)?,
        ALG_RSA => rsa(&mut reader)?,
        other => return Err(unsupported("key type", other)),
    };
    match reader.rest().len() {
        0 => Ok(Public {
            attributes,
            symmetric,
            scheme,
            scheme_hash,
            material,
        }),
        trailing => Err(KeyError::Trailing(trailing)),
    }
}

fn ecc(reader: &mut Reader<'_>) -> Result<KeyMaterial, KeyError> {
    let curve = reader.u16_be()?;
    if curve != CURVE_P256 {
        return Err(unsupported("curve", curve));
    }
    let kdf = reader.u16_be()?;
    if kdf != ALG_NULL {
        reader.u16_be()?;
    }
    let mut coordinate = || {
        let bytes = reader.tpm2b()?;
        left_padded(bytes).ok_or(unsupported("coordinate length", bytes.len() as u16))
    };
    Ok(KeyMaterial::P256 {
        x: coordinate()?,
        y: coordinate()?,
    })
}

fn rsa(reader: &mut Reader<'_>) -> Result<KeyMaterial, KeyError> {
    let bits = reader.u16_be()?;
    let exponent = reader.u32_be()?;
    if exponent != 0 && exponent != RSA_EXPONENT {
        let what = "RSA exponent";
        return Err(KeyError::Unsupported {
            what,
            value: exponent,
        });
    }
    let modulus = reader.tpm2b()?;
    let is_full = modulus.len() == usize::from(bits) / 8
        && modulus.first().is_some_and(|&first| first >= 0x80);
    if !matches!(bits, 2048 | 3072 | 4096) || !is_full {
        return Err(unsupported("RSA key size", bits));
    }
    Ok(KeyMaterial::Rsa {
        modulus: modulus.to_vec(),
        exponent: RSA_EXPONENT,
    })
}

fn unsupported(what: &'static str, value: u16) -> KeyError {
    KeyError::Unsupported {
        what,
        value: value.into(),
    }
}

/// Big-endian `bytes` as 32 bytes; `None` when there are more.
pub(crate) fn left_padded(bytes: &[u8]) -> Option<[u8; 32]> {
    let start = 32usize.checked_sub(bytes.len())?;
    let mut out = [0; 32];
    out.get_mut(start..)?.copy_from_slice(bytes);
    Some(out)
}

fn demand(
    attributes: u32,
    set: &[(u32, &'static str)],
    clear: &[(u32, &'static str)],
) -> Result<(), KeyError> {
    for (bit, name) in set {
        if attributes & bit == 0 {
            return Err(KeyError::Attribute(name));
        }
    }
    for (bit, name) in clear {
        if attributes & bit != 0 {
            return Err(KeyError::Attribute(name));
        }
    }
    Ok(())
}

/// The `TPM2B_NAME` contents of a public area with a SHA-256 name algorithm: `0x000b` and the digest.
fn name_of(bytes: &[u8]) -> Vec<u8> {
    let mut name = ALG_SHA256.to_be_bytes().to_vec();
    name.extend_from_slice(&Sha256::digest(bytes));
    name
}

/// How an AK signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkScheme {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSsa,
    /// RSASSA-PSS with SHA-256.
    RsaPss,
    /// ECDSA with SHA-256.
    Ecdsa,
}

/// An attestation key: made inside a TPM, bound to it, and able to sign only what the TPM itself made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AkPublic {
    material: KeyMaterial,
    scheme: AkScheme,
    name: Vec<u8>,
}

impl AkPublic {
    /// Parses a marshalled `TPMT_PUBLIC` and demands what makes it an AK: fixedTPM, fixedParent, restricted, sign,
    /// sensitiveDataOrigin, not decrypt, and a scheme of its own with SHA-256.
    ///
    /// # Errors
    /// [`KeyError`], naming the attribute or algorithm.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let public = parse(bytes)?;
        demand(
            public.attributes,
            &[
                (FIXED_TPM, "fixedTPM"),
                (FIXED_PARENT, "fixedParent"),
                (SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
                (RESTRICTED, "restricted"),
                (SIGN, "sign"),
            ],
            &[(DECRYPT, "decrypt")],
        )?;
        if public.symmetric != ALG_NULL {
            return Err(unsupported("symmetric algorithm", public.symmetric));
        }
        let scheme = match (&public.material, public.scheme) {
            (KeyMaterial::Rsa { .. }, ALG_RSASSA) => AkScheme::RsaSsa,
            (KeyMaterial::Rsa { .. }, ALG_RSAPSS) => AkScheme::RsaPss,
            (KeyMaterial::P256 { .. }, ALG_ECDSA) => AkScheme::Ecdsa,
            (_, other) => return Err(unsupported("signing scheme", other)),
        };
        match public.scheme_hash {
            Some(ALG_SHA256) => Ok(Self {
                material: public.material,
                scheme,
                name: name_of(bytes),
            }),
            other => Err(unsupported("signing hash", other.unwrap_or(ALG_NULL))),
        }
    }

    /// The key.
    #[must_use]
    pub fn material(&self) -> &KeyMaterial {
        &self.material
    }

    /// How it signs.
    #[must_use]
    pub fn scheme(&self) -> AkScheme {
        self.scheme
    }

    /// Contents of its `TPM2B_NAME`.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}
