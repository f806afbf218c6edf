//! What an attacker can compute: everything that is an xor of what he has.

use crate::{
    share::{Vector, MAX_KEYS},
    Split,
};

/// A set of values closed under xor, as the reduced basis of a space over GF(2).
///
/// Each K and each V is random and independent of the others, so a value is computable from those the attacker has
/// exactly when it is in their span; xor is all that binds them (what is derived from K goes through HKDF).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Knowledge(Vec<u64>);

impl Knowledge {
    pub(crate) fn learn(&mut self, vector: Vector) {
        let rest = self.reduce(vector.0);
        if rest == 0 {
            return;
        }
        let top = top_bit(rest);
        for row in &mut self.0 {
            if *row & top != 0 {
                *row ^= rest;
            }
        }
        self.0.push(rest);
        self.0.sort_unstable();
    }

    fn reduce(&self, mut vector: u64) -> u64 {
        for row in &self.0 {
            if vector & top_bit(*row) != 0 {
                vector ^= row;
            }
        }
        vector
    }

    fn contains(&self, vector: Vector) -> bool {
        self.reduce(vector.0) == 0
    }

    /// Whether he can compute this K.
    #[must_use]
    pub fn has_key(&self, key: u8) -> bool {
        self.contains(Vector::key(key))
    }

    /// Whether he can compute this V.
    #[must_use]
    pub fn has_v(&self, split: Split) -> bool {
        self.contains(Vector::share_v(split))
    }

    /// Whether anything he has depends on this split.
    pub(crate) fn mentions(&self, split: Split) -> bool {
        self.mask() & Vector::share_v(split).0 != 0
    }

    /// Whether anything he has depends on this K.
    pub(crate) fn mentions_key(&self, key: u8) -> bool {
        self.mask() & Vector::key(key).0 != 0
    }

    /// Splits that something he has depends on.
    pub(crate) fn splits(&self) -> impl Iterator<Item = Split> {
        bits(self.mask()).filter_map(Vector::split_of)
    }

    fn mask(&self) -> u64 {
        self.0.iter().fold(0, |mask, row| mask | row)
    }

    /// The same with other names.
    pub(crate) fn renamed(&self, mut name: impl FnMut(u32) -> u32) -> Self {
        let mut renamed = Self::default();
        for row in &self.0 {
            renamed.learn(Vector(bits(*row).fold(0, |sum, bit| sum | 1 << name(bit))));
        }
        renamed
    }

    /// The K he can compute.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u8> + '_ {
        (0..MAX_KEYS).filter(|key| self.has_key(*key))
    }
}

fn top_bit(row: u64) -> u64 {
    1 << (63 - row.leading_zeros())
}

/// Numbers of the bits that are set.
fn bits(mut row: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = row.trailing_zeros();
        row &= row.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(key: u8, number: u8) -> Split {
        Split { key, number }
    }

    #[test]
    fn only_shares_of_one_split_give_the_key() {
        let mut knowledge = Knowledge::default();
        knowledge.learn(Vector::share_v(split(0, 0)));
        knowledge.learn(Vector::share_u(split(0, 1)));
        knowledge.learn(Vector::share_u(split(0, 2)));
        knowledge.learn(Vector::share_u(split(1, 0)));
        assert!(!knowledge.has_key(0) && !knowledge.has_key(1));
        knowledge.learn(Vector::share_v(split(0, 2)));
        assert!(knowledge.has_key(0) && !knowledge.has_key(1));
        // K and a U give the V: everything is closed under xor.
        assert!(knowledge.has_v(split(0, 1)));
        assert!(!knowledge.has_v(split(1, 0)));
    }

    #[test]
    fn order_does_not_matter() {
        let vectors = [
            Vector::share_v(split(0, 0)),
            Vector::share_u(split(0, 1)),
            Vector::share_u(split(0, 0)),
            Vector::share_v(split(2, 3)),
        ];
        let mut forth = Knowledge::default();
        let mut back = Knowledge::default();
        for index in 0..vectors.len() {
            forth.learn(vectors[index]);
            back.learn(vectors[vectors.len() - 1 - index]);
        }
        assert_eq!(forth, back);
    }
}
