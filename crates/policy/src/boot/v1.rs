//! Version 1: which PCR values and which boot events are acceptable.

use std::collections::BTreeMap;

use bootkeep_evidence::{eventlog::EventLog, PcrValues};
use serde::{Deserialize, Serialize};

use super::allowed;
use crate::{appraise::UnsafeClock, digest::Digest32, error::PolicyError, reason::Reasons};

pub(super) const VERSION: u32 = 1;
/// Most accepted values of one PCR, and most accepted events of one PCR.
const MAX_VALUES: usize = 4096;
/// PCRs whose events the firmware logs: in a known-good boot the log explains them.
const FIRMWARE_PCRS: std::ops::RangeInclusive<u8> = 0..=7;

/// The boot policy document, version 1.
///
/// ```json
/// { "version": 1,
///   "pcrs": { "0": ["<hex>"], "9": ["<hex of kernel A>", "<hex of kernel B>"] },
///   "event_log": { "required": true, "replay": [0, 9],
///                  "events": { "9": [{ "digest": "<hex>", "note": "kernel command line" }] } } }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuePolicy {
    /// 1.
    pub version: u32,
    /// Accepted values by PCR: each of these PCRs must have one of its values. Any of 0 to 9 and 11 to 14.
    pub pcrs: BTreeMap<u8, Vec<Digest32>>,
    /// What is asked of the event log.
    pub event_log: EventLogRule,
    /// About a boot after the power went without a shutdown.
    #[serde(default, skip_serializing_if = "UnsafeClock::is_default")]
    pub unsafe_clock: UnsafeClock,
}

/// Rules about the boot event log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventLogRule {
    /// Whether a node without a log is refused.
    pub required: bool,
    /// PCRs whose quoted value the log must replay to.
    #[serde(default)]
    pub replay: Vec<u8>,
    /// Accepted events by PCR: every extended event of these PCRs must have one of these digests. Such a PCR must
    /// replay, too. The type and the data of an event decide nothing: digests do not cover them all.
    #[serde(default)]
    pub events: BTreeMap<u8, Vec<EventRule>>,
}

/// One accepted event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Its digest of the SHA-256 bank.
    pub digest: Digest32,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How a boot policy is made.
#[derive(Clone, Debug, Default)]
pub struct BootOptions {
    /// PCRs left out, because they differ from boot to boot.
    pub without: Vec<u8>,
}

impl ValuePolicy {
    /// A policy from the quoted values and the log of a boot that is known to be good.
    ///
    /// All PCRs it may name are taken, but those of the options. Firmware PCRs must be explained by the log.
    ///
    /// # Errors
    /// [`PolicyError::Replay`] when the log does not explain a firmware PCR.
    pub fn from_evidence(
        quoted: &PcrValues,
        log: Option<&EventLog>,
        options: &BootOptions,
    ) -> Result<Self, PolicyError> {
        let wanted = |pcr: u8| allowed(pcr) && !options.without.contains(&pcr);
        let pcrs = quoted
            .iter()
            .filter(|(pcr, _)| wanted(*pcr))
            .map(|(pcr, value)| (pcr, vec![Digest32(*value)]))
            .collect();
        let mut policy = Self {
            version: VERSION,
            pcrs,
            event_log: EventLogRule::default(),
            unsafe_clock: UnsafeClock::default(),
        };
        if let Some(log) = log {
            policy.take_log(quoted, log)?;
        }
        Ok(policy)
    }

    fn take_log(&mut self, quoted: &PcrValues, log: &EventLog) -> Result<(), PolicyError> {
        let replayed = log.replay();
        self.event_log.required = true;
        for &pcr in self.pcrs.keys() {
            if replayed.get(pcr) == quoted.get(pcr) {
                self.event_log.replay.push(pcr);
            } else if FIRMWARE_PCRS.contains(&pcr) {
                return Err(PolicyError::Replay(pcr));
            }
        }
        for event in log.events().iter().filter(|event| event.is_extended()) {
            if !self.event_log.replay.contains(&event.pcr) {
                continue;
            }
            let rules = self.event_log.events.entry(event.pcr).or_default();
            if !rules.iter().any(|rule| rule.digest.0 == event.digest) {
                rules.push(EventRule {
                    digest: event.digest.into(),
                    note: note_of(event),
                });
            }
        }
        Ok(())
    }

    /// Checks what the form alone does not say.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub(super) fn validated(self) -> Result<Self, PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version {
                found: self.version,
                expected: VERSION,
            });
        }
        let log = &self.event_log;
        let named = self.pcrs.keys().chain(&log.replay).chain(log.events.keys());
        if let Some(&pcr) = named.into_iter().find(|pcr| !allowed(**pcr)) {
            return Err(PolicyError::Pcr(pcr));
        }
        let long = self.pcrs.values().any(|values| values.len() > MAX_VALUES)
            || log.events.values().any(|rules| rules.len() > MAX_VALUES);
        if long || log.replay.len() > usize::from(u8::MAX) {
            return Err(PolicyError::TooMany {
                what: "values or events of one PCR",
                limit: MAX_VALUES,
            });
        }
        Ok(self)
    }

    /// Accepts also what `other` accepts, PCR by PCR: for a second kernel. Only what both ask for is still asked for.
    pub(super) fn merge(&mut self, other: &Self) {
        self.pcrs.retain(|pcr, values| {
            let Some(theirs) = other.pcrs.get(pcr) else {
                return false;
            };
            values.extend(theirs);
            values.sort_unstable();
            values.dedup();
            true
        });
        let log = &mut self.event_log;
        log.required &= other.event_log.required;
        log.replay
            .retain(|pcr| other.event_log.replay.contains(pcr));
        log.events.retain(|pcr, rules| {
            let Some(theirs) = other.event_log.events.get(pcr) else {
                return false;
            };
            for rule in theirs {
                if !rules.iter().any(|mine| mine.digest == rule.digest) {
                    rules.push(rule.clone());
                }
            }
            true
        });
    }

    /// Whether it accepts nothing because it asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.pcrs.is_empty()
    }

    /// What a person should know before relying on this policy.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_empty() {
            warnings.push("it names no PCR: it accepts nothing".to_owned());
        }
        let measured = |pcr: u8| {
            self.pcrs
                .get(&pcr)
                .is_some_and(|values| values.iter().all(|value| value.0 != [0; 32]))
        };
        if !(measured(9) || measured(11)) {
            warnings.push(
                "PCR 4/9/11 do not cover kernel, initramfs and command line: this firmware did not measure them, \
                 so any kernel passes"
                    .to_owned(),
            );
        }
        for (pcr, what) in [
            (0, "the firmware"),
            (4, "the boot loader"),
            (7, "Secure Boot's state"),
        ] {
            if !self.pcrs.contains_key(&pcr) {
                warnings.push(format!("PCR {pcr} is left out: {what} may be any"));
            }
        }
        if !self.event_log.required {
            warnings.push("no event log is required: refusals cannot name the event".to_owned());
        }
        warnings
    }

    /// A line for each PCR and event.
    pub(super) fn summary(&self) -> Vec<String> {
        let log = if self.event_log.required {
            "event log: required"
        } else {
            "event log: not required"
        };
        let values = self.pcrs.iter();
        let values = values.map(|(pcr, values)| format!("PCR {pcr}: one of {}", values.len()));
        let events = self.event_log.events.iter().flat_map(|(pcr, rules)| {
            rules
                .iter()
                .map(move |rule| format!("PCR {pcr}: event {}", rule.note))
        });
        std::iter::once(log.to_owned())
            .chain(values)
            .chain(events)
            .collect()
    }

    /// The event-log rules, then the PCR values.
    pub(super) fn check(&self, quoted: &PcrValues, log: Option<&EventLog>, reasons: &mut Reasons) {
        match log {
            Some(log) => self.check_log(quoted, log, reasons),
            None if self.event_log.required => {
                reasons.add(
                    "event-log-missing",
                    "the node sent no boot event log, the policy requires one",
                );
            }
            None => {}
        }
        for (&pcr, accepted) in &self.pcrs {
            check_value(pcr, accepted, quoted, reasons);
        }
    }

    fn check_log(&self, quoted: &PcrValues, log: &EventLog, reasons: &mut Reasons) {
        let replayed = log.replay();
        let rules = &self.event_log;
        let mut must_replay: Vec<u8> = rules.replay.clone();
        must_replay.extend(rules.events.keys());
        must_replay.sort_unstable();
        must_replay.dedup();
        for pcr in must_replay {
            if replayed.get(pcr) != quoted.get(pcr) || quoted.get(pcr).is_none() {
                reasons.add(
                    "event-log-replay",
                    format!("PCR {pcr}: the event log does not replay to the quoted value"),
                );
            }
        }
        for event in log.events().iter().filter(|event| event.is_extended()) {
            let Some(accepted) = rules.events.get(&event.pcr) else {
                continue;
            };
            if !accepted.iter().any(|rule| rule.digest.0 == event.digest) {
                reasons.add(
                    "boot-event",
                    format!("{event}: not the digest the policy expects"),
                );
            }
        }
    }
}

fn note_of(event: &bootkeep_evidence::eventlog::Event) -> String {
    let text = event.text();
    if text.is_empty() {
        event.type_name().to_owned()
    } else {
        format!("{}: {text}", event.type_name())
    }
}

fn check_value(pcr: u8, accepted: &[Digest32], quoted: &PcrValues, reasons: &mut Reasons) {
    let value = quoted.get(pcr).copied().map(Digest32);
    if value.is_some_and(|value| accepted.contains(&value)) {
        return;
    }
    let detail = match value {
        Some(value) => format!("PCR {pcr} is {value}: not a value the policy accepts"),
        None => format!("PCR {pcr} was not quoted"),
    };
    reasons.add("pcr-value", detail);
}
