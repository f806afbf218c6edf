//! `UEFI_VARIABLE_DATA` (§10.2.6).

use super::{covered::Covered, guid::Guid, signatures::SignatureLists, ClaimError};
use crate::reader::{CutShort, Reader};

/// Longest name (UTF-16 units).
const MAX_NAME: usize = 1024;

/// A UEFI variable as it was measured: vendor, name and contents are covered by the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// Whose.
    pub vendor: Guid,
    /// Which.
    pub name: String,
    /// Its contents.
    pub data: &'a [u8],
}

impl<'a> Variable<'a> {
    pub(super) fn read(covered: Covered<'a>) -> Result<Self, ClaimError> {
        let mut reader = Reader::new(covered.bytes());
        let cut = |_: CutShort| ClaimError::Malformed("the UEFI_VARIABLE_DATA is cut short");
        let vendor = Guid::read(&mut reader).map_err(cut)?;
        let name_length = reader.u64_le().map_err(cut)?;
        let data_length = reader.u64_le().map_err(cut)?;
        let name_length = usize::try_from(name_length)
            .ok()
            .filter(|length| *length <= MAX_NAME)
            .ok_or(ClaimError::Malformed("the variable's name is too long"))?;
        let name = reader.take(2 * name_length).map_err(cut)?;
        let data_length = usize::try_from(data_length).map_err(|_| cut(CutShort))?;
        let data = reader.take(data_length).map_err(cut)?;
        if !reader.is_empty() {
            return Err(ClaimError::Malformed("bytes after the UEFI_VARIABLE_DATA"));
        }
        Ok(Self {
            vendor,
            name: utf16(name).ok_or(ClaimError::Malformed("the variable's name is no UTF-16"))?,
            data,
        })
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, vendor: Guid, name: &str) -> bool {
        self.vendor == vendor && self.name == name
    }

    /// The value of a variable that is a switch (`SecureBoot`): one byte, 0 or 1. A variable that is not set is
    /// measured empty and is off.
    #[must_use]
    pub fn switch(&self) -> Option<bool> {
        match self.data {
            [] | [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// The contents as `PK`, `KEK`, `db`, `dbx` have them.
    ///
    /// # Errors
    /// [`ClaimError::Malformed`].
    pub fn signature_lists(&self) -> Result<SignatureLists, ClaimError> {
        SignatureLists::parse(self.data)
    }
}

/// UTF-16LE without a NUL inside; one at the end is taken off.
pub(super) fn utf16(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|pair| pair.try_into().map(u16::from_le_bytes))
        .collect::<Result<_, _>>()
        .ok()?;
    let units = units.strip_suffix(&[0]).unwrap_or(&units);
    let text = String::from_utf16(units).ok()?;
    (!text.contains('\0')).then_some(text)
}
