//! The TPM's clock (TPM 2.0 Part 1 §36).

use bootkeep_evidence::ClockInfo;

use crate::reason::Reasons;

/// Refuses a quote that is older than one already appraised.
///
/// Within one reset, `restartCount` and `clock` only grow. Over a reset `clock` grows too, unless the power went
/// without a shutdown: then the TPM resumes from the last value it stored and says so (`safe` is false).
pub(super) fn check_forward(previous: &ClockInfo, now: &ClockInfo, reasons: &mut Reasons) {
    if now.reset_count < previous.reset_count {
        reasons.add(
            "reset-count",
            format!(
                "the TPM's reset count went back from {} to {}",
                previous.reset_count, now.reset_count
            ),
        );
        return;
    }
    let same_reset = now.reset_count == previous.reset_count;
    if same_reset && now.restart_count < previous.restart_count {
        reasons.add("restart-count", "the TPM's restart count went back");
    }
    if now.clock < previous.clock && (same_reset || now.safe) {
        reasons.add(
            "clock",
            format!(
                "the TPM's clock went back from {} to {} ms",
                previous.clock, now.clock
            ),
        );
    }
}
