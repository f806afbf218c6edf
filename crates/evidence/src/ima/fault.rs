//! What is wrong with a list that does not replay. Only the text of a refusal depends on it, never the verdict.

use super::{replay::Replay, Entry};
use crate::pcr::extend;

/// Most PCR extensions that each kind of fault is searched with: three times some ten milliseconds.
const MAX_WORK: usize = 100_000;

/// What would explain a list that no prefix of gives the quoted value. Indices are into the entries given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The fields of this entry are not what the list's own SHA-1 says.
    Rewritten(usize),
    /// With these two exchanged the list gives the quoted value.
    Order(usize, usize),
    /// Without this one the list gives the quoted value.
    Inserted(usize),
    /// None of these, or the list is too long to find out: entries were dropped, or rewritten with their SHA-1.
    Unknown,
}

impl Fault {
    /// Looks for the fault in `entries`, which [`Replay::advance`] refused.
    #[must_use]
    pub fn find(replay: &Replay, entries: &[Entry], quoted: &[u8; 32]) -> Self {
        if let Some(index) = entries.iter().position(|entry| !entry.list_digest_fits()) {
            return Self::Rewritten(index);
        }
        let mut search = Search::new(replay, entries, quoted);
        search
            .inserted()
            .or_else(|| search.neighbours())
            .or_else(|| search.exchanged())
            .unwrap_or(Self::Unknown)
    }
}

struct Search<'a> {
    digests: Vec<[u8; 32]>,
    /// PCR 10 before each entry.
    before: Vec<[u8; 32]>,
    quoted: &'a [u8; 32],
    work: usize,
}

impl<'a> Search<'a> {
    fn new(replay: &Replay, entries: &[Entry], quoted: &'a [u8; 32]) -> Self {
        let digests: Vec<[u8; 32]> = entries.iter().map(Entry::extended_digest).collect();
        let mut pcr = *replay.pcr();
        let mut before = Vec::with_capacity(digests.len());
        for digest in &digests {
            before.push(pcr);
            pcr = extend(&pcr, digest);
        }
        Self {
            digests,
            before,
            quoted,
            work: 0,
        }
    }

    fn neighbours(&mut self) -> Option<Fault> {
        self.work = MAX_WORK;
        let mut pairs = (1..self.digests.len()).map(|second| (second - 1, second));
        pairs.find_map(|pair| self.order(pair))
    }

    fn exchanged(&mut self) -> Option<Fault> {
        self.work = MAX_WORK;
        let count = self.digests.len();
        let pairs =
            (0..count).flat_map(|first| (first + 2..count).map(move |second| (first, second)));
        pairs.take(MAX_WORK).find_map(|pair| self.order(pair))
    }

    fn order(&mut self, (first, second): (usize, usize)) -> Option<Fault> {
        let others = first + 1..second;
        let order = std::iter::once(second).chain(others).chain([first]);
        let order = order.chain(second + 1..self.digests.len());
        self.reaches(first, order)
            .then_some(Fault::Order(first, second))
    }

    fn inserted(&mut self) -> Option<Fault> {
        self.work = MAX_WORK;
        let count = self.digests.len();
        (0..count).find_map(|index| {
            self.reaches(index, index + 1..count)
                .then_some(Fault::Inserted(index))
        })
    }

    /// Whether the entries up to `start`, and then some of `order`, give the quoted value.
    fn reaches(&mut self, start: usize, order: impl Iterator<Item = usize>) -> bool {
        let Some(mut pcr) = self.before.get(start).copied() else {
            return false;
        };
        for index in order {
            if pcr == *self.quoted {
                return true;
            }
            let Some(digest) = self.digests.get(index).filter(|_| self.work > 0) else {
                return false;
            };
            self.work -= 1;
            pcr = extend(&pcr, digest);
        }
        pcr == *self.quoted
    }
}
