//! One event, and what it says to people.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{kind, kind::EV_NO_ACTION, text::shown};
use crate::reader::Reader;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log, counting from 0, the header being 0.
    pub number: usize,
    /// The PCR it was extended into.
    pub pcr: u8,
    /// `EV_*`. Not covered by the digest: good for a note to people, not for a decision.
    pub event_type: u32,
    /// Its digest of the SHA-256 bank.
    pub digest: [u8; 32],
    /// The event's data.
    pub data: Vec<u8>,
}

/// Types whose digest is, by the profile's table 14, over the event's data itself.
const DATA_IS_DIGESTED: [u32; 10] = [
    0x0000_0004, // EV_SEPARATOR
    0x0000_0005, // EV_ACTION
    0x0000_0006, // EV_EVENT_TAG: by the profile; the Linux EFI stub digests what the tag names instead
    0x8000_0001, // EV_EFI_VARIABLE_DRIVER_CONFIG
    0x8000_0006, // EV_EFI_GPT_EVENT
    0x8000_0007, // EV_EFI_ACTION
    0x8000_0009, // EV_EFI_HANDOFF_TABLES
    0x8000_000b, // EV_EFI_HANDOFF_TABLES2
    0x8000_00e0, // EV_EFI_VARIABLE_AUTHORITY
    0x8000_000c, // EV_EFI_VARIABLE_BOOT2
];

impl Event {
    /// Whether the event went into its PCR. `EV_NO_ACTION` events did not, and nothing vouches for them.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.event_type != EV_NO_ACTION
    }

    /// Whether the digest is that of the data: `Some(false)` where it should be and is not, `None` where the digest
    /// is of something that is not in the log (an image, the contents of a file).
    #[must_use]
    pub fn digest_covers_data(&self) -> Option<bool> {
        let covers = Sha256::digest(&self.data).as_slice() == self.digest;
        (covers || DATA_IS_DIGESTED.contains(&self.event_type)).then_some(covers)
    }

    /// The event as it would be with another string of the same encoding; `None` when it holds no string.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Option<Self> {
        super::text::rewritten(self, text)
    }

    /// The type's name.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        kind::name(self.event_type)
    }

    /// What the data says to a person: printable text of at most 160 characters, empty when there is none.
    #[must_use]
    pub fn text(&self) -> String {
        const TAG_HEADER: usize = 8;
        match self.event_type {
            // TCG_PCClientTaggedEvent: id, size, data. The Linux EFI stub names here what it has digested.
            0x0000_0006 => match shown(self.data.get(TAG_HEADER..).unwrap_or_default()) {
                name if name == "LOADED_IMAGE::LoadOptions" => {
                    format!("kernel command line ({name})")
                }
                name if name == "Linux initrd" => format!("initramfs ({name})"),
                name => name,
            },
            0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => self.variable_name(),
            0x0000_0003 | 0x0000_0005 | 0x0000_0007..=0x0000_000e | 0x8000_0007 => {
                shown(&self.data)
            }
            _ => String::new(),
        }
    }

    /// `UEFI_VARIABLE_DATA`: GUID, length of the name (characters), length of the data, name in UTF-16.
    fn variable_name(&self) -> String {
        let name = || {
            let mut reader = Reader::new(&self.data);
            reader.take(16).ok()?;
            let length = reader.take(8).ok()?.first_chunk::<4>().copied()?;
            reader.take(8).ok()?;
            let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
            reader.take(length.checked_mul(2)?).ok()
        };
        name().map(shown).unwrap_or_default()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        write!(
            f,
            "event {}, PCR {}, {}",
            self.number,
            self.pcr,
            self.type_name()
        )?;
        if text.is_empty() {
            Ok(())
        } else {
            write!(f, ": {text}")
        }
    }
}
