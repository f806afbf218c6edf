//! Reading a log's header and events.

use super::{kind::EV_NO_ACTION, Event, EventLogError};
use crate::reader::{CutShort, Reader};

const ALG_SHA256: u16 = 0x000b;
/// Most banks one log may have.
const MAX_BANKS: u32 = 8;
/// Largest event (bytes).
const MAX_EVENT_DATA: usize = 512 * 1024;

/// The highest PCR of a PC client.
const MAX_PCR: u32 = 23;

/// Where the parser stands: names the event that is cut short.
fn at(number: usize) -> impl Fn(CutShort) -> EventLogError {
    move |_| EventLogError::CutShort(number)
}

/// A bank the header names.
pub(super) struct Bank {
    algorithm: u16,
    /// Length of its digests (bytes).
    length: usize,
}

/// The header: one event in the old form whose data is a `TCG_EfiSpecIDEvent`.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Vec<Bank>, EventLogError> {
    const SIGNATURE: &[u8] = b"Spec ID Event03\0";
    let cut = at(0);
    let _pcr = reader.u32_le().map_err(&cut)?;
    let event_type = reader.u32_le().map_err(&cut)?;
    reader.take(20).map_err(&cut)?;
    let data = reader.counted_le().map_err(&cut)?;
    let data = data.strip_prefix(SIGNATURE);
    let data = data.filter(|_| event_type == EV_NO_ACTION);
    let banks = banks(&mut Reader::new(data.ok_or(EventLogError::NotCryptoAgile)?))?;
    let mut all = banks.iter();
    if all.any(|bank| bank.algorithm == ALG_SHA256 && bank.length == 32) {
        Ok(banks)
    } else {
        Err(EventLogError::Banks)
    }
}

/// The list of banks in a `TCG_EfiSpecIDEvent`, from after its signature.
fn banks(data: &mut Reader<'_>) -> Result<Vec<Bank>, EventLogError> {
    let cut = at(0);
    data.take(8).map_err(&cut)?; // platform class, versions, size of a native integer
    let count = data.u32_le().map_err(&cut)?;
    if count > MAX_BANKS {
        return Err(EventLogError::Banks);
    }
    let mut banks: Vec<Bank> = Vec::new();
    for _ in 0..count {
        let algorithm = data.u16_le().map_err(&cut)?;
        let length = data.u16_le().map_err(&cut)?;
        if length > 64 || banks.iter().any(|bank| bank.algorithm == algorithm) {
            return Err(EventLogError::Banks);
        }
        banks.push(Bank {
            algorithm,
            length: length.into(),
        });
    }
    Ok(banks)
}

/// A `TCG_PCR_EVENT2`.
pub(super) fn event(
    reader: &mut Reader<'_>,
    number: usize,
    banks: &[Bank],
) -> Result<Event, EventLogError> {
    let cut = at(number);
    let invalid = |problem| EventLogError::Event { number, problem };
    let pcr = reader.u32_le().map_err(&cut)?;
    let event_type = reader.u32_le().map_err(&cut)?;
    let digest = sha256_digest(reader, number, banks)?;
    let data = reader.counted_le().map_err(&cut)?;
    if data.len() > MAX_EVENT_DATA {
        return Err(invalid("more data than the limit"));
    }
    if pcr > MAX_PCR && event_type != EV_NO_ACTION {
        return Err(invalid("a PCR above 23"));
    }
    Ok(Event {
        number,
        pcr: u8::try_from(pcr).unwrap_or(u8::MAX),
        event_type,
        digest,
        data: data.to_vec(),
    })
}

/// A `TPML_DIGEST_VALUES` with one digest for each bank; gives the one of SHA-256.
fn sha256_digest(
    reader: &mut Reader<'_>,
    number: usize,
    banks: &[Bank],
) -> Result<[u8; 32], EventLogError> {
    let cut = at(number);
    let invalid = |problem| EventLogError::Event { number, problem };
    let count = reader.u32_le().map_err(&cut)?;
    if count as usize != banks.len() {
        return Err(invalid("another number of digests than banks"));
    }
    let mut sha256 = None;
    for _ in 0..count {
        let algorithm = reader.u16_le().map_err(&cut)?;
        let mut known = banks.iter();
        let bank = known
            .find(|bank| bank.algorithm == algorithm)
            .ok_or(invalid("a digest of a bank the header does not name"))?;
        let digest = reader.take(bank.length).map_err(&cut)?;
        if algorithm == ALG_SHA256 && sha256.replace(digest).is_some() {
            return Err(invalid("two SHA-256 digests"));
        }
    }
    sha256
        .and_then(|digest| digest.try_into().ok())
        .ok_or(invalid("no SHA-256 digest"))
}
