//! `EV_EFI_VARIABLE_AUTHORITY` in PCR 7: what vouched for an image, and shim's own state.

use super::{guid::Guid, sbat::SbatLevel, signatures::Certificate, variable::Variable, ClaimError};

const OWNER: usize = 16;

/// What one authority event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A certificate verified an image: one of `db`, shim's own (`Shim`), its `vendor_db` or `MokList`.
    Certificate {
        /// The database.
        source: String,
        /// Whose database.
        vendor: Guid,
        /// The certificate.
        certificate: Certificate,
    },
    /// The digest of an image was listed.
    Hash {
        /// The database.
        source: String,
        /// Whose database.
        vendor: Guid,
        /// Authenticode SHA-256.
        digest: [u8; 32],
    },
    /// shim's `SbatLevel`.
    Sbat(SbatLevel),
    /// Another variable: shim's `MokListTrusted`, `MokSBState`, `MokPolicy`.
    State {
        /// The variable.
        name: String,
        /// Whose.
        vendor: Guid,
        /// Its contents.
        value: Vec<u8>,
    },
}

impl Authority {
    pub(super) fn read(variable: &Variable<'_>) -> Result<Self, ClaimError> {
        let (vendor, data) = (variable.vendor, variable.data);
        if variable.is(Guid::SHIM, "SbatLevel") {
            return SbatLevel::parse(data).map(Self::Sbat);
        }
        let source = variable.name.clone();
        if let Some(der) = certificate_of(data) {
            let certificate = Certificate::read(der);
            return Ok(Self::Certificate {
                source,
                vendor,
                certificate,
            });
        }
        let hash = data.get(OWNER..).and_then(|hash| hash.try_into().ok());
        Ok(match hash {
            Some(digest) => Self::Hash {
                source,
                vendor,
                digest,
            },
            None => Self::State {
                name: source,
                vendor,
                value: data.to_vec(),
            },
        })
    }
}

/// The firmware and shim's databases measure an `EFI_SIGNATURE_DATA` (owner, certificate), shim measures its own
/// certificate alone.
fn certificate_of(data: &[u8]) -> Option<&[u8]> {
    [0, OWNER]
        .into_iter()
        .filter_map(|start| data.get(start..))
        .find(|der| is_one_sequence(der))
}

/// A DER SEQUENCE of 256 to 65535 bytes that fills `der`: every certificate is one.
fn is_one_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, 0x82, high, low, rest @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])) == rest.len()
        }
        _ => false,
    }
}
