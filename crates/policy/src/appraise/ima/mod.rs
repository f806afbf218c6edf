//! The IMA list, piece by piece.

mod checkpoint;
mod diagnosis;

use bootkeep_evidence::{
    ima::{boot_aggregate, parse_binary, Entry, Replay},
    PcrValues,
};
use bootkeep_protocol::{limits::MAX_IMA_SLICE, link::Evidence};

pub use checkpoint::CheckpointError;

use super::Entries;
use crate::{
    reason::{Reasons, Refusal},
    runtime::RuntimeRules,
};

const IMA_PCR: u8 = 10;
/// What entries that no quote covers yet may take in the list (bytes).
const MAX_PENDING: usize = 32 * 1024 * 1024;

/// How far the list of one boot was read and appraised. Starts as the default at each boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImaState {
    replay: Replay,
    offset: u64,
    pending: Vec<Entry>,
    pending_bytes: usize,
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
        policy: &dyn RuntimeRules,
        reasons: &mut Reasons,
    ) -> Option<Advance> {
        self.step(pcrs, evidence, policy, reasons)
            .inspect_err(|refusal| reasons.append_refusal(refusal))
            .ok()
    }

    fn step(
        &self,
        pcrs: &PcrValues,
        evidence: &Evidence,
        policy: &dyn RuntimeRules,
        reasons: &mut Reasons,
    ) -> Result<Advance, Refusal> {
        policy.usable()?;
        let part = self.read(evidence)?;
        let quoted = quoted(pcrs)?;
        if self.entries() == 0 {
            check_first(pcrs, part.entries.first(), reasons);
        }
        let mut replay = self.replay;
        match replay.advance(&part.entries, quoted) {
            Ok(covered) => Ok(self.cover(part, covered, replay, policy, reasons)),
            Err(_) if part.more => Ok(Advance {
                state: part.waiting(self.replay),
                whole: false,
            }),
            Err(_) => Err(diagnosis::explain(&self.replay, &part.entries, quoted)),
        }
    }

    /// The quote covers the first entries of `part`: they are held against policy, the rest waits.
    fn cover(
        &self,
        mut part: Part,
        covered: usize,
        replay: Replay,
        policy: &dyn RuntimeRules,
        reasons: &mut Reasons,
    ) -> Advance {
        let newer = part.entries.split_off(covered);
        for (number, entry) in (self.entries()..).zip(&part.entries) {
            // The first one, boot_aggregate, was checked.
            if number > 0 {
                let refusal = policy.refusal(number, entry);
                refusal.into_iter().for_each(|reason| reasons.push(reason));
            }
        }
        if newer.is_empty() {
            part.bytes = 0;
        }
        part.entries = newer;
        Advance {
            state: part.waiting(replay),
            whole: true,
        }
    }

    /// Entries known but not covered, then the new ones.
    fn read(&self, evidence: &Evidence) -> Result<Part, Refusal> {
        let malformed = |detail: &str| Refusal::of("ima-malformed", detail);
        let slice = evidence
            .ima
            .as_ref()
            .ok_or_else(|| Refusal::of("ima-missing", "the node sent no IMA list"))?;
        let bytes = slice.data.as_slice();
        if slice.offset != self.offset || bytes.len() > MAX_IMA_SLICE {
            return Err(malformed("the IMA list is not the part that was asked for"));
        }
        let (new, consumed) = parse_binary(bytes).map_err(|error| malformed(&error.to_string()))?;
        let full = bytes.len() == MAX_IMA_SLICE;
        if consumed < bytes.len() && !full || consumed == 0 && full {
            return Err(malformed("the IMA list ends inside an entry"));
        }
        let waiting = self.pending_bytes + consumed;
        if waiting > MAX_PENDING {
            let detail = "the IMA list goes on beyond what a quote covers, without end";
            return Err(Refusal::of("ima-too-long", detail));
        }
        Ok(Part {
            entries: self.pending.iter().cloned().chain(new).collect(),
            offset: self.offset + consumed as u64,
            bytes: waiting,
            more: full,
        })
    }
}

/// What is at hand of the list: entries that no quote has covered yet.
struct Part {
    entries: Vec<Entry>,
    /// Where the list goes on.
    offset: u64,
    /// What the entries take in the list, at most.
    bytes: usize,
    /// Whether the node has more to give now.
    more: bool,
}

impl Part {
    fn waiting(self, replay: Replay) -> ImaState {
        ImaState {
            replay,
            offset: self.offset,
            pending: self.entries,
            pending_bytes: self.bytes,
        }
    }
}

fn quoted(pcrs: &PcrValues) -> Result<&[u8; 32], Refusal> {
    pcrs.get(IMA_PCR)
        .ok_or_else(|| Refusal::of("quote-selection", "PCR 10 was not quoted"))
}

/// The first entry is `boot_aggregate`: SHA-256 over PCRs 0 to 9.
fn check_first(pcrs: &PcrValues, first: Option<&Entry>, reasons: &mut Reasons) {
    if pcrs.get(IMA_PCR) == Some(&[0; 32]) {
        reasons.add("ima-replay", "PCR 10 is zero: this kernel measures nothing");
    }
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
    let mut entries = ImaState::default().read(evidence)?.entries;
    let mut reasons = Reasons::default();
    check_first(pcrs, entries.first(), &mut reasons);
    match Replay::default().advance(&entries, quoted(pcrs)?) {
        Ok(covered) => entries.truncate(covered),
        Err(_) => {
            let refusal = diagnosis::explain(&Replay::default(), &entries, quoted(pcrs)?);
            reasons.append_refusal(&refusal);
        }
    }
    reasons.verdict()?;
    Ok(entries)
}
