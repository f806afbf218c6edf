//! What can go wrong with a TPM.

/// Why the TPM did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The TPM or its library refused.
    #[error("{0}")]
    Tss(#[from] tss_esapi::Error),
    /// Something outside the TPM.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A persistent handle holds a key that is not ours.
    #[error("TPM handle 0x{handle:08x} holds a key that Bootkeep did not make; free it with `tpm2_evictcontrol -C o -c 0x{handle:08x}` if nothing needs it")]
    ForeignKey {
        /// Which handle.
        handle: u32,
    },
    /// An NV index that is not there, or was never written.
    #[error("the TPM has nothing in NV index 0x{index:08x}")]
    NvAbsent {
        /// Which one.
        index: u32,
    },
    /// An NV index that neither its own empty password nor the owner may read.
    #[error("NV index 0x{index:08x} may not be read with the authorization we have")]
    NvUnreadable {
        /// Which one.
        index: u32,
    },
    /// An NV index in our range that is not ours.
    #[error("NV index 0x{index:08x} holds something that Bootkeep did not make; free it with `tpm2_nvundefine -C o 0x{index:08x}` if nothing needs it")]
    ForeignNv {
        /// Which one.
        index: u32,
    },
    /// PCR numbers that are not 0 to 23, not ascending or none.
    #[error("PCRs must be 0 to 23, ascending, at least one")]
    PcrSelection,
    /// The PCRs changed between quote and reading, again and again.
    #[error("the PCRs changed faster than they could be read; try again")]
    PcrsBusy,
    /// The TPM has no SHA-256 bank, or not for these PCRs.
    #[error("the TPM's SHA-256 bank does not hold these PCRs")]
    NoSha256Bank,
    /// An answer of another form than TPM 2.0 Part 3 says.
    #[error("the TPM answered with {0}")]
    Unexpected(&'static str),
}
