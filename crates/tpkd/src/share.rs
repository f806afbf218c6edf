//! The two shares, kept apart by type.

use std::{fmt, marker::PhantomData};

use zeroize::Zeroizing;

use crate::{random::random, RandomError, KEY_LEN};

/// The tenant's share. A type only, never a value.
#[derive(Debug)]
pub enum U {}
/// The verifier's share. A type only, never a value.
#[derive(Debug)]
pub enum V {}

/// [`U`] or [`V`].
pub trait SharePart {
    /// The letter that stands for the part in the wrapping's context.
    const LETTER: &'static str;
}

impl SharePart for U {
    const LETTER: &'static str = "u";
}

impl SharePart for V {
    const LETTER: &'static str = "v";
}

/// One share of K: 32 bytes that say nothing about K without the other.
pub struct Share<P: SharePart> {
    bytes: Zeroizing<[u8; KEY_LEN]>,
    part: PhantomData<P>,
}

impl<P: SharePart> Share<P> {
    /// A share that was stored or received.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self::new(Zeroizing::new(bytes))
    }

    /// A fresh one: K decides the other.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate() -> Result<Self, RandomError> {
        random().map(Self::new)
    }

    pub(crate) fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self {
            bytes,
            part: PhantomData,
        }
    }

    /// The secret bytes, to be stored encrypted or wrapped.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.bytes
    }
}

impl<P: SharePart> Clone for Share<P> {
    fn clone(&self) -> Self {
        Self::new(self.bytes.clone())
    }
}

impl<P: SharePart> fmt::Debug for Share<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share {} (secret)", P::LETTER)
    }
}
