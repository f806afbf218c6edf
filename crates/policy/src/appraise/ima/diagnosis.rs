//! A list that does not replay, in words.

use bootkeep_evidence::ima::{Entry, Fault, Replay};

use crate::reason::Refusal;

/// The refusal of `entries`, which do not go on from `replay` to the quoted value.
pub(super) fn explain(replay: &Replay, entries: &[Entry], quoted: &[u8; 32]) -> Refusal {
    let number = |index: usize| replay.entries() + index as u64;
    let path = |index: usize| entries.get(index).map_or("", |entry| &entry.path);
    match Fault::find(replay, entries, quoted) {
        Fault::Rewritten(index) => Refusal::of(
            "ima-template-hash",
            format!(
                "IMA entry {}, {}: its fields are not what the list's own digest of them says, and the list does \
                 not give the quoted PCR 10: the line was rewritten",
                number(index),
                path(index)
            ),
        ),
        Fault::Order(first, second) => Refusal::of(
            "ima-order",
            format!(
                "IMA entries {}, {}, and {}, {}: exchanged, they would give the quoted PCR 10: the order of the \
                 list was changed",
                number(first),
                path(first),
                number(second),
                path(second)
            ),
        ),
        Fault::Inserted(index) => Refusal::of(
            "ima-inserted",
            format!(
                "IMA entry {}, {}: without it the list would give the quoted PCR 10: the line was added",
                number(index),
                path(index)
            ),
        ),
        Fault::Unknown => Refusal::of(
            "ima-replay",
            format!(
                "no part of the IMA list from entry {} on gives the quoted PCR 10: lines were dropped or rewritten, \
                 or PCR 10 was extended by something else than the kernel's list",
                number(0)
            ),
        ),
    }
}
