//! Quotes: `TPMS_ATTEST` of type `TPM_ST_ATTEST_QUOTE` and their signature.

mod signature;

use crate::{
    key::AkPublic,
    pcr::PcrValues,
    reader::{CutShort, Reader},
};

const TPM_GENERATED: u32 = 0xff54_4347;
const ST_ATTEST_QUOTE: u16 = 0x8018;
const ALG_SHA256: u16 = 0x000b;
/// Banks one selection may name.
const MAX_SELECTIONS: u32 = 16;

/// Why a quote is not evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The signature is not by the AK.
    #[error("the quote's signature is not by the registered AK")]
    Signature,
    /// `TPMT_SIGNATURE` cannot be read.
    #[error("the quote's signature cannot be read: {0}")]
    SignatureForm(&'static str),
    /// `TPMS_ATTEST` cannot be read.
    #[error("the quote is cut short")]
    CutShort,
    /// More bytes than `TPMS_ATTEST` has.
    #[error("the quote has {0} bytes too many")]
    Trailing(usize),
    /// Not made by a TPM.
    #[error("the quote does not start with TPM_GENERATED")]
    Magic,
    /// Signed by the AK, but not a quote.
    #[error("the attestation is of type 0x{0:04x}, not a quote")]
    Type(u16),
    /// For another question.
    #[error("the quote answers another question (its qualifying data is not the one asked for)")]
    Qualifying,
    /// No PCR was asked for.
    #[error("a quote over no PCR says nothing")]
    EmptySelection,
    /// Over other PCRs or another bank.
    #[error("the quote is over other PCRs than asked for")]
    Selection,
    /// The reported values are not the quoted ones.
    #[error("the reported PCR values are not the ones that were quoted")]
    PcrDigest,
}

impl From<CutShort> for QuoteError {
    fn from(_: CutShort) -> Self {
        Self::CutShort
    }
}

impl QuoteError {
    /// Stable kebab-case code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signature | Self::SignatureForm(_) => "quote-signature",
            Self::CutShort | Self::Trailing(_) => "quote-malformed",
            Self::Magic => "quote-magic",
            Self::Type(_) => "quote-type",
            Self::Qualifying => "quote-qualifying-data",
            Self::EmptySelection | Self::Selection => "quote-selection",
            Self::PcrDigest => "quote-pcr-digest",
        }
    }
}

/// `TPMS_CLOCK_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds the TPM has been powered, over all its life.
    pub clock: u64,
    /// Counts TPM resets: one boot, one value.
    pub reset_count: u32,
    /// Counts restarts and resumes within one reset.
    pub restart_count: u32,
    /// Whether `clock` is known not to have been given before; false after an unclean power-off.
    pub safe: bool,
}

/// What arrived: nothing in it is believed.
#[derive(Clone, Copy, Debug)]
pub struct UnverifiedQuote<'a> {
    /// Marshalled `TPMS_ATTEST`.
    pub attest: &'a [u8],
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
}

/// A verified quote. Only [`UnverifiedQuote::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pcrs: PcrValues,
    clock: ClockInfo,
    firmware_version: u64,
}

impl Quote {
    /// The quoted values.
    #[must_use]
    pub fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }

    /// The TPM's clock when it quoted.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }

    /// The TPM's firmware version.
    #[must_use]
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
}

struct Attest<'a> {
    extra_data: &'a [u8],
    clock: ClockInfo,
    firmware_version: u64,
    selection: Vec<(u16, Vec<u8>)>,
    pcr_digest: &'a [u8],
}

impl UnverifiedQuote<'_> {
    /// Checks, in this order: the signature by `ak`; that a TPM made it and that it is a quote; that its qualifying
    /// data is `qualifying`; that it is over exactly `selection` (ascending indices of the SHA-256 bank, not empty);
    /// that `pcrs` are the values it was made over.
    ///
    /// # Errors
    /// [`QuoteError`], the first check that failed.
    pub fn verify(
        self,
        ak: &AkPublic,
        qualifying: &[u8],
        selection: &[u8],
        pcrs: &[(u8, [u8; 32])],
    ) -> Result<Quote, QuoteError> {
        signature::verify(ak, self.attest, self.signature)?;
        let attest = parse_attest(self.attest)?;
        if attest.extra_data != qualifying {
            return Err(QuoteError::Qualifying);
        }
        if selection.is_empty() {
            return Err(QuoteError::EmptySelection);
        }
        let reported = pcrs.iter().map(|(index, _)| *index);
        if attest.selection != [(ALG_SHA256, selection.to_vec())]
            || !reported.eq(selection.iter().copied())
        {
            return Err(QuoteError::Selection);
        }
        let pcrs: PcrValues = pcrs.iter().copied().collect();
        if attest.pcr_digest != pcrs.digest() {
            return Err(QuoteError::PcrDigest);
        }
        Ok(Quote {
            pcrs,
            clock: attest.clock,
            firmware_version: attest.firmware_version,
        })
    }
}

fn parse_attest(bytes: &[u8]) -> Result<Attest<'_>, QuoteError> {
    let mut reader = Reader::new(bytes);
    if reader.u32_be()? != TPM_GENERATED {
        return Err(QuoteError::Magic);
    }
    match reader.u16_be()? {
        ST_ATTEST_QUOTE => {}
        other => return Err(QuoteError::Type(other)),
    }
    reader.tpm2b()?; // qualifiedSigner: a name made of hashes; the signature says more
    let extra_data = reader.tpm2b()?;
    let clock = ClockInfo {
        clock: reader.u64_be()?,
        reset_count: reader.u32_be()?,
        restart_count: reader.u32_be()?,
        safe: reader.u8()? == 1,
    };
    let firmware_version = reader.u64_be()?;
    let selection = parse_selection(&mut reader)?;
    let pcr_digest = reader.tpm2b()?;
    match reader.rest().len() {
        0 => Ok(Attest {
            extra_data,
            clock,
            firmware_version,
            selection,
            pcr_digest,
        }),
        trailing => Err(QuoteError::Trailing(trailing)),
    }
}

/// `TPML_PCR_SELECTION` as banks with ascending indices; banks without a PCR are left out.
fn parse_selection(reader: &mut Reader<'_>) -> Result<Vec<(u16, Vec<u8>)>, QuoteError> {
    let count = reader.u32_be()?;
    if count > MAX_SELECTIONS {
        return Err(QuoteError::Selection);
    }
    let mut banks = Vec::new();
    for _ in 0..count {
        let bank = reader.u16_be()?;
        let length = reader.u8()?;
        if length > 4 {
            return Err(QuoteError::Selection);
        }
        let mask = reader.take(length.into())?;
        let bits = mask
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
        let indices: Vec<u8> = (0..32)
            .zip(bits)
            .filter_map(|(index, bit)| (bit == 1).then_some(index))
            .collect();
        if !indices.is_empty() {
            banks.push((bank, indices));
        }
    }
    Ok(banks)
}
