//! A boot that is known to be good, event by event.

use bootkeep_evidence::{
    eventlog::{Authority, Claim, Event, EventLog, Guid, Variable},
    PcrValues,
};

use crate::{
    appraise::KnownGood,
    boot::{document::PhaseRule, phases},
    error::PolicyError,
};

/// A boot whose log explains its PCRs and does not lie about itself.
pub(super) struct Boot<'a> {
    pub(super) pcrs: &'a PcrValues,
    pub(super) log: Option<Vec<(&'a Event, Claim<'a>)>>,
}

impl<'a> Boot<'a> {
    pub(super) fn of(number: usize, good: &'a KnownGood) -> Result<Self, PolicyError> {
        let problem = |problem: String| PolicyError::KnownGood {
            boot: number,
            problem,
        };
        let log = good.event_log.as_ref().map(|log| {
            explain(&good.pcrs, log).map_err(problem)?;
            let events = log.events().iter().filter(|event| event.is_extended());
            events
                .map(|event| match event.claim() {
                    Ok(claim) => Ok((event, claim)),
                    Err(error) => Err(problem(format!("{event}: {error}"))),
                })
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            pcrs: &good.pcrs,
            log: log.transpose()?,
        })
    }

    /// What `find` makes of the events of one PCR.
    pub(super) fn pick<T>(
        &self,
        pcr: u8,
        find: impl Fn(&Event, &Claim<'a>) -> Option<T>,
    ) -> Vec<T> {
        let events = self.log.iter().flatten();
        events
            .filter(|(event, _)| event.pcr == pcr)
            .filter_map(|(event, claim)| find(event, claim))
            .collect()
    }

    pub(super) fn variable(&self, vendor: Guid, name: &str) -> Option<Variable<'a>> {
        let found = self.pick(7, |_, claim| match claim {
            Claim::Variable(variable) if variable.is(vendor, name) => Some(variable.clone()),
            _ => None,
        });
        found.into_iter().next()
    }

    pub(super) fn secure(&self) -> bool {
        let state = self.variable(Guid::GLOBAL, "SecureBoot");
        state.and_then(|variable| variable.switch()) == Some(true)
    }

    pub(super) fn strings(&self, pcr: u8) -> Vec<String> {
        self.pick(pcr, |_, claim| match claim {
            Claim::Text(text) => Some(text.text.clone()),
            _ => None,
        })
    }

    pub(super) fn authorities(&self) -> Vec<Authority> {
        self.pick(7, |_, claim| match claim {
            Claim::Authority(authority) => Some(authority.clone()),
            _ => None,
        })
    }
}

/// The log leads to every PCR but those it says nothing of and those that go on after it.
fn explain(quoted: &PcrValues, log: &EventLog) -> Result<(), String> {
    let replayed = log.replay();
    for pcr in (0..=9).chain(12..=14) {
        if replayed.get(pcr) != quoted.get(pcr) {
            return Err(format!(
                "the event log does not replay to the quoted PCR {pcr}: this boot is not a known-good one"
            ));
        }
    }
    let (start, value) = (replayed.get(11), quoted.get(11));
    let paths = PhaseRule::default().running;
    let known = |start: &[u8; 32]| {
        let reached = |path: &String| Some(&phases::after(start, path)) == value;
        paths.iter().any(reached)
    };
    if start.is_some_and(known) {
        return Ok(());
    }
    Err("the event log and no phase lead to the quoted PCR 11".to_owned())
}

/// Names and digests of the sections of a unified kernel image.
pub(super) fn sections(boot: &Boot<'_>) -> Vec<(String, [u8; 32])> {
    let events = boot.pick(11, |event, claim| match claim {
        Claim::Section(section) => Some((Some(section.name.clone()), event.digest)),
        _ => Some((None, event.digest)),
    });
    let mut all = Vec::new();
    let mut current = None;
    for (name, digest) in events {
        match current.take() {
            Some(section) => all.push((section, digest)),
            None => current = name,
        }
    }
    all
}
