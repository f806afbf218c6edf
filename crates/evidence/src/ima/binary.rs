//! `binary_runtime_measurements`, little-endian.

use super::{
    replay::IMA_PCR,
    template::{OLD_DIGEST_LEN, OLD_NAME_LEN},
    Entry, ImaError, MAX_ENTRIES, MAX_TEMPLATE_DATA, MAX_TEMPLATE_NAME,
};
use crate::reader::{CutShort, Reader};

enum Trouble {
    CutShort,
    Invalid(&'static str),
}

impl From<CutShort> for Trouble {
    fn from(_: CutShort) -> Self {
        Self::CutShort
    }
}

impl From<&'static str> for Trouble {
    fn from(problem: &'static str) -> Self {
        Self::Invalid(problem)
    }
}

/// Parses entries from the start of `bytes`. Gives them and how many bytes they took: an entry that is cut short at
/// the end is left for the next call.
///
/// # Errors
/// [`ImaError`] for an entry that no continuation could make valid.
pub fn parse_binary(bytes: &[u8]) -> Result<(Vec<Entry>, usize), ImaError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    let mut consumed = 0;
    while !reader.is_empty() && entries.len() < MAX_ENTRIES {
        match entry(&mut reader) {
            Ok(entry) => entries.push(entry),
            Err(Trouble::CutShort) => break,
            Err(Trouble::Invalid(problem)) => {
                return Err(ImaError {
                    entry: entries.len(),
                    problem,
                })
            }
        }
        consumed = bytes.len() - reader.rest().len();
    }
    Ok((entries, consumed))
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, Trouble> {
    if reader.u32_le()? != u32::from(IMA_PCR) {
        return Err("not measured into PCR 10".into());
    }
    let sha1 = reader.take(20)?.try_into().map_err(|_| CutShort)?;
    let length = reader.u32_le()? as usize;
    if length > MAX_TEMPLATE_NAME {
        return Err("the template's name is over its limit".into());
    }
    let template =
        std::str::from_utf8(reader.take(length)?).map_err(|_| "the template's name is not text")?;
    let data = if template == "ima" {
        old_data(reader)?
    } else {
        let length = reader.u32_le()? as usize;
        if length > MAX_TEMPLATE_DATA {
            return Err("the template data is over its limit".into());
        }
        reader.take(length)?.to_vec()
    };
    Ok(Entry::new(template, data, sha1)?)
}

/// The list shows digest and counted name; what was hashed is the digest and the name zero-padded to 256 bytes.
fn old_data(reader: &mut Reader<'_>) -> Result<Vec<u8>, Trouble> {
    let mut data = reader.take(OLD_DIGEST_LEN)?.to_vec();
    let length = reader.u32_le()? as usize;
    if length >= OLD_NAME_LEN {
        return Err("the name is over its limit".into());
    }
    let name = reader.take(length)?;
    if name.contains(&0) {
        return Err("the name holds a NUL".into());
    }
    data.extend_from_slice(name);
    data.resize(OLD_DIGEST_LEN + OLD_NAME_LEN, 0);
    Ok(data)
}
