//! An event log as rules look at it: every event that is read must be covered, extended, and known to a rule.

use std::collections::BTreeSet;

use bootkeep_evidence::{
    eventlog::{Claim, ClaimError, Event, EventLog, Separator},
    PcrValues,
};

use super::{
    document::{PhaseRule, Separators},
    phases,
};
use crate::reason::Reasons;

/// PCRs whose measurements by the firmware end with a separator.
const HANDED_OVER: std::ops::RangeInclusive<u8> = 0..=7;
/// Goes on after the log ends: systemd-pcrphase extends it.
const PHASE_PCR: u8 = 11;

/// One extended event of a PCR that is read.
pub(super) struct Seen<'a> {
    pub(super) event: &'a Event,
    pub(super) claim: Claim<'a>,
    /// Whether its PCR's separator came before it.
    pub(super) handed_over: bool,
    /// Whether a rule knows it.
    listed: bool,
}

/// The log, the quoted values and the reasons found so far.
pub(super) struct Look<'a, 'r> {
    seen: Vec<Seen<'a>>,
    pub(super) quoted: &'a PcrValues,
    pub(super) replayed: PcrValues,
    reasons: &'r mut Reasons,
}

impl<'a, 'r> Look<'a, 'r> {
    /// Reads the events of these PCRs, of `skimmed` ones only the separators. Events that lie about themselves are
    /// reasons and are not looked at further.
    pub(super) fn new(
        log: &'a EventLog,
        quoted: &'a PcrValues,
        read: &BTreeSet<u8>,
        skimmed: &BTreeSet<u8>,
        reasons: &'r mut Reasons,
    ) -> Self {
        let mut look = Self {
            seen: Vec::new(),
            quoted,
            replayed: log.replay(),
            reasons,
        };
        let mut handed_over = BTreeSet::new();
        for event in log.events() {
            let (reads, skims) = (read.contains(&event.pcr), skimmed.contains(&event.pcr));
            if !event.is_extended() || !(reads || skims) {
                continue;
            }
            match event.claim() {
                Ok(claim) => look.take(event, claim, &mut handed_over),
                Err(error) if reads || matches!(error, ClaimError::Retyped(_)) => {
                    look.liar(event, &error);
                }
                Err(_) => {}
            }
        }
        look
    }

    fn take(&mut self, event: &'a Event, claim: Claim<'a>, handed_over: &mut BTreeSet<u8>) {
        let after = handed_over.contains(&event.pcr);
        if matches!(claim, Claim::Separator(_)) {
            handed_over.insert(event.pcr);
        }
        self.seen.push(Seen {
            event,
            claim,
            handed_over: after,
            listed: false,
        });
    }

    fn liar(&mut self, event: &Event, error: &ClaimError) {
        let code = match error {
            ClaimError::NotCovered => "boot.event.not_covered",
            ClaimError::Retyped(_) => "boot.event.retyped",
            ClaimError::Malformed(_) => "boot.event.malformed",
        };
        self.reasons.add(code, format!("{event}: {error}"));
    }

    /// A reason without an event.
    pub(super) fn refuse(&mut self, code: &str, detail: impl AsRef<str>) {
        self.reasons.add(code, detail);
    }

    /// A reason that names the event. The event counts as known then: one reason is enough.
    pub(super) fn refuse_event(&mut self, index: usize, code: &str, why: impl AsRef<str>) {
        if let Some(seen) = self.seen.get_mut(index) {
            seen.listed = true;
            self.reasons
                .add(code, format!("{}: {}", seen.event, why.as_ref()));
        }
    }

    /// A rule knows this event.
    pub(super) fn list(&mut self, index: usize) {
        if let Some(seen) = self.seen.get_mut(index) {
            seen.listed = true;
        }
    }

    /// Whether a rule knows this event already.
    pub(super) fn is_listed(&self, index: usize) -> bool {
        self.seen.get(index).is_some_and(|seen| seen.listed)
    }

    /// The events of one PCR with their index.
    pub(super) fn of(&self, pcr: u8) -> impl Iterator<Item = (usize, &Seen<'a>)> {
        self.seen
            .iter()
            .enumerate()
            .filter(move |(_, seen)| seen.event.pcr == pcr)
    }

    /// What `find` makes of the events of one PCR, with their index: for rules that then refuse or list.
    pub(super) fn pick<T>(
        &self,
        pcr: u8,
        find: impl Fn(&Seen<'a>) -> Option<T>,
    ) -> Vec<(usize, T)> {
        self.of(pcr)
            .filter_map(|(index, seen)| find(seen).map(|found| (index, found)))
            .collect()
    }

    /// The log must lead to the quoted value of each of these PCRs; of PCR 11 up to a phase that is accepted.
    pub(super) fn check_replay(&mut self, pcrs: &BTreeSet<u8>, phases: &PhaseRule) {
        for &pcr in pcrs {
            if pcr == PHASE_PCR {
                phases::check(self, phases);
            } else if self.quoted.get(pcr).is_none()
                || self.replayed.get(pcr) != self.quoted.get(pcr)
            {
                let detail =
                    format!("PCR {pcr}: the event log does not replay to the quoted value");
                self.refuse("boot.replay", detail);
            }
        }
    }

    /// Every PCR of the firmware that is read is handed over once, without error.
    pub(super) fn check_separators(&mut self, rule: Separators, pcrs: &BTreeSet<u8>) {
        let found = |look: &Self, pcr| {
            look.pick(pcr, |seen| match seen.claim {
                Claim::Separator(separator) => Some(separator),
                _ => None,
            })
        };
        for &pcr in pcrs.iter().filter(|pcr| HANDED_OVER.contains(pcr)) {
            let separators = found(self, pcr);
            for (place, (index, separator)) in separators.iter().enumerate() {
                self.list(*index);
                if rule == Separators::Accept {
                    continue;
                }
                if *separator == Separator::Error {
                    let why = "the firmware capped this PCR after an error, rule separators";
                    self.refuse_event(*index, "boot.separator.error", why);
                } else if place > 0 {
                    let why = "a second separator in this PCR, rule separators";
                    self.refuse_event(*index, "boot.separator.twice", why);
                }
            }
            if separators.is_empty() && rule == Separators::Required {
                let detail = format!("PCR {pcr}: the firmware never handed over, rule separators");
                self.refuse("boot.separator.missing", detail);
            }
        }
    }

    /// Events that no rule knew, of the PCRs that are closed.
    pub(super) fn check_unlisted(&mut self, closed: &BTreeSet<u8>) {
        for seen in &self.seen {
            if !seen.listed && closed.contains(&seen.event.pcr) {
                let detail = format!("{}: no rule knows it, rule unlisted_events", seen.event);
                self.reasons.add("boot.unlisted", detail);
            }
        }
    }
}
