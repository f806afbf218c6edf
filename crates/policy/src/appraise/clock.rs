//! The TPM's clock (TPM 2.0 Part 1 §36).

use bootkeep_evidence::ClockInfo;
use bootkeep_protocol::link::Claim;
use serde::{Deserialize, Serialize};

use crate::reason::Reasons;

/// What is said to a boot after the power went without a shutdown: the TPM's clock then tells less than it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnsafeClock {
    /// Accepted, and claimed: `unclean-power-off`, `clock-went-back`.
    #[default]
    Accept,
    /// Refused.
    Refuse,
}

impl UnsafeClock {
    /// Whether it is what a policy says that says nothing about it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What the clock tells about how the boot before ended. Policy decides about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockFacts {
    claims: Vec<Claim>,
}

impl ClockFacts {
    /// Over a reset the clock may have lost what the TPM had not stored yet.
    pub(crate) fn of(now: &ClockInfo, previous: Option<&ClockInfo>) -> Self {
        let claim = |code: &str, detail: String| Claim {
            code: code.to_owned(),
            detail,
        };
        let mut claims = Vec::new();
        if !now.safe {
            let detail = "the power went without a shutdown before this boot: the TPM's clock may have told a time twice";
            claims.push(claim("unclean-power-off", detail.to_owned()));
        }
        if let Some(previous) = previous.filter(|previous| now.clock < previous.clock) {
            let detail = format!(
                "over the reset the TPM's clock went back from {} to {} ms: the power went without a shutdown, or the \
                 TPM's state was restored",
                previous.clock, now.clock
            );
            claims.push(claim("clock-went-back", detail));
        }
        Self { claims }
    }

    pub(crate) fn check(&self, rule: UnsafeClock, reasons: &mut Reasons) {
        if rule == UnsafeClock::Refuse {
            for claim in &self.claims {
                reasons.add(&claim.code, &claim.detail);
            }
        }
    }

    pub(super) fn into_claims(self) -> Vec<Claim> {
        self.claims
    }
}

/// Refuses a quote that is older than one already appraised; gives what is left for policy to decide.
///
/// Within one reset, `restartCount` and `clock` only grow. Over a reset `resetCount` says that the quote is newer. The
/// clock need not: after the power went, the TPM resumes from the last value it stored, and not every TPM says so in
/// `safe`. Within one boot there is no such excuse.
pub(super) fn check_forward(
    previous: Option<&ClockInfo>,
    now: &ClockInfo,
    reasons: &mut Reasons,
) -> ClockFacts {
    let Some(previous) = previous else {
        return ClockFacts::of(now, None);
    };
    if now.reset_count > previous.reset_count {
        return ClockFacts::of(now, Some(previous));
    }
    check_within_reset(previous, now, reasons);
    ClockFacts::of(now, None)
}

/// Refuses a clock that goes back within one boot.
pub(super) fn check_within_reset(previous: &ClockInfo, now: &ClockInfo, reasons: &mut Reasons) {
    if now.reset_count < previous.reset_count {
        let detail = format!(
            "the TPM's reset count went back from {} to {}",
            previous.reset_count, now.reset_count
        );
        return reasons.add("reset-count", detail);
    }
    if now.restart_count < previous.restart_count {
        reasons.add("restart-count", "the TPM's restart count went back");
    }
    if now.clock < previous.clock {
        let detail = format!(
            "the TPM's clock went back from {} to {} ms",
            previous.clock, now.clock
        );
        reasons.add("clock", detail);
    }
}
