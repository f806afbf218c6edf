//! RPM packages: their header lists each file with its digest, so that nothing is unpacked (RPM V4 package format).

use std::io::Read;

use crate::unpack::{bad, member_path, Found, Unpack};

/// Length of the lead (bytes).
const LEAD: usize = 96;
/// Most entries, and most bytes, of one header.
const MAX_ENTRIES: usize = 64 * 1024;
const MAX_STORE: usize = 256 * 1024 * 1024;
const MAX_FILES: usize = 1_000_000;

const FILE_MODES: u32 = 1030;
const FILE_DIGESTS: u32 = 1035;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const DIGEST_ALGORITHM: u32 = 5011;

const INT16: u32 = 3;
const INT32: u32 = 4;
const STRINGS: u32 = 8;
/// RFC 4880 §9.4.
const SHA256: u32 = 8;
const TYPE: u16 = 0o170_000;
const REGULAR: u16 = 0o100_000;

struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

/// A header: an index of typed values, and the store they are in.
struct Header {
    entries: Vec<Entry>,
    store: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn exactly(reader: &mut dyn Read, length: usize) -> Result<Vec<u8>, Unpack> {
    let mut bytes = Vec::new();
    reader.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(bad("rpm: it ends too early").into());
    }
    Ok(bytes)
}

impl Header {
    fn read(reader: &mut dyn Read) -> Result<Self, Unpack> {
        let head = exactly(reader, 16)?;
        if !head.starts_with(&[0x8e, 0xad, 0xe8, 0x01]) {
            return Err(bad("rpm: a header does not begin as one").into());
        }
        let size = |at| word(&head, at).map_or(usize::MAX, |size| size as usize);
        let (count, length) = (size(8), size(12));
        if count > MAX_ENTRIES || length > MAX_STORE {
            return Err(bad("rpm: a header is too large").into());
        }
        let index = exactly(reader, count * 16)?;
        let entry = |bytes: &[u8]| {
            Some(Entry {
                tag: word(bytes, 0)?,
                kind: word(bytes, 4)?,
                offset: word(bytes, 8)? as usize,
                count: word(bytes, 12)? as usize,
            })
        };
        Ok(Self {
            entries: index.chunks_exact(16).filter_map(entry).collect(),
            store: exactly(reader, length)?,
        })
    }

    fn values(&self, tag: u32, kind: u32) -> Option<(&[u8], usize)> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.tag == tag && entry.kind == kind)?;
        let values = self.store.get(entry.offset..)?;
        (entry.count <= MAX_FILES).then_some((values, entry.count))
    }

    fn integers(&self, tag: u32) -> Option<Vec<u32>> {
        let (bytes, count) = self.values(tag, INT32)?;
        (0..count).map(|number| word(bytes, number * 4)).collect()
    }

    fn modes(&self) -> Option<Vec<u16>> {
        let (bytes, count) = self.values(FILE_MODES, INT16)?;
        let bytes = bytes.get(..count.checked_mul(2)?)?;
        let pairs = bytes.chunks_exact(2);
        Some(
            pairs
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect(),
        )
    }

    fn strings(&self, tag: u32) -> Option<Vec<&[u8]>> {
        let (mut bytes, count) = self.values(tag, STRINGS)?;
        let mut strings = Vec::new();
        for _ in 0..count {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            strings.push(&bytes[..end]);
            bytes = &bytes[end + 1..];
        }
        Some(strings)
    }
}

/// The header that speaks of the package; the one before it holds signatures.
fn main_header(reader: &mut dyn Read) -> Result<Header, Unpack> {
    let lead = exactly(reader, LEAD)?;
    if !lead.starts_with(&[0xed, 0xab, 0xee, 0xdb]) {
        return Err(bad("not an RPM package").into());
    }
    let signatures = Header::read(reader)?;
    let length = signatures.store.len();
    exactly(reader, length.next_multiple_of(8) - length)?;
    Header::read(reader)
}

/// Tells of each regular file of a package.
pub(super) fn files(reader: &mut dyn Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let header = main_header(reader)?;
    let Some(names) = header.strings(BASE_NAMES) else {
        // A package without files, for its dependencies alone.
        return Ok(());
    };
    let algorithm = header.integers(DIGEST_ALGORITHM).unwrap_or_default();
    if algorithm.first() != Some(&SHA256) {
        return Err(bad("rpm: its files have digests other than SHA-256").into());
    }
    let lists = header
        .strings(DIR_NAMES)
        .zip(header.integers(DIR_INDEXES))
        .zip(header.strings(FILE_DIGESTS))
        .zip(header.modes());
    let Some((((folders, places), digests), modes)) = lists else {
        return Err(bad("rpm: the list of files is not whole").into());
    };
    if [places.len(), digests.len(), modes.len()] != [names.len(); 3] {
        return Err(bad("rpm: the lists of files do not have one length").into());
    }
    for (number, name) in names.iter().enumerate() {
        // Files that the package only owns (%ghost) have no digest.
        if modes[number] & TYPE != REGULAR || digests[number].is_empty() {
            continue;
        }
        let folder = folders.get(places[number] as usize).copied();
        let folder = folder.ok_or_else(|| bad("rpm: a file has no folder"))?;
        let mut digest = [0; 32];
        hex::decode_to_slice(digests[number], &mut digest)
            .map_err(|_| bad("rpm: a digest is not SHA-256"))?;
        if let Some(path) = member_path(&[folder, name].concat()) {
            found(&path, digest).map_err(Unpack::Taken)?;
        }
    }
    Ok(())
}
