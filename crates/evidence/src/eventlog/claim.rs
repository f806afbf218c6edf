//! What an event says, read only from bytes its digest vouches for.

use super::{
    authority::Authority,
    covered::{Covered, Opaque},
    gpt::PartitionTable,
    guid::Guid,
    kind,
    separator::{self, Separator},
    text::{Section, Text},
    variable::{utf16, Variable},
    Event,
};

/// Why an event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// By its type the data should be what was digested, and it is not.
    #[error("its data is not what its digest is of")]
    NotCovered,
    /// Its digest is that of something that has a type of its own, and the event has another.
    #[error("it was re-typed: its digest is that of {0}")]
    Retyped(&'static str),
    /// The data breaks the rules of its type.
    #[error("its data is not valid: {0}")]
    Malformed(&'static str),
}

/// What one event says. The event's type, which nothing vouches for, only chooses how the data is *tried*: each claim
/// holds whatever the type was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// `EV_NO_ACTION`: not extended, says nothing.
    Unmeasured,
    /// The firmware handed over.
    Separator(Separator),
    /// `EV_EFI_ACTION`, `EV_ACTION`: something happened.
    Action(String),
    /// `EV_S_CRTM_VERSION`: the firmware's version, by its own word.
    FirmwareVersion(String),
    /// A UEFI variable, e.g. `SecureBoot`.
    Variable(Variable<'a>),
    /// What verified an image.
    Authority(Authority),
    /// The partition table.
    Partitions(PartitionTable),
    /// A string of a boot loader.
    Text(Text),
    /// The name of a section of a unified kernel image; the next event of the PCR is its contents.
    Section(Section),
    /// Data that is covered and has no form known here.
    Data(Covered<'a>),
    /// The digest of something that is not in the log.
    Opaque(Opaque<'a>),
}

/// Actions of the firmware (§10.4.4) that must not hide under another type.
const ACTIONS: [&str; 4] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
];

impl Event {
    /// What the event says.
    ///
    /// # Errors
    /// [`ClaimError`] when it lies about itself.
    pub fn claim(&self) -> Result<Claim<'_>, ClaimError> {
        if !self.is_extended() {
            return Ok(Claim::Unmeasured);
        }
        if let Some(separator) = separator::claim(self)? {
            return Ok(separator);
        }
        match self.event_type {
            kind::EV_ACTION | kind::EV_EFI_ACTION => self.action(),
            kind::EV_S_CRTM_VERSION => self.firmware_version(),
            kind::EV_EFI_VARIABLE_DRIVER_CONFIG | kind::EV_EFI_VARIABLE_BOOT2 => {
                Variable::read(self.must_cover()?).map(Claim::Variable)
            }
            // Most firmware digests the contents of a boot variable alone: then its name is not covered.
            kind::EV_EFI_VARIABLE_BOOT => match Covered::whole(self) {
                Some(covered) => Variable::read(covered).map(Claim::Variable),
                None => self.other(),
            },
            kind::EV_EFI_VARIABLE_AUTHORITY => {
                let variable = Variable::read(self.must_cover()?)?;
                Authority::read(&variable).map(Claim::Authority)
            }
            kind::EV_EFI_GPT_EVENT => {
                PartitionTable::read(self.must_cover()?).map(Claim::Partitions)
            }
            _ => self.other(),
        }
    }

    fn must_cover(&self) -> Result<Covered<'_>, ClaimError> {
        Covered::whole(self).ok_or(ClaimError::NotCovered)
    }

    fn action(&self) -> Result<Claim<'_>, ClaimError> {
        self.refuse_variable(self.must_cover()?)?;
        let text = Text::of(self).ok_or(ClaimError::Malformed("an action that is no text"))?;
        Ok(Claim::Action(text.text))
    }

    /// A string in UTF-16 (EDK2) or ASCII.
    fn firmware_version(&self) -> Result<Claim<'_>, ClaimError> {
        let bytes = self.must_cover()?.bytes();
        let narrow = || String::from_utf8(bytes.to_vec()).ok();
        let text = utf16(bytes).filter(|text| text.is_ascii()).or_else(narrow);
        let text = text.ok_or(ClaimError::Malformed("a version that is no text"))?;
        let text = text.trim_end_matches('\0').to_owned();
        Ok(Claim::FirmwareVersion(text))
    }

    /// Types whose digest may be of anything.
    fn other(&self) -> Result<Claim<'_>, ClaimError> {
        if let Some(covered) = Covered::whole(self) {
            self.refuse_variable(covered)?;
        }
        if let Some(section) = Section::of(self) {
            return Ok(Claim::Section(section));
        }
        if let Some(text) = Text::of(self) {
            if ACTIONS.contains(&text.text.as_str()) {
                return Err(ClaimError::Retyped("an action of the firmware"));
            }
            return Ok(Claim::Text(text));
        }
        Ok(match Covered::whole(self) {
            Some(covered) => Claim::Data(covered),
            None => Claim::Opaque(Opaque::of(self)),
        })
    }

    /// Data that is a variable of Secure Boot or of shim belongs under a variable's type.
    fn refuse_variable(&self, covered: Covered<'_>) -> Result<(), ClaimError> {
        const OURS: [Guid; 3] = [Guid::GLOBAL, Guid::SECURITY_DATABASE, Guid::SHIM];
        match Variable::read(covered) {
            Ok(variable) if OURS.contains(&variable.vendor) => {
                Err(ClaimError::Retyped("a variable of Secure Boot"))
            }
            _ => Ok(()),
        }
    }
}
