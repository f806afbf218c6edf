//! Messages of netlink and XFRM as bytes: the structures of `linux/netlink.h` and `linux/xfrm.h`.
//!
//! Numbers are in the byte order of the machine unless said otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::KernelError;

pub(super) const DELSA: u16 = 0x11;
pub(super) const GETSA: u16 = 0x12;
pub(super) const NEWPOLICY: u16 = 0x13;
pub(super) const DELPOLICY: u16 = 0x14;
pub(super) const GETPOLICY: u16 = 0x15;

pub(super) const HEADER: usize = 16;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Builds the body of a message.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    pub(super) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// `xfrm_address_t`.
    pub(super) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()).zeros(12),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// An attribute, padded to four bytes.
    pub(super) fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.u16(length).u16(kind).bytes(value).zeros(padding)
    }
}

pub(super) fn family(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// Reads fields at their offsets.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], KernelError> {
        let part = self.0.get(at..at + N);
        part.and_then(|part| part.try_into().ok())
            .ok_or(KernelError::Malformed("it is too short"))
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, KernelError> {
        Ok(self.array::<1>(at)?[0])
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, KernelError> {
        self.array(at).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, KernelError> {
        self.array(at).map(u32::from_ne_bytes)
    }

    pub(super) fn address(self, at: usize, family: u16) -> Result<IpAddr, KernelError> {
        match family {
            AF_INET => Ok(IpAddr::from(Ipv4Addr::from(self.array::<4>(at)?))),
            AF_INET6 => Ok(IpAddr::from(Ipv6Addr::from(self.array::<16>(at)?))),
            _ => Err(KernelError::Malformed("an unknown address family")),
        }
    }

    /// The value of the first attribute of a kind, in those that begin at an offset.
    pub(super) fn attribute(
        self,
        mut at: usize,
        kind: u16,
    ) -> Result<Option<&'a [u8]>, KernelError> {
        while at < self.0.len() {
            let length = usize::from(self.u16(at)?);
            let value = self.0.get(at + 4..at + length);
            let value = value.ok_or(KernelError::Malformed("an attribute ends too late"))?;
            if self.u16(at + 2)? == kind {
                return Ok(Some(value));
            }
            at += length.next_multiple_of(4);
        }
        Ok(None)
    }
}
