//! UEFI identifiers.

use std::fmt;

use crate::reader::{CutShort, Reader};

/// An `EFI_GUID`, as it is in memory (the first three fields little-endian).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// `EFI_GLOBAL_VARIABLE`: `SecureBoot`, `PK`, `KEK`.
    pub const GLOBAL: Self = Self::new(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
    /// `EFI_IMAGE_SECURITY_DATABASE`: `db`, `dbx`, `dbt`, `dbr`.
    pub const SECURITY_DATABASE: Self =
        Self::new(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);
    /// shim's: `SbatLevel`, `MokListTrusted`, `Shim`.
    pub const SHIM: Self = Self::new(0x605d_ab50, 0xe046, 0x4300, 0xabb6_3dd8_10dd_8b23);
    pub(super) const X509: Self = Self::new(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072);
    pub(super) const SHA256: Self = Self::new(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328);
    pub(super) const X509_SHA256: Self =
        Self::new(0x3bd2_a492, 0x96c0, 0x4079, 0xb420_fcf9_8ef1_03ed);

    /// From its text form's groups: `d1-d2-d3-` and the last two joined.
    #[must_use]
    pub const fn new(d1: u32, d2: u16, d3: u16, rest: u64) -> Self {
        let (a, b, c, d) = (
            d1.to_le_bytes(),
            d2.to_le_bytes(),
            d3.to_le_bytes(),
            rest.to_be_bytes(),
        );
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CutShort> {
        reader.array().map(Self)
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = self.0;
        let d1 = u32::from_le_bytes([a0, a1, a2, a3]);
        let (d2, d3) = (u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
        let [e0, e1, node @ ..] = d;
        write!(f, "{d1:08x}-{d2:04x}-{d3:04x}-{e0:02x}{e1:02x}-")?;
        f.write_str(&hex::encode(node))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let text = Guid::GLOBAL.to_string();
        assert_eq!(text, "8be4df61-93ca-11d2-aa0d-00e098032b8c");
    }
}
