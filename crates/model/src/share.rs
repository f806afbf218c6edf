//! Names of keys and shares.

/// Most values of K a model tells apart at one time.
pub const MAX_KEYS: u8 = 6;
/// Most splits of one K.
pub(crate) const MAX_SPLITS: u8 = 9;

/// Names one split of one K (the product: `ShareId`): V is random, U is K xor V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Split {
    /// Which K.
    pub key: u8,
    /// Which V for it.
    pub number: u8,
}

/// A vector over GF(2): bits 0 to 5 stand for the K, the others for the V. U is the sum of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Vector(pub(crate) u64);

impl Vector {
    pub(crate) fn key(key: u8) -> Self {
        Self(1 << key)
    }

    pub(crate) fn share_v(split: Split) -> Self {
        Self(1 << (MAX_KEYS + split.key * MAX_SPLITS + split.number))
    }

    /// The split whose V this bit stands for.
    pub(crate) fn split_of(bit: u32) -> Option<Split> {
        let number = (bit as u8).checked_sub(MAX_KEYS)?;
        Some(Split {
            key: number / MAX_SPLITS,
            number: number % MAX_SPLITS,
        })
    }

    pub(crate) fn share_u(split: Split) -> Self {
        Self(Self::key(split.key).0 ^ Self::share_v(split).0)
    }
}
