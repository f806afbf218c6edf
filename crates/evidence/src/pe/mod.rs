//! PE images (PE/COFF specification) as firmware measures them: the Authenticode digest, and sections.
//!
//! Read to foretell what a boot will measure. Every offset is checked; nothing is run and no signature is verified.

mod authenticode;

use std::borrow::Cow;

use crate::reader::{CutShort, Reader};

/// Largest image (bytes).
pub const MAX_IMAGE: usize = 1024 * 1024 * 1024;
/// Most sections of an image.
pub const MAX_SECTIONS: usize = 96;
/// Most zeros that a section is filled up with once it is loaded (bytes): a kernel's `.bss` is some tens of megabytes.
const MAX_ZEROS: usize = 256 * 1024 * 1024;

/// Why a file is no PE image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not one at all.
    #[error("it is not a PE image (no {0})")]
    NotPe(&'static str),
    /// A header or what it points at is not inside the file.
    #[error("the PE image is cut short: {0} ends outside the file")]
    CutShort(&'static str),
    /// More than is read.
    #[error("the PE image has {0}, more than is read")]
    TooMuch(&'static str),
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeSection<'a> {
    /// Up to eight characters.
    pub name: String,
    /// Its bytes in the file.
    raw: &'a [u8],
    /// Its size once it is loaded.
    virtual_size: usize,
}

impl<'a> PeSection<'a> {
    /// Its contents as they are in memory: `VirtualSize` bytes, filled up with zeros.
    #[must_use]
    pub fn contents(&self) -> Cow<'a, [u8]> {
        match self.raw.get(..self.virtual_size) {
            Some(contents) => Cow::Borrowed(contents),
            None => {
                let mut contents = self.raw.to_vec();
                contents.resize(self.virtual_size, 0);
                Cow::Owned(contents)
            }
        }
    }
}

/// A PE image whose headers are inside the file.
#[derive(Clone, Debug)]
pub struct PeImage<'a> {
    bytes: &'a [u8],
    /// Where the checksum is: not digested.
    checksum: usize,
    /// Where the directory entry of the certificates is: not digested.
    certificate_entry: Option<usize>,
    /// Size of the certificates at the end of the file: not digested.
    certificates: usize,
    headers: usize,
    sections: Vec<(usize, PeSection<'a>)>,
}

impl<'a> PeImage<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`PeError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        if bytes.len() > MAX_IMAGE {
            return Err(PeError::TooMuch("more than 1 GiB"));
        }
        if !bytes.starts_with(b"MZ") {
            return Err(PeError::NotPe("MZ header"));
        }
        let pe = u32_at(bytes, 0x3c).ok_or(PeError::CutShort("the MZ header"))?;
        let rest = bytes.get(pe..).ok_or(PeError::CutShort("the MZ header"))?;
        let coff = rest
            .strip_prefix(b"PE\0\0")
            .ok_or(PeError::NotPe("PE signature"))?;
        let Coff { sections, optional } =
            Coff::read(coff).map_err(|_| PeError::CutShort("the COFF header"))?;
        let optional_at = pe + 24;
        let mut image = Self::optional_header(bytes, optional_at)?;
        image.sections = self::sections(bytes, optional_at + optional, sections)?;
        Ok(image)
    }

    fn optional_header(bytes: &'a [u8], at: usize) -> Result<Self, PeError> {
        let cut = PeError::CutShort("the optional header");
        let magic = bytes.get(at..at + 2).ok_or(cut.clone())?;
        // PE32 and PE32+ (§"Optional Header"): the directories begin at 96 and at 112.
        let directories = match magic {
            [0x0b, 0x01] => at + 96,
            [0x0b, 0x02] => at + 112,
            _ => return Err(PeError::NotPe("optional header")),
        };
        let headers = u32_at(bytes, at + 60).ok_or(cut.clone())?;
        let count = u32_at(bytes, directories - 4).ok_or(cut.clone())?;
        // The fifth directory: the certificates' place and size.
        let entry = (count > 4).then_some(directories + 4 * 8);
        let certificates = match entry {
            Some(entry) => u32_at(bytes, entry + 4).ok_or(cut)?,
            None => 0,
        };
        if headers > bytes.len() || entry.is_some_and(|entry| entry + 8 > headers) {
            return Err(PeError::CutShort("the headers"));
        }
        Ok(Self {
            bytes,
            checksum: at + 64,
            certificate_entry: entry,
            certificates,
            headers,
            sections: Vec::new(),
        })
    }

    /// The first section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&PeSection<'a>> {
        self.sections().find(|section| section.name == name)
    }

    /// All sections in the order of their headers.
    pub fn sections(&self) -> impl Iterator<Item = &PeSection<'a>> {
        self.sections.iter().map(|(_, section)| section)
    }

    /// The SHA-256 Authenticode digest: what the firmware extends into PCR 4 when it starts the image.
    #[must_use]
    pub fn authenticode(&self) -> [u8; 32] {
        authenticode::digest(self)
    }
}

/// What is needed of the COFF file header.
struct Coff {
    sections: usize,
    /// Size of the optional header.
    optional: usize,
}

impl Coff {
    /// Machine, number of sections, time, symbols, size of the optional header, characteristics.
    fn read(bytes: &[u8]) -> Result<Self, CutShort> {
        let mut reader = Reader::new(bytes);
        reader.take(2)?;
        let sections = usize::from(reader.u16_le()?);
        reader.take(12)?;
        let optional = usize::from(reader.u16_le()?);
        Ok(Self { sections, optional })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let value = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*value)).ok()
}

fn sections(bytes: &[u8], at: usize, count: usize) -> Result<Vec<(usize, PeSection<'_>)>, PeError> {
    if count > MAX_SECTIONS {
        return Err(PeError::TooMuch("over 96 sections"));
    }
    let table = bytes
        .get(at..)
        .ok_or(PeError::CutShort("the section table"))?;
    let mut reader = Reader::new(table);
    (0..count).map(|_| section(bytes, &mut reader)).collect()
}

/// Name, size in memory, address, size in the file, place in the file, 16 bytes that do not matter here.
fn section<'a>(
    bytes: &'a [u8],
    reader: &mut Reader<'_>,
) -> Result<(usize, PeSection<'a>), PeError> {
    let cut = |_: CutShort| PeError::CutShort("the section table");
    let name: [u8; 8] = reader.array().map_err(cut)?;
    let mut field = || -> Result<usize, PeError> { Ok(reader.u32_le().map_err(cut)? as usize) };
    let (virtual_size, _address, size, place) = (field()?, field()?, field()?, field()?);
    reader.take(16).map_err(cut)?;
    if virtual_size.saturating_sub(size) > MAX_ZEROS {
        return Err(PeError::TooMuch("a section with over 256 MiB of zeros"));
    }
    let raw = match size {
        0 => &[][..],
        _ => bytes
            .get(place..)
            .and_then(|rest| rest.get(..size))
            .ok_or(PeError::CutShort("a section"))?,
    };
    let name = name.iter().take_while(|&&byte| byte != 0);
    let name = name.map(|&byte| char::from(byte)).collect();
    Ok((
        place,
        PeSection {
            name,
            raw,
            virtual_size,
        },
    ))
}
