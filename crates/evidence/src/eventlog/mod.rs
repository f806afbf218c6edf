//! The boot event log: TCG PC Client Platform Firmware Profile §10, crypto-agile form.
//!
//! An event's digest was extended, its type and its data were not: [`Event::claim`] reads data only where the digest
//! covers it, and says so where it does not ([`Opaque`]).

mod authority;
mod claim;
mod covered;
mod device_path;
mod event;
mod gpt;
mod guid;
pub mod kind;
mod parse;
mod sbat;
mod separator;
mod signatures;
mod tag;
mod text;
mod variable;

use crate::{
    pcr::{extend, PcrValues},
    reader::Reader,
};

pub use authority::Authority;
pub use claim::{Claim, ClaimError};
pub use covered::{Covered, Opaque};
pub use device_path::device_path_text;
pub use event::Event;
pub use gpt::{Partition, PartitionTable};
pub use guid::Guid;
pub use sbat::{Generation, SbatLevel};
pub use separator::Separator;
pub use signatures::{Certificate, Names, Signature, SignatureData, SignatureLists};
pub use text::{Section, Text};
pub use variable::Variable;

use kind::EV_NO_ACTION;

/// Most events one log may have.
pub const MAX_EVENTS: usize = 4096;

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

/// A parsed log; not believed until its replay equals quoted values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
    locality: u8,
}

impl EventLog {
    /// Parses a whole log (`binary_bios_measurements`).
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        let mut reader = Reader::new(bytes);
        let banks = parse::header(&mut reader)?;
        let mut log = Self::default();
        while !reader.is_empty() {
            let number = log.events.len() + 1;
            if number > MAX_EVENTS {
                return Err(EventLogError::Event {
                    number,
                    problem: "more events than the limit",
                });
            }
            let event = parse::event(&mut reader, number, &banks)?;
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

    /// A log of other events after the same header; they are numbered anew.
    #[must_use]
    pub fn with_events(&self, events: Vec<Event>) -> Self {
        let numbered = (1..).zip(events);
        Self {
            events: numbered
                .map(|(number, event)| Event { number, ..event })
                .collect(),
            locality: self.locality,
        }
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
