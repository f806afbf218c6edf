//! The generations of one named policy, and which further one may be taken.

use std::collections::BTreeMap;

use bootkeep_policy::{SignedPolicy, MAX_LIVE};
use bootkeep_protocol::{
    policy::{PolicyKind, PolicyRecord},
    Problem, ProblemKind,
};

/// Generations of one name that are kept; older ones that no longer count make room.
const MAX_KEPT: usize = 8;

/// A generation as it is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Absent when its row could not be read: then it only keeps older generations out.
    pub(super) policy: Option<SignedPolicy>,
    pub(super) retired: bool,
}

impl Known {
    fn window(&self) -> Option<(u64, u64)> {
        let policy = self.policy.as_ref().filter(|_| !self.retired)?;
        Some(policy.window_ms())
    }

    fn counts_at(&self, now_ms: u64) -> bool {
        self.window()
            .is_some_and(|(from, until)| (from..until).contains(&now_ms))
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.window().is_none_or(|(_, until)| until <= now_ms)
    }
}

/// What is to be done for a generation that may be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// It is there already.
    Known,
    /// Store it, and delete these.
    New(Vec<u64>),
}

/// All generations of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) generations: BTreeMap<u64, Known>,
}

fn conflict(code: &str, detail: String) -> Problem {
    Problem::new(ProblemKind::Conflict, code, detail)
}

impl Named {
    /// Whether this generation may be taken.
    pub(super) fn consider(&self, new: &SignedPolicy, now_ms: u64) -> Result<Taking, Problem> {
        let (name, number) = (new.name(), new.generation());
        if let Some(known) = self.generations.get(&number) {
            let digest = known.policy.as_ref().map(SignedPolicy::digest);
            return if digest == Some(new.digest()) {
                Ok(Taking::Known)
            } else {
                let detail = format!("generation {number} of {name:?} has another content here: give the new one a number above it");
                Err(conflict("policy-exists", detail))
            };
        }
        if let Some(newest) = self.generations.keys().next_back().filter(|n| **n > number) {
            let detail = format!("generation {number} of {name:?} is older than {newest}, which is known here: policies do not go back");
            return Err(conflict("policy-rolled-back", detail));
        }
        if new.window_ms().1 <= now_ms {
            let detail = format!("the time of generation {number} of {name:?} is over");
            return Err(conflict("policy-expired", detail));
        }
        self.check_overlap(new)?;
        self.make_room(now_ms).map(Taking::New)
    }

    /// At no moment more than [`MAX_LIVE`] count: looked at where windows begin.
    fn check_overlap(&self, new: &SignedPolicy) -> Result<(), Problem> {
        let (from, until) = new.window_ms();
        let windows = || {
            let known = self.generations.iter();
            known.filter_map(|(number, known)| Some((*number, known.window()?)))
        };
        let within = |moment: &u64| (from..until).contains(moment);
        let begins = windows().map(|(_, (begin, _))| begin).filter(within);
        for moment in begins.chain([from]) {
            let others: Vec<(u64, u64)> = windows()
                .filter(|(_, (begin, end))| (*begin..*end).contains(&moment))
                .map(|(number, (_, end))| (number, end))
                .collect();
            if let Some((oldest, end)) = others.first().filter(|_| others.len() >= MAX_LIVE) {
                let detail = format!(
                    "of {:?} {} generations would count at one time, {MAX_LIVE} may: retire generation {oldest}, or let this \
                     one begin when it ends (valid_from_ms {end} or later)",
                    new.name(),
                    others.len() + 1
                );
                return Err(conflict("too-many-live", detail));
            }
        }
        Ok(())
    }

    /// Generations to delete so that one more can be kept: the oldest that never count again.
    fn make_room(&self, now_ms: u64) -> Result<Vec<u64>, Problem> {
        let too_many = (self.generations.len() + 1).saturating_sub(MAX_KEPT);
        let over = self.generations.iter();
        let over = over.filter(|(_, known)| known.is_over(now_ms));
        let room: Vec<u64> = over.map(|(number, _)| *number).take(too_many).collect();
        if room.len() < too_many {
            let detail =
                format!("{MAX_KEPT} generations of this policy are still to count: retire some");
            return Err(conflict("too-many-generations", detail));
        }
        Ok(room)
    }

    /// Whether retiring this one leaves nothing that counts.
    pub(super) fn is_last(&self, generation: u64, now_ms: u64) -> bool {
        let counts = |number: &u64| {
            let known = self.generations.get(number);
            known.is_some_and(|known| known.counts_at(now_ms))
        };
        counts(&generation)
            && !self
                .generations
                .keys()
                .any(|n| *n != generation && counts(n))
    }

    /// Those that may count, now or later.
    pub(super) fn usable(&self) -> impl Iterator<Item = &SignedPolicy> {
        let usable = self.generations.values().filter(|known| !known.retired);
        usable.filter_map(|known| known.policy.as_ref())
    }

    pub(super) fn live(&self, now_ms: u64) -> u64 {
        let known = self.generations.values();
        known.filter(|known| known.counts_at(now_ms)).count() as u64
    }

    /// For the tenant; `None` when there is no such generation or its row could not be read.
    pub(super) fn record(
        &self,
        kind: PolicyKind,
        generation: u64,
        nodes: u64,
        now_ms: u64,
    ) -> Option<PolicyRecord> {
        let known = self.generations.get(&generation)?;
        let policy = known.policy.as_ref()?;
        let (valid_from_ms, valid_until_ms) = policy.window_ms();
        Some(PolicyRecord {
            name: policy.name().to_owned(),
            kind,
            generation,
            valid_from_ms,
            valid_until_ms,
            digest: policy.digest().to_owned(),
            key_id: policy.key_id().to_owned(),
            live: known.counts_at(now_ms),
            retired: known.retired,
            nodes,
        })
    }
}
