//! Policies that count at one time.
//!
//! A policy goes through a fleet in generations: while machines are updated the old and the new one count side by side.
//! A boot is good when *one* live generation accepts all of it. Of the measured files each must be accepted by *a* live
//! generation: the list of one running system holds files of before and after its update. When none accepts, the reasons
//! are those of the newest.

use std::sync::Arc;

use bootkeep_evidence::{eventlog::EventLog, ima::Entry, ClockInfo, PcrValues};
use bootkeep_protocol::{kept::SignedPcrPolicy, verifier::Reason};

use crate::{
    appraise::ClockFacts,
    boot::BootPolicy,
    reason::{Reasons, Refusal},
    runtime::{RuntimePolicy, RuntimeRules},
};

/// Generations of one policy that may count at one time.
pub const MAX_LIVE: usize = 2;

/// One generation of a policy.
#[derive(Debug)]
pub struct Generation<P> {
    /// Counts from 1; 0 for a document that is nobody's generation.
    pub number: u64,
    /// Counts from then on, milliseconds since 1970 (UTC).
    pub valid_from_ms: u64,
    /// Counts until then, milliseconds since 1970 (UTC).
    pub valid_until_ms: u64,
    /// What it says. Shared by all nodes that follow it.
    pub policy: Arc<P>,
    /// PCR policies of the boots it accepts; only a boot policy has some.
    pub pcr_policies: Arc<[SignedPcrPolicy]>,
}

impl<P> Clone for Generation<P> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            pcr_policies: self.pcr_policies.clone(),
            ..*self
        }
    }
}

impl<P> Generation<P> {
    /// Whether it counts at this moment.
    #[must_use]
    pub fn counts_at(&self, now_ms: u64) -> bool {
        (self.valid_from_ms..self.valid_until_ms).contains(&now_ms)
    }
}

/// The generations of one policy, newest first.
#[derive(Debug)]
pub struct Generations<P>(Vec<Generation<P>>);

/// Generations of a boot policy.
pub type BootPolicies = Generations<BootPolicy>;
/// Generations of a runtime policy.
pub type RuntimePolicies = Generations<RuntimePolicy>;

impl<P> Default for Generations<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P> Generations<P> {
    /// These generations.
    #[must_use]
    pub fn new(mut list: Vec<Generation<P>>) -> Self {
        list.sort_by_key(|generation| std::cmp::Reverse(generation.number));
        Self(list)
    }

    /// A document of its own: one generation without an end.
    #[must_use]
    pub fn document(policy: Arc<P>) -> Self {
        Self(vec![Generation {
            number: 0,
            valid_from_ms: 0,
            valid_until_ms: u64::MAX,
            policy,
            pcr_policies: Arc::default(),
        }])
    }

    /// Newest first.
    #[must_use]
    pub fn all(&self) -> &[Generation<P>] {
        &self.0
    }

    /// Those that count at this moment, newest first, at most [`MAX_LIVE`].
    pub fn live_at(&self, now_ms: u64) -> impl Iterator<Item = &Generation<P>> {
        let live = self.0.iter();
        live.filter(move |generation| generation.counts_at(now_ms))
            .take(MAX_LIVE)
    }

    /// For an appraisal at this moment.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Live<'_, P> {
        Live {
            document: None,
            generations: &self.0,
            now_ms,
        }
    }

    /// The next moment after `now_ms` at which one begins or ends to count.
    #[must_use]
    pub fn next_change(&self, now_ms: u64) -> Option<u64> {
        let moments = self.0.iter();
        moments
            .flat_map(|generation| [generation.valid_from_ms, generation.valid_until_ms])
            .filter(|&moment| moment > now_ms)
            .min()
    }
}

/// The policies that count at one moment.
#[derive(Debug)]
pub struct Live<'a, P> {
    document: Option<&'a P>,
    generations: &'a [Generation<P>],
    now_ms: u64,
}

impl<P> Copy for Live<'_, P> {}
impl<P> Clone for Live<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'a, P> From<&'a P> for Live<'a, P> {
    /// A document: it counts at every moment.
    fn from(document: &'a P) -> Self {
        Self {
            document: Some(document),
            generations: &[],
            now_ms: 0,
        }
    }
}

impl<'a, P> Live<'a, P> {
    /// Newest first.
    fn policies(self) -> impl Iterator<Item = &'a P> {
        let counts = move |generation: &&Generation<P>| generation.counts_at(self.now_ms);
        let live = self.generations.iter().filter(counts).take(MAX_LIVE);
        let live = live.map(|generation| &*generation.policy);
        self.document.into_iter().chain(live)
    }

    /// Refuses when none counts: `policy-empty` or `policy-expired`. That says nothing about any node.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn require(self) -> Result<(), Refusal> {
        if self.policies().next().is_some() {
            return Ok(());
        }
        Err(if self.generations.is_empty() {
            Refusal::of(
                "policy-empty",
                "the policy has no generation: it accepts nothing",
            )
        } else {
            Refusal::of(
                "policy-expired",
                "no generation of the policy counts now: it accepts nothing until the tenant signs one that does",
            )
        })
    }

    /// Good when one policy finds nothing; else what the newest found.
    fn one_accepts(self, reasons: &mut Reasons, check: impl Fn(&P, &mut Reasons)) {
        let mut newest = None;
        for policy in self.policies() {
            let mut found = Reasons::default();
            check(policy, &mut found);
            if found.is_empty() {
                return;
            }
            newest.get_or_insert(found);
        }
        match (newest, self.require()) {
            (Some(found), _) => reasons.append(found),
            (None, Err(refusal)) => reasons.append_refusal(&refusal),
            (None, Ok(())) => {}
        }
    }
}

impl Live<'_, BootPolicy> {
    /// One generation accepts the whole boot.
    pub(crate) fn check(
        self,
        quoted: &PcrValues,
        log: Option<&EventLog>,
        signatures: Option<&[u8]>,
        clock: &ClockFacts,
        reasons: &mut Reasons,
    ) {
        self.one_accepts(reasons, |policy, reasons| {
            clock.check(policy.unsafe_clock(), reasons);
            policy.check(quoted, log, signatures, reasons);
        });
    }
}

impl Live<'_, BootPolicy> {
    /// What the policy would say about a boot: a dry run, which trusts nothing. Without a clock its rules are left out.
    ///
    /// # Errors
    /// [`Refusal`] with every reason.
    pub fn dry_run(
        self,
        quoted: &PcrValues,
        log: Option<&EventLog>,
        clock: Option<&ClockInfo>,
    ) -> Result<(), Refusal> {
        self.dry_run_with(quoted, log, None, clock)
    }

    /// The same with the signatures of PCR 11 that the node showed (`.pcrsig`).
    ///
    /// # Errors
    /// [`Refusal`] with every reason.
    pub fn dry_run_with(
        self,
        quoted: &PcrValues,
        log: Option<&EventLog>,
        signatures: Option<&[u8]>,
        clock: Option<&ClockInfo>,
    ) -> Result<(), Refusal> {
        let facts = clock.map_or_else(ClockFacts::default, |clock| ClockFacts::of(clock, None));
        let mut reasons = Reasons::default();
        self.check(quoted, log, signatures, &facts, &mut reasons);
        reasons.verdict()
    }
}

impl RuntimeRules for Live<'_, RuntimePolicy> {
    fn is_empty(&self) -> bool {
        self.policies().all(RuntimeRules::is_empty)
    }

    fn usable(&self) -> Result<(), Refusal> {
        self.require()?;
        if self.is_empty() {
            let detail = "the runtime policy lists no file: it accepts nothing";
            return Err(Refusal::of("runtime-policy-empty", detail));
        }
        Ok(())
    }

    fn refusal(&self, number: u64, entry: &Entry) -> Option<Reason> {
        let mut newest = None;
        // A generation that lists nothing accepts nothing, whatever its excludes say.
        for policy in self
            .policies()
            .filter(|policy| !RuntimeRules::is_empty(*policy))
        {
            newest.get_or_insert(policy.refusal(number, entry)?);
        }
        Some(newest.unwrap_or_else(|| Reason {
            code: "policy-expired".to_owned(),
            detail: "no generation of the policy counts now".to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(windows: &[(u64, u64, u64)]) -> Generations<u64> {
        let generation = |&(number, from, until): &(u64, u64, u64)| Generation {
            number,
            valid_from_ms: from,
            valid_until_ms: until,
            policy: Arc::new(number),
            pcr_policies: Arc::default(),
        };
        Generations::new(windows.iter().map(generation).collect())
    }

    fn live(set: &Generations<u64>, now_ms: u64) -> Vec<u64> {
        set.at(now_ms).policies().copied().collect()
    }

    #[test]
    fn generations_come_and_go_with_the_time() {
        let set = set(&[(1, 10, 30), (2, 20, 40), (3, 50, 60)]);
        for (now, numbers, next) in [
            (9, vec![], Some(10)),
            (10, vec![1], Some(20)),
            (20, vec![2, 1], Some(30)),
            (30, vec![2], Some(40)),
            (40, vec![], Some(50)),
            (59, vec![3], Some(60)),
            (60, vec![], None),
        ] {
            assert_eq!(live(&set, now), numbers, "{now}");
            assert_eq!(set.next_change(now), next, "{now}");
            assert_eq!(set.at(now).require().is_ok(), !numbers.is_empty(), "{now}");
        }
    }

    #[test]
    fn never_more_than_two_count() {
        let set = set(&[(1, 0, 9), (2, 0, 9), (3, 0, 9)]);
        assert_eq!(live(&set, 5), [3, 2]);
    }

    #[test]
    fn nothing_live_says_why() {
        let code =
            |set: &Generations<u64>| set.at(5).require().map_err(|r| r.reasons()[0].code.clone());
        assert_eq!(code(&set(&[])), Err("policy-empty".into()));
        assert_eq!(code(&set(&[(1, 0, 5)])), Err("policy-expired".into()));
        assert_eq!(code(&Generations::document(Arc::new(7))), Ok(()));
    }

    #[test]
    fn one_is_enough_and_the_newest_gives_the_reasons() {
        let set = set(&[(1, 0, 9), (2, 0, 9)]);
        let verdict = |good: &[u64]| {
            let mut reasons = Reasons::default();
            set.at(5).one_accepts(&mut reasons, |number, reasons| {
                if !good.contains(number) {
                    reasons.add("no", number.to_string());
                }
            });
            reasons.verdict().map_err(|refusal| refusal.to_string())
        };
        assert_eq!(verdict(&[1]), Ok(()));
        assert_eq!(verdict(&[2]), Ok(()));
        assert_eq!(verdict(&[3]), Err("2 (no)".into()));
    }
}
