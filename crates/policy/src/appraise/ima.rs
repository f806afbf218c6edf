//! The IMA list, piece by piece.

use bootkeep_evidence::{
    ima::{boot_aggregate, parse_binary, Entry, Replay},
    PcrValues,
};
use bootkeep_protocol::{limits::MAX_IMA_SLICE, link::Evidence};

use super::Entries;
use crate::{
    reason::{Reasons, Refusal},
    runtime::RuntimePolicy,
};

const IMA_PCR: u8 = 10;
/// Most entries kept that no quote covers yet.
const MAX_PENDING: usize = 1_000_000;

/// How far the list of one boot was read and appraised. Starts as the default at each boot.
#[derive(Clone, Debug, Default)]
pub struct ImaState {
    replay: Replay,
    offset: u64,
    pending: Vec<Entry>,
}

/// A step that was computed and not yet taken.
pub(super) struct Advance {
    state: ImaState,
    whole: bool,
}

impl Advance {
    /// Whether the quoted value was reached.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn into_state(self) -> ImaState {
        self.state
    }
}

impl ImaState {
    /// From which byte of the list on the next question asks.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Entries that quotes cover and policy accepted.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.replay.entries()
    }

    /// Takes the next part of the list. `None`, with a reason, when it is no continuation of this one.
    pub(super) fn advance(
        &self,
        pcrs: &PcrValues,
        evidence: &Evidence,
        policy: &RuntimePolicy,
        reasons: &mut Reasons,
    ) -> Option<Advance> {
        if policy.is_empty() {
            reasons.add(
                "runtime-policy-empty",
                "the runtime policy lists no file: it accepts nothing",
            );
            return None;
        }
        let read = match self.read(evidence) {
            Ok(read) => read,
            Err(refusal) => {
                super::add_all(&refusal, reasons);
                return None;
            }
        };
        let (mut entries, offset, more) = read;
        let Some(quoted) = pcrs.get(IMA_PCR) else {
            reasons.add("quote-selection", "PCR 10 was not quoted");
            return None;
        };
        let first = self.replay.entries();
        if first == 0 {
            check_first(pcrs, entries.first(), reasons);
            if *quoted == [0; 32] {
                reasons.add("ima-replay", "PCR 10 is zero: this kernel measures nothing");
            }
        }
        let mut replay = self.replay;
        let covered = match replay.advance(&entries, quoted) {
            Ok(covered) => covered,
            Err(_) if more && entries.len() < MAX_PENDING => {
                return Some(Advance {
                    state: Self {
                        replay: self.replay,
                        offset,
                        pending: entries,
                    },
                    whole: false,
                });
            }
            Err(error) => {
                reasons.add("ima-replay", error.to_string());
                return None;
            }
        };
        let pending = entries.split_off(covered);
        for (number, entry) in (first..).zip(&entries) {
            if number > 0 {
                policy.check(number, entry, reasons);
            }
        }
        let state = Self {
            replay,
            offset,
            pending,
        };
        Some(Advance { state, whole: true })
    }

    /// Entries known but not covered, then the new ones; the new offset; whether the node has more to give.
    fn read(&self, evidence: &Evidence) -> Result<(Vec<Entry>, u64, bool), Refusal> {
        let slice = evidence
            .ima
            .as_ref()
            .ok_or_else(|| Refusal::of("ima-missing", "the node sent no IMA list"))?;
        let bytes = slice.data.as_slice();
        if slice.offset != self.offset || bytes.len() > MAX_IMA_SLICE {
            return Err(Refusal::of(
                "ima-malformed",
                "the IMA list is not the part that was asked for",
            ));
        }
        let (new, consumed) =
            parse_binary(bytes).map_err(|error| Refusal::of("ima-malformed", error.to_string()))?;
        let full = bytes.len() == MAX_IMA_SLICE;
        let cut = consumed < bytes.len();
        if consumed == 0 && full || cut && !full {
            return Err(Refusal::of(
                "ima-malformed",
                "the IMA list ends inside an entry",
            ));
        }
        let mut entries = self.pending.clone();
        entries.extend(new);
        Ok((entries, self.offset + consumed as u64, full))
    }
}

/// The first entry is `boot_aggregate`: SHA-256 over PCRs 0 to 9.
fn check_first(pcrs: &PcrValues, first: Option<&Entry>, reasons: &mut Reasons) {
    let expected = boot_aggregate(pcrs);
    let good = first.is_some_and(|entry| {
        entry.path == "boot_aggregate"
            && !entry.violation
            && entry.digest.as_ref().is_some_and(|digest| {
                digest.algorithm == "sha256"
                    && Some(digest.bytes.as_slice()) == expected.as_ref().map(|d| &d[..])
            })
    });
    if !good {
        reasons.add(
            "boot-aggregate",
            "the IMA list does not start with a boot_aggregate that fits PCRs 0 to 9",
        );
    }
}

/// The entries the quote covers, for a policy to be made from.
pub(super) fn whole_list(pcrs: &PcrValues, evidence: &Evidence) -> Result<Entries, Refusal> {
    let (mut entries, _, _) = ImaState::default().read(evidence)?;
    let mut reasons = Reasons::default();
    check_first(pcrs, entries.first(), &mut reasons);
    let quoted = pcrs
        .get(IMA_PCR)
        .ok_or_else(|| Refusal::of("quote-selection", "PCR 10 was not quoted"))?;
    match Replay::default().advance(&entries, quoted) {
        Ok(covered) => entries.truncate(covered),
        Err(error) => reasons.add("ima-replay", error.to_string()),
    }
    reasons.verdict()?;
    Ok(entries)
}
