//! What systemd-stub measures of a unified kernel image (systemd-stub(7); order in `src/fundamental/uki.h`).

use bootkeep_evidence::{
    eventlog::{kind, Event},
    pe::{PeError, PeImage},
};
use sha2::{Digest, Sha256};

use super::{
    cpio::{extra_file, pad},
    files::{sha256, NewUki},
};
use crate::digest::Digest32;

const PCR: u8 = 11;

/// Sections in the order they are measured. `.pcrsig` is not: it holds signatures of the outcome.
const MEASURED: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids", ".efifw",
];
/// The last version whose additions to the initramfs are known: the archives of `.pcrsig` and `.pcrpkey`.
const LAST_KNOWN_ARCHIVES: u32 = 255;

/// Why a file is no unified kernel image that can be foretold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// Not a PE image.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// Another stub, or none.
    #[error("it does not say which systemd-stub it has (.sdmagic): it is no unified kernel image, or one with another stub")]
    Stub,
    /// No kernel in it.
    #[error("it has no section .linux, or it holds no PE image")]
    Linux,
    /// Which one counts is decided when it starts.
    #[error("it has several sections {0}: images with profiles cannot be foretold")]
    Twice(&'static str),
}

/// What is in a unified kernel image, as it is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiContents {
    /// Sections and the digests of their contents, in the order of measurement.
    pub sections: Vec<(String, Digest32)>,
    /// Authenticode digest of the kernel in it, which the firmware measures when the stub starts it.
    pub kernel: Digest32,
    /// The command line that the stub gives the kernel, when there is one in the image.
    pub command_line: Option<String>,
    /// SHA-256 of the initramfs as the kernel gets it; `None` when this version of the stub adds unknown archives.
    pub initrd: Option<Digest32>,
    /// Signatures of PCR 11 it carries (`.pcrsig`).
    pub signatures: Option<Vec<u8>>,
    /// Main version of systemd-stub.
    pub stub: u32,
}

impl NewUki {
    /// Of a file.
    ///
    /// # Errors
    /// [`UkiError`].
    pub fn read(bytes: &[u8]) -> Result<Self, UkiError> {
        let image = PeImage::parse(bytes)?;
        Ok(Self {
            authenticode: image.authenticode().into(),
            contents: Some(UkiContents::of(&image)?),
        })
    }
}

impl UkiContents {
    fn of(image: &PeImage<'_>) -> Result<Self, UkiError> {
        let stub = stub_version(image).ok_or(UkiError::Stub)?;
        let linux = image.section(".linux").ok_or(UkiError::Linux)?.contents();
        let kernel = PeImage::parse(&linux).map_err(|_| UkiError::Linux)?;
        let mut sections = Vec::new();
        for name in MEASURED {
            let mut found = image.sections().filter(|section| section.name == name);
            let Some(section) = found.next() else {
                continue;
            };
            if found.next().is_some() {
                return Err(UkiError::Twice(name));
            }
            let contents = section.contents();
            if knows(image, name) && !contents.is_empty() {
                sections.push((name.to_owned(), sha256(&contents)));
            }
        }
        let command_line = image.section(".cmdline");
        Ok(Self {
            sections,
            kernel: kernel.authenticode().into(),
            command_line: command_line.map(|section| as_load_options(&section.contents())),
            signatures: image
                .section(".pcrsig")
                .map(|section| section.contents().into_owned()),
            initrd: (stub <= LAST_KNOWN_ARCHIVES).then(|| initrd(image)),
            stub,
        })
    }

    /// The events of PCR 11: for each section its name with a NUL, then its contents.
    pub(super) fn events(&self) -> Vec<Event> {
        let event = |digest, name: &str| Event {
            number: 0,
            pcr: PCR,
            event_type: kind::EV_IPL,
            digest,
            data: wide(&format!("{name}\0")),
        };
        let sections = self.sections.iter();
        sections
            .flat_map(|(name, contents)| {
                let named = Sha256::digest(format!("{name}\0")).into();
                [event(named, name), event(contents.0, name)]
            })
            .collect()
    }
}

/// `#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####`
fn stub_version(image: &PeImage<'_>) -> Option<u32> {
    let magic = image.section(".sdmagic")?.contents();
    let text = std::str::from_utf8(&magic).ok()?;
    let (_, version) = text.split_once("LoaderInfo: systemd-stub ")?;
    let end = version.find(|c: char| !c.is_ascii_digit());
    version.get(..end.unwrap_or(version.len()))?.parse().ok()
}

/// A stub measures the sections whose names it has among its own data.
fn knows(image: &PeImage<'_>, name: &str) -> bool {
    let text = format!("{name}\0");
    let own = image
        .sections()
        .filter(|section| !MEASURED.contains(&section.name.as_str()) && section.name != ".pcrsig");
    own.into_iter().any(|section| {
        let contents = section.contents();
        contents
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

/// As `mangle_stub_cmdline` makes it: control characters are blanks, none at the end; up to the first NUL.
fn as_load_options(section: &[u8]) -> String {
    let text = section.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.replace(|c: char| c <= '\u{1f}', " ");
    text.trim_end_matches(' ').to_owned()
}

/// The initramfs of the image, and what systemd-stub adds: the signatures of PCR 11 and their key, as archives.
fn initrd(image: &PeImage<'_>) -> Digest32 {
    let contents = |name: &str| {
        let section = image.section(name).map(|section| section.contents());
        section.filter(|contents| !contents.is_empty())
    };
    let mut all = contents(".initrd").unwrap_or_default().into_owned();
    let signatures = contents(".pcrsig");
    let key = contents(".pcrpkey");
    if signatures.is_some() || key.is_some() {
        pad(&mut all);
    }
    for (name, contents) in [
        ("tpm2-pcr-signature.json", signatures),
        ("tpm2-pcr-public-key.pem", key),
    ] {
        if let Some(contents) = contents {
            all.extend(extra_file(name, &contents));
        }
    }
    sha256(&all)
}

pub(super) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
