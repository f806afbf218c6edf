//! The few TPM structures that are made here (TPM 2.0 Part 2).

use sha2::{Digest, Sha256};

pub(crate) const TPM_ALG_RSA: u16 = 0x0001;
pub(crate) const TPM_ALG_SHA256: u16 = 0x000b;
pub(crate) const TPM_ALG_NULL: u16 = 0x0010;
pub(crate) const TPM_ALG_RSASSA: u16 = 0x0014;
pub(crate) const TPM_ALG_ECDSA: u16 = 0x0018;
pub(crate) const TPM_ALG_ECC: u16 = 0x0023;
pub(crate) const TPM_ECC_NIST_P256: u16 = 0x0003;

/// Writes big-endian fields one after the other.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// `TPM2B`: the length (16 bits), then the bytes. Everything here is shorter than 64 KiB.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let mut this = self.u16(bytes.len() as u16);
        this.0.extend_from_slice(bytes);
        this
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The name of an object: the hash algorithm and the digest of its public area.
pub(crate) fn name(public: &[u8]) -> Vec<u8> {
    [&TPM_ALG_SHA256.to_be_bytes()[..], &Sha256::digest(public)].concat()
}

/// `TPMT_SIGNATURE` of ECDSA with SHA-256; `fixed` is r and s, 32 bytes each.
pub(crate) fn ecdsa_signature(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    Writer::default()
        .u16(TPM_ALG_ECDSA)
        .u16(TPM_ALG_SHA256)
        .sized(r)
        .sized(s)
        .done()
}

/// `TPMT_SIGNATURE` of RSASSA-PKCS1-v1_5 with SHA-256.
pub(crate) fn rsa_signature(bytes: &[u8]) -> Vec<u8> {
    Writer::default()
        .u16(TPM_ALG_RSASSA)
        .u16(TPM_ALG_SHA256)
        .sized(bytes)
        .done()
}
