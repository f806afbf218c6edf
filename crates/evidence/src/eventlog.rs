//! The boot event log: TCG PC Client Platform Firmware Profile §10, crypto-agile form.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{
    pcr::{extend, PcrValues},
    reader::{CutShort, Reader},
    text::visible,
};

const EV_NO_ACTION: u32 = 3;
const ALG_SHA256: u16 = 0x000b;
/// Most events one log may have.
pub const MAX_EVENTS: usize = 4096;
/// Most banks one log may have.
const MAX_BANKS: u32 = 8;
/// Largest event (bytes).
const MAX_EVENT_DATA: usize = 512 * 1024;

/// Why a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// The log ends inside an event.
    #[error("the event log is cut short in event {0}")]
    CutShort(usize),
    /// Not a crypto-agile log.
    #[error("the event log does not start with a TCG_EfiSpecIDEvent")]
    NotCryptoAgile,
    /// The header names no SHA-256 bank, or too many banks.
    #[error("the event log has no usable SHA-256 bank")]
    Banks,
    /// An event that breaks a rule.
    #[error("event {number} of the event log is not valid: {problem}")]
    Event {
        /// Counts from 0, the header being 0.
        number: usize,
        /// Which rule.
        problem: &'static str,
    },
}

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

/// A parsed log; not believed until its replay equals quoted values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
    locality: u8,
}

/// Where the parser stands: names the event that is cut short.
fn at(number: usize) -> impl Fn(CutShort) -> EventLogError {
    move |_| EventLogError::CutShort(number)
}

impl EventLog {
    /// Parses a whole log (`binary_bios_measurements`).
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        let mut reader = Reader::new(bytes);
        let banks = header(&mut reader)?;
        let mut log = Self::default();
        while !reader.is_empty() {
            let number = log.events.len() + 1;
            if number > MAX_EVENTS {
                return Err(EventLogError::Event {
                    number,
                    problem: "more events than the limit",
                });
            }
            let event = event(&mut reader, number, &banks)?;
            log.note_locality(&event)?;
            log.events.push(event);
        }
        Ok(log)
    }

    /// The events, without the header.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The values that the events give PCRs 0 to 23 of the SHA-256 bank. PCRs without events keep their start value.
    #[must_use]
    pub fn replay(&self) -> PcrValues {
        // TPM 2.0 Part 1 §11.3: PCRs 17 to 22 start with ones.
        let mut values: [[u8; 32]; 24] = [[0; 32]; 24];
        values[17..23].fill([0xff; 32]);
        values[0][31] = self.locality;
        for event in self.events.iter().filter(|event| event.is_extended()) {
            if let Some(value) = values.get_mut(usize::from(event.pcr)) {
                *value = extend(value, &event.digest);
            }
        }
        (0..24).zip(values).collect()
    }

    /// `StartupLocality` (§10.4.5.3) says what PCR 0 starts with. It counts only before anything is extended.
    fn note_locality(&mut self, event: &Event) -> Result<(), EventLogError> {
        const SIGNATURE: &[u8] = b"StartupLocality\0";
        if event.event_type != EV_NO_ACTION {
            return Ok(());
        }
        let Some(&[locality]) = event.data.strip_prefix(SIGNATURE) else {
            return Ok(());
        };
        let problem = |problem| EventLogError::Event {
            number: event.number,
            problem,
        };
        if self.events.iter().any(|e| e.pcr == 0 && e.is_extended()) {
            return Err(problem("StartupLocality after PCR 0 was extended"));
        }
        if !matches!(locality, 0 | 3 | 4) {
            return Err(problem("a StartupLocality other than 0, 3 or 4"));
        }
        self.locality = locality;
        Ok(())
    }
}

struct Bank {
    algorithm: u16,
    length: usize,
}

/// The header: one event in the old form whose data is a `TCG_EfiSpecIDEvent`.
fn header(reader: &mut Reader<'_>) -> Result<Vec<Bank>, EventLogError> {
    let cut = at(0);
    let _pcr = reader.u32_le().map_err(&cut)?;
    let event_type = reader.u32_le().map_err(&cut)?;
    reader.take(20).map_err(&cut)?;
    let data = reader.counted_le().map_err(&cut)?;
    if event_type != EV_NO_ACTION {
        return Err(EventLogError::NotCryptoAgile);
    }
    let mut data = Reader::new(data);
    let signature = data.take(16).map_err(|_| EventLogError::NotCryptoAgile)?;
    if signature != b"Spec ID Event03\0" {
        return Err(EventLogError::NotCryptoAgile);
    }
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
    banks
        .iter()
        .any(|bank| bank.algorithm == ALG_SHA256 && bank.length == 32)
        .then_some(banks)
        .ok_or(EventLogError::Banks)
}

fn event(reader: &mut Reader<'_>, number: usize, banks: &[Bank]) -> Result<Event, EventLogError> {
    let cut = at(number);
    let invalid = |problem| EventLogError::Event { number, problem };
    let pcr = reader.u32_le().map_err(&cut)?;
    let event_type = reader.u32_le().map_err(&cut)?;
    let count = reader.u32_le().map_err(&cut)?;
    if count as usize != banks.len() {
        return Err(invalid("another number of digests than banks"));
    }
    let mut sha256 = None;
    for _ in 0..count {
        let algorithm = reader.u16_le().map_err(&cut)?;
        let bank = banks
            .iter()
            .find(|bank| bank.algorithm == algorithm)
            .ok_or(invalid("a digest of a bank the header does not name"))?;
        let digest = reader.take(bank.length).map_err(&cut)?;
        if algorithm == ALG_SHA256 && sha256.replace(digest).is_some() {
            return Err(invalid("two SHA-256 digests"));
        }
    }
    let data = reader.counted_le().map_err(&cut)?;
    if data.len() > MAX_EVENT_DATA {
        return Err(invalid("more data than the limit"));
    }
    let pcr = u8::try_from(pcr)
        .ok()
        .filter(|&pcr| pcr < 24 || event_type == EV_NO_ACTION)
        .unwrap_or(u8::MAX);
    if pcr == u8::MAX && event_type != EV_NO_ACTION {
        return Err(invalid("a PCR above 23"));
    }
    Ok(Event {
        number,
        pcr,
        event_type,
        digest: sha256
            .and_then(|digest| digest.try_into().ok())
            .ok_or(invalid("no SHA-256 digest"))?,
        data: data.to_vec(),
    })
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

    /// The type's name.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.event_type {
            0x0000_0000 => "EV_PREBOOT_CERT",
            0x0000_0001 => "EV_POST_CODE",
            0x0000_0003 => "EV_NO_ACTION",
            0x0000_0004 => "EV_SEPARATOR",
            0x0000_0005 => "EV_ACTION",
            0x0000_0006 => "EV_EVENT_TAG",
            0x0000_0007 => "EV_S_CRTM_CONTENTS",
            0x0000_0008 => "EV_S_CRTM_VERSION",
            0x0000_0009 => "EV_CPU_MICROCODE",
            0x0000_000a => "EV_PLATFORM_CONFIG_FLAGS",
            0x0000_000b => "EV_TABLE_OF_DEVICES",
            0x0000_000c => "EV_COMPACT_HASH",
            0x0000_000d => "EV_IPL",
            0x0000_000e => "EV_IPL_PARTITION_DATA",
            0x8000_0001 => "EV_EFI_VARIABLE_DRIVER_CONFIG",
            0x8000_0002 => "EV_EFI_VARIABLE_BOOT",
            0x8000_0003 => "EV_EFI_BOOT_SERVICES_APPLICATION",
            0x8000_0004 => "EV_EFI_BOOT_SERVICES_DRIVER",
            0x8000_0005 => "EV_EFI_RUNTIME_SERVICES_DRIVER",
            0x8000_0006 => "EV_EFI_GPT_EVENT",
            0x8000_0007 => "EV_EFI_ACTION",
            0x8000_0008 => "EV_EFI_PLATFORM_FIRMWARE_BLOB",
            0x8000_0009 => "EV_EFI_HANDOFF_TABLES",
            0x8000_000a => "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
            0x8000_000b => "EV_EFI_HANDOFF_TABLES2",
            0x8000_000c => "EV_EFI_VARIABLE_BOOT2",
            0x8000_00e0 => "EV_EFI_VARIABLE_AUTHORITY",
            _ => "an event of unknown type",
        }
    }

    /// What the data says to a person: printable text of at most 160 characters, empty when there is none.
    #[must_use]
    pub fn text(&self) -> String {
        const TAG_HEADER: usize = 8;
        match self.event_type {
            // TCG_PCClientTaggedEvent: id, size, data. The Linux EFI stub names here what it has digested.
            0x0000_0006 => match plain_text(self.data.get(TAG_HEADER..).unwrap_or_default()) {
                name if name == "LOADED_IMAGE::LoadOptions" => {
                    format!("kernel command line ({name})")
                }
                name if name == "Linux initrd" => format!("initramfs ({name})"),
                name => name,
            },
            0x8000_0001 | 0x8000_0002 | 0x8000_000c | 0x8000_00e0 => self.variable_name(),
            0x0000_0003 | 0x0000_0005 | 0x0000_0007..=0x0000_000e | 0x8000_0007 => {
                plain_text(&self.data)
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
        name().map(plain_text).unwrap_or_default()
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

/// UTF-8 or UTF-16LE up to the first NUL, unprintable characters replaced.
fn plain_text(data: &[u8]) -> String {
    const MAX: usize = 160;
    let wide = matches!(data, [_, 0, _, 0, ..]);
    let text: String = if wide {
        let pairs = data.chunks_exact(2).filter_map(<[u8]>::first_chunk);
        let units = pairs.map(|&pair| u16::from_le_bytes(pair));
        char::decode_utf16(units.take(MAX))
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    } else {
        String::from_utf8_lossy(data.get(..data.len().min(4 * MAX)).unwrap_or_default())
            .into_owned()
    };
    text.chars()
        .take_while(|&c| c != '\0')
        .take(MAX)
        .map(visible)
        .collect()
}
