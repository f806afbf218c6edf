//! Which PCRs a node's share depends on.

use std::{collections::BTreeSet, str::FromStr};

use bootkeep_evidence::eventlog::{kind, EventLog};
use bootkeep_protocol::link::LATCH_PCR;

use crate::Error;

/// What identifies loader, kernel, initramfs and command line. Firmware (0 to 3) is left to the boot policy: its updates
/// would lock nodes out, and the verifier appraises it in each boot all the same.
///
/// | PCR | what |
/// |---|---|
/// | 4 | each EFI program that was started: shim, loader, kernel or unified kernel image |
/// | 7 | Secure Boot: on or off, keys, and whose signatures were used |
/// | 8 | GRUB: its commands, the kernel's command line |
/// | 9 | GRUB: the files it read; the kernel's EFI stub: initramfs and command line |
/// | 11 | systemd-stub: the sections of a unified kernel image |
/// | 12 | systemd-stub: command line and credentials from outside |
const IDENTIFYING: [u8; 6] = [4, 7, 8, 9, 11, 12];
/// Those of them that say which kernel and initramfs it is.
const DECISIVE: [u8; 4] = [4, 8, 9, 11];
/// IMA's grows all the time, the latch closes, 16 and 23 can be reset, 17 to 22 belong to other localities.
const HIGHEST: u8 = 14;
const IMA_PCR: u8 = 10;

/// PCRs of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrList(pub Vec<u8>);

impl FromStr for PcrList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pcrs = BTreeSet::new();
        for part in text.split(',') {
            let pcr: u8 = part.trim().parse().map_err(|_| {
                format!("{part:?} is not the number of a PCR; write them like 4,7,11")
            })?;
            if pcr > HIGHEST || pcr == IMA_PCR {
                return Err(format!(
                    "PCR {pcr} cannot be chosen: 0 to 9 and 11 to 14 can ({IMA_PCR} is IMA's and grows, {LATCH_PCR} is the latch)"
                ));
            }
            pcrs.insert(pcr);
        }
        Ok(Self(pcrs.into_iter().collect()))
    }
}

/// The PCRs that identify loader, kernel, initramfs and command line in the boot with this event log.
///
/// # Errors
/// [`Error::Usage`] when the log does not say what was booted.
pub fn default_pcrs(log: Option<&EventLog>) -> Result<Vec<u8>, Error> {
    let events = log.map_or(&[][..], EventLog::events);
    let extended = |pcr: u8| {
        events
            .iter()
            .any(|event| event.pcr == pcr && event.is_extended())
    };
    // Separators say where a stage ends, not what ran in it.
    let says = |pcr: u8| {
        let mut of = events.iter().filter(|event| event.pcr == pcr);
        of.any(|event| event.is_extended() && event.event_type != kind::EV_SEPARATOR)
    };
    if !DECISIVE.into_iter().any(says) {
        return Err(Error::Usage(
            "the node's boot event log does not say which kernel and initramfs it booted: name the PCRs with --pcrs, or \
             provision it without --unattended"
                .into(),
        ));
    }
    Ok(IDENTIFYING
        .into_iter()
        .filter(|&pcr| extended(pcr))
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_evidence::eventlog::Event;

    use super::*;

    fn log(events: &[(u8, u32)]) -> EventLog {
        let events = events.iter().map(|&(pcr, event_type)| Event {
            number: 0,
            pcr,
            event_type,
            digest: [1; 32],
            data: Vec::new(),
        });
        EventLog::default().with_events(events.collect())
    }

    #[test]
    fn lists_are_sorted_and_bounded() {
        let read = |text: &str| text.parse::<PcrList>();
        assert_eq!(read("11,4, 7,4").unwrap().0, [4, 7, 11]);
        for bad in [
            "", "x", "4,", "10", "15", "16", "23", "24", "-1", "256", "4;7",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_is_what_the_log_speaks_of() {
        let (separator, image) = (kind::EV_SEPARATOR, kind::EV_EFI_BOOT_SERVICES_APPLICATION);
        let grub = log(&[
            (0, kind::EV_POST_CODE),
            (4, separator),
            (4, image),
            (7, separator),
            (8, kind::EV_IPL),
            (9, kind::EV_IPL),
            (14, kind::EV_IPL),
        ]);
        assert_eq!(default_pcrs(Some(&grub)).unwrap(), [4, 7, 8, 9]);
        let uki = log(&[
            (4, image),
            (7, separator),
            (11, kind::EV_IPL),
            (12, kind::EV_IPL),
        ]);
        assert_eq!(default_pcrs(Some(&uki)).unwrap(), [4, 7, 11, 12]);
    }

    #[test]
    fn a_log_that_says_nothing_gives_no_default() {
        let silent = log(&[
            (0, kind::EV_POST_CODE),
            (4, kind::EV_SEPARATOR),
            (11, kind::EV_NO_ACTION),
        ]);
        for log in [None, Some(&silent), Some(&EventLog::default())] {
            assert_eq!(default_pcrs(log).unwrap_err().exit_code(), 2);
        }
    }
}
