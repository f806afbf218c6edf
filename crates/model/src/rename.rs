//! States that differ only in the names of K and splits, or in which NV slot is which, are one state.
//!
//! Names carry no order or meaning: what is newer is told by positions. So any renaming is sound; one that follows the order
//! of appearance makes most equal states equal in fact.

use crate::{
    share::{Vector, MAX_KEYS, MAX_SPLITS},
    state::{Attacker, HeaderKey, Offer, Session, Slot, TURNS},
    Split, State,
};

/// Old names to new ones.
#[derive(Default)]
struct Names {
    keys: [Option<u8>; MAX_KEYS as usize],
    named: u8,
    splits: [[Option<u8>; MAX_SPLITS as usize]; MAX_KEYS as usize],
}

impl Names {
    fn key(&mut self, key: u8) -> u8 {
        let name = &mut self.keys[usize::from(key)];
        *name.get_or_insert_with(|| {
            self.named += 1;
            self.named - 1
        })
    }

    fn split(&mut self, split: Split) -> Split {
        let key = self.key(split.key);
        let splits = &mut self.splits[usize::from(split.key)];
        let next = splits.iter().flatten().count() as u8;
        Split {
            key,
            number: *splits[usize::from(split.number)].get_or_insert(next),
        }
    }

    fn of(state: &State) -> Self {
        let mut names = Self::default();
        for set in &state.verifier.sets {
            names.key(set.key);
        }
        for split in state.splits() {
            names.split(split);
        }
        for slot in &state.node.header {
            if let HeaderKey::Own(key) = slot {
                names.key(*key);
            }
        }
        for key in &state.tenant.recovery {
            names.key(*key);
        }
        for split in state.attacker.knowledge.splits() {
            names.split(split);
        }
        // What the attacker remembers of K may be all that is left of them.
        for key in 0..MAX_KEYS {
            names.key(key);
        }
        names
    }

    /// New name of a bit of a [`Vector`].
    fn bit(&mut self, bit: u32) -> u32 {
        match Vector::split_of(bit) {
            None => u32::from(self.key(bit as u8)),
            Some(split) => Vector::share_v(self.split(split)).0.trailing_zeros(),
        }
    }

    fn bits(&mut self, bits: u8) -> u8 {
        let set = (0..MAX_KEYS).filter(|key| bits & (1 << key) != 0);
        set.fold(0, |sum, key| sum | 1 << self.key(key))
    }
}

impl State {
    pub(crate) fn rename(&mut self) {
        let known = self
            .verifier
            .sets
            .iter()
            .flat_map(|set| set.splits())
            .collect::<Vec<_>>();
        self.node.nv[..TURNS].sort_by_key(|slot| rank(slot, &known));
        let mut names = Names::of(self);
        self.rename_durable(&mut names);
        self.rename_memory(&mut names);
        self.attacker.rename(&mut names);
    }

    fn rename_durable(&mut self, names: &mut Names) {
        if let Some(journal) = &mut self.tenant.journal {
            journal.split = names.split(journal.split);
        }
        let recovery = std::mem::take(&mut self.tenant.recovery);
        self.tenant.recovery = recovery.into_iter().map(|key| names.key(key)).collect();
        for set in &mut self.verifier.sets {
            let splits: Vec<Split> = set.splits().collect();
            set.key = names.key(set.key);
            set.shares = splits
                .into_iter()
                .map(|split| names.split(split).number)
                .collect();
        }
        self.verifier.kept = self.verifier.kept.map(|key| names.key(key));
        for slot in &mut self.node.nv {
            if let Slot::Kept(split) = slot {
                *split = names.split(*split);
            }
        }
        let header = std::mem::take(&mut self.node.header);
        let named = header.into_iter().map(|slot| match slot {
            HeaderKey::Image => HeaderKey::Image,
            HeaderKey::Own(key) => HeaderKey::Own(names.key(key)),
        });
        self.node.header = named.collect();
    }

    fn rename_memory(&mut self, names: &mut Names) {
        if let Some(session) = &mut self.verifier.session {
            session.rename(names);
        }
        if let Some(boot) = &mut self.node.boot {
            for split in [&mut boot.share_u, &mut boot.used, &mut boot.kept] {
                *split = split.map(|split| names.split(split));
            }
            if let Some(offer) = &mut boot.offer {
                offer.rename(names);
            }
        }
    }
}

/// Slots whose V the verifier has come in its order.
fn rank(slot: &Slot, known: &[Split]) -> (usize, Option<Split>) {
    match slot {
        Slot::Empty => (usize::MAX, None),
        Slot::Torn => (usize::MAX - 1, None),
        Slot::Kept(split) => {
            let place = known.iter().position(|known| known == split);
            (place.unwrap_or(known.len()), Some(*split))
        }
    }
}

impl Session {
    fn rename(&mut self, names: &mut Names) {
        let lists = self
            .next
            .iter_mut()
            .chain([&mut self.fresh, &mut self.sent]);
        for split in lists.flatten() {
            *split = names.split(*split);
        }
    }
}

impl Offer {
    fn rename(&mut self, names: &mut Names) {
        for set in &mut self.sets {
            let key = set.key;
            for number in set.shares.iter_mut().chain([&mut set.next]) {
                *number = names
                    .split(Split {
                        key,
                        number: *number,
                    })
                    .number;
            }
            set.key = names.key(key);
        }
    }
}

impl Attacker {
    fn rename(&mut self, names: &mut Names) {
        self.knowledge = self.knowledge.renamed(|bit| names.bit(bit));
        let recorded = std::mem::take(&mut self.recorded);
        self.recorded = recorded
            .into_iter()
            .map(|split| names.split(split))
            .collect();
        for bits in [
            &mut self.new_v,
            &mut self.new_u,
            &mut self.aging_v,
            &mut self.aging_u,
            &mut self.matched,
        ] {
            *bits = names.bits(*bits);
        }
    }
}
