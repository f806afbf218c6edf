//! What is thought of a node: pure, from verdicts and timestamps.
//!
//! Nothing here waits or runs: whether a node is trusted is worked out when somebody asks, from the moment trust ends.
//! A task that died cannot leave a node looking good.

use bootkeep_evidence::printable;
use bootkeep_policy::{Attested, Baseline, Booted, Refusal};
use bootkeep_protocol::{
    limits::{clean_text, MAX_CLAIMS},
    link::Claim,
    verifier::{Reason, State},
    BootId, Bytes, Phase,
};
use serde::{Deserialize, Serialize};

/// How long a boot may take from its appraisal to the first attestation of the running system.
const BOOT_MS: u64 = 15 * 60 * 1000;
/// Trust lasts this many attestation intervals.
const INTERVALS: u64 = 3;

/// The last word about a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", deny_unknown_fields)]
pub(crate) enum Verdict {
    /// Nothing was appraised in this boot.
    #[default]
    Waiting,
    /// Its boot was good.
    BootTrusted {
        /// When that ends.
        until_ms: u64,
    },
    /// Its running system was good.
    Trusted {
        /// When that ends.
        until_ms: u64,
    },
    /// Evidence was refused: until the tenant acts.
    Untrusted,
    /// Until the tenant enrols it anew.
    Revoked,
}

/// Verdict and what belongs to it. Stored as one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trust {
    pub(crate) verdict: Verdict,
    pub(crate) since_ms: u64,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) confirmation: Option<Bytes>,
    pub(crate) boot_id: Option<BootId>,
    /// Of the boot that was appraised last.
    pub(crate) baseline: Option<Baseline>,
    pub(crate) attestations: u64,
    pub(crate) ima_entries: u64,
    pub(crate) clock_safe: Option<bool>,
    /// The value of PCR 15 this boot has shown, when the node has several K: from then on no other.
    #[serde(default)]
    pub(crate) latched: Option<Bytes>,
}

impl Trust {
    /// Of a node that was enrolled just now.
    pub(crate) fn waiting(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            ..Self::default()
        }
    }

    /// Where the node stands at this moment.
    pub(crate) fn state_at(&self, now_ms: u64, links: &[Phase]) -> State {
        match self.verdict {
            Verdict::Waiting => State::Waiting,
            Verdict::Untrusted => State::Untrusted,
            Verdict::Revoked => State::Revoked,
            Verdict::BootTrusted { until_ms } if now_ms < until_ms => State::BootTrusted,
            Verdict::Trusted { until_ms } if now_ms < until_ms => State::Trusted,
            Verdict::BootTrusted { .. } | Verdict::Trusted { .. } if links.is_empty() => {
                State::Unreachable
            }
            Verdict::BootTrusted { .. } | Verdict::Trusted { .. } => State::Stale,
        }
    }

    /// When trust ends, if there is any.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        match self.verdict {
            Verdict::BootTrusted { until_ms } | Verdict::Trusted { until_ms } => Some(until_ms),
            _ => None,
        }
    }

    /// Since when the state is what it is at `now_ms`: running out is a change too.
    pub(crate) fn since_at(&self, now_ms: u64) -> u64 {
        match self.until_ms() {
            Some(until_ms) if until_ms <= now_ms => until_ms,
            _ => self.since_ms,
        }
    }

    /// Whether evidence may still change the verdict for the better.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.verdict, Verdict::Untrusted | Verdict::Revoked)
    }

    fn set(&mut self, verdict: Verdict, now_ms: u64) {
        if std::mem::discriminant(&verdict) != std::mem::discriminant(&self.verdict) {
            self.since_ms = now_ms;
        }
        self.verdict = verdict;
    }

    /// Another boot than the appraised one showed up: what was known of the old one is over.
    pub(crate) fn begin_boot(&mut self, boot_id: &BootId, now_ms: u64) {
        if self.is_open() {
            self.set(Verdict::Waiting, now_ms);
            self.reasons.clear();
        }
        self.claims.clear();
        self.confirmation = None;
        self.latched = None;
        self.attestations = 0;
        self.ima_entries = 0;
        self.boot_id = Some(boot_id.clone());
    }

    /// The boot was appraised and is good.
    pub(crate) fn boot_trusted(&mut self, booted: &Booted, now_ms: u64) {
        if !self.is_open() {
            return;
        }
        let until_ms = now_ms + BOOT_MS;
        self.set(Verdict::BootTrusted { until_ms }, now_ms);
        self.reasons.clear();
        self.ima_entries = booted.ima().entries();
        for claim in booted.claims() {
            self.claim(claim);
        }
        self.take_baseline(booted.baseline());
    }

    /// The running system was attested and is good; PCR 15 had this value.
    pub(crate) fn attested(
        &mut self,
        attested: &Attested,
        latched: &[u8; 32],
        interval_seconds: u32,
        now_ms: u64,
    ) {
        if !self.is_open() {
            return;
        }
        self.latched = Some(latched.as_slice().into());
        let until_ms = now_ms + INTERVALS * u64::from(interval_seconds) * 1000;
        self.set(Verdict::Trusted { until_ms }, now_ms);
        self.reasons.clear();
        self.attestations += 1;
        self.ima_entries = attested.ima_entries();
        self.take_baseline(attested.baseline());
    }

    fn take_baseline(&mut self, baseline: &Baseline) {
        self.clock_safe = Some(baseline.clock().safe);
        self.baseline = Some(baseline.clone());
    }

    /// Evidence was refused.
    pub(crate) fn refused(&mut self, refusal: &Refusal, now_ms: u64) {
        if self.verdict != Verdict::Revoked {
            self.set(Verdict::Untrusted, now_ms);
            self.reasons = refusal.reasons();
        }
    }

    /// There is something to say why the node is not trusted yet; the verdict stays.
    pub(crate) fn explain(&mut self, code: &str, detail: &str) {
        if self.verdict == Verdict::Waiting {
            self.reasons = Refusal::of(code, detail).reasons();
        }
    }

    /// The tenant's word.
    pub(crate) fn revoked(&mut self, reason: &str, now_ms: u64) {
        self.set(Verdict::Revoked, now_ms);
        self.reasons = Refusal::of("revoked", reason).reasons();
        self.confirmation = None;
    }

    /// Keeps a claim; false when it is known or there are too many.
    pub(crate) fn claim(&mut self, claim: &Claim) -> bool {
        let claim = Claim {
            code: clean_text(&printable(&claim.code)),
            detail: clean_text(&printable(&claim.detail)),
        };
        if self.claims.len() >= MAX_CLAIMS || self.claims.contains(&claim) {
            return false;
        }
        self.claims.push(claim);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trusted_until(until_ms: u64) -> Trust {
        Trust {
            verdict: Verdict::Trusted { until_ms },
            since_ms: 5,
            ..Trust::default()
        }
    }

    #[test]
    fn silence_ends_trust_without_anybody_doing_anything() {
        let trust = trusted_until(100);
        let links = [Phase::Runtime];
        for (now, links, state, since) in [
            (99, &links[..], State::Trusted, 5),
            (99, &[], State::Trusted, 5),
            (100, &links, State::Stale, 100),
            (100, &[], State::Unreachable, 100),
        ] {
            assert_eq!(trust.state_at(now, links), state, "{now}");
            assert_eq!(trust.since_at(now), since, "{now}");
        }
    }

    #[test]
    fn untrusted_and_revoked_are_left_only_by_the_tenant() {
        let boot: BootId = "0".repeat(36).parse().unwrap();
        let mut trust = trusted_until(100);
        trust.refused(&Refusal::of("file-not-listed", "/usr/bin/evil"), 50);
        assert_eq!((trust.verdict, trust.since_ms), (Verdict::Untrusted, 50));
        trust.begin_boot(&boot, 60);
        assert_eq!(trust.state_at(60, &[]), State::Untrusted);
        assert_eq!(trust.reasons[0].code, "file-not-listed");
        trust.revoked("stolen", 70);
        trust.refused(&Refusal::of("pcr-value", "x"), 80);
        trust.begin_boot(&boot, 80);
        assert_eq!(trust.state_at(80, &[]), State::Revoked);
        assert_eq!(trust.reasons[0].code, "revoked");
    }

    #[test]
    fn a_new_boot_ends_the_trust_of_the_old_one() {
        let boot: BootId = "0".repeat(36).parse().unwrap();
        let mut trust = trusted_until(100);
        trust.confirmation = Some(Bytes(vec![1]));
        trust.begin_boot(&boot, 60);
        assert_eq!(trust.state_at(60, &[]), State::Waiting);
        assert_eq!(trust.confirmation, None);
    }

    #[test]
    fn claims_are_bounded_and_kept_once() {
        let mut trust = Trust::default();
        let claim = |n: usize| Claim {
            code: format!("c{n}"),
            detail: "x\u{1b}[31m".into(),
        };
        assert!(trust.claim(&claim(0)));
        assert!(!trust.claim(&claim(0)));
        for n in 1..2 * MAX_CLAIMS {
            trust.claim(&claim(n));
        }
        assert_eq!(trust.claims.len(), MAX_CLAIMS);
        assert_eq!(trust.claims[0].detail, "x?[31m");
    }

    #[test]
    fn it_can_be_stored() {
        let mut trust = trusted_until(7);
        trust.refused(&Refusal::of("a", "b"), 9);
        let text = serde_json::to_string(&trust).unwrap();
        assert_eq!(serde_json::from_str::<Trust>(&text).unwrap(), trust);
    }
}
