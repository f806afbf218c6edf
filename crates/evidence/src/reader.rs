//! A cursor over untrusted bytes: every read is checked.

/// The bytes ended before the value did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cut short")]
pub struct CutShort;

#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CutShort> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CutShort)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CutShort> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CutShort)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CutShort> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, CutShort> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, CutShort> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, CutShort> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, CutShort> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, CutShort> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, CutShort> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `TPM2B_*`: size (u16, big-endian) and as many bytes.
    pub(crate) fn tpm2b(&mut self) -> Result<&'a [u8], CutShort> {
        let length = self.u16_be()?;
        self.take(length.into())
    }

    /// Size (u32, little-endian) and as many bytes.
    pub(crate) fn counted_le(&mut self) -> Result<&'a [u8], CutShort> {
        let length = self.u32_le()?;
        self.take(length as usize)
    }
}
