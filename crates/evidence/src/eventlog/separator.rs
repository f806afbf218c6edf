//! `EV_SEPARATOR` (§10.4.1, table 27): the firmware hands over.

use sha2::{Digest, Sha256};

use super::{Claim, ClaimError, Event};

const CLEAN: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
const ERROR: [u8; 4] = [1, 0, 0, 0];

/// What a separator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// The firmware's measurements of this PCR end here.
    Clean,
    /// The firmware had an error and capped the PCR.
    Error,
}

impl Separator {
    /// By the digest alone: it says all there is, whatever type and data stand beside it.
    fn of_digest(digest: &[u8; 32]) -> Option<Self> {
        let is = |value: &[u8; 4]| Sha256::digest(value).as_slice() == digest;
        if CLEAN.iter().any(is) {
            Some(Self::Clean)
        } else if is(&ERROR) {
            Some(Self::Error)
        } else {
            None
        }
    }
}

/// A separator, or `None` for another event. The digest of a separator under another type, and the type with another
/// digest, are refused: both hide where the firmware handed over.
pub(super) fn claim(event: &Event) -> Result<Option<Claim<'_>>, ClaimError> {
    let says_so = event.event_type == super::kind::EV_SEPARATOR;
    match Separator::of_digest(&event.digest) {
        Some(separator) if says_so => Ok(Some(Claim::Separator(separator))),
        Some(_) => Err(ClaimError::Retyped("a separator")),
        None if says_so => Err(ClaimError::NotCovered),
        None => Ok(None),
    }
}
