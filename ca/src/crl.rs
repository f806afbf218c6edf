//! The revocation list in force.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use bootkeep_pki::node::NodeAuthority;

use crate::{store::CrlContents, CaError};

/// A signed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crl {
    /// Counts the lists.
    pub(crate) number: u64,
    /// Seconds since 1970 (UTC).
    pub(crate) next_update: u64,
    pub(crate) der: Vec<u8>,
}

/// Seconds since 1970 (UTC).
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Signs a list that is good for `valid_for` from now on.
pub(crate) fn sign(
    authority: &NodeAuthority,
    contents: &CrlContents,
    valid_for: Duration,
) -> Result<Crl, CaError> {
    Ok(Crl {
        number: contents.number,
        next_update: now() + valid_for.as_secs(),
        der: authority.crl(contents.number, &contents.revoked, valid_for)?,
    })
}

impl Crl {
    /// Whether half of its life is over.
    pub(crate) fn is_old(&self, now: u64, valid_for: Duration) -> bool {
        self.next_update < now + valid_for.as_secs() / 2
    }
}

/// The list this process serves. Only a newer one takes its place.
#[derive(Debug, Default)]
pub(crate) struct InForce(RwLock<Option<Arc<Crl>>>);

impl InForce {
    pub(crate) fn get(&self) -> Option<Arc<Crl>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn put(&self, crl: Crl) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|old| old.number < crl.number) {
            *current = Some(Arc::new(crl));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crl(number: u64, next_update: u64) -> Crl {
        Crl {
            number,
            next_update,
            der: Vec::new(),
        }
    }

    #[test]
    fn an_older_list_never_takes_the_place_of_a_newer_one() {
        let in_force = InForce::default();
        for number in [2, 1, 3, 2] {
            in_force.put(crl(number, 0));
        }
        assert_eq!(in_force.get().map(|crl| crl.number), Some(3));
    }

    #[test]
    fn a_list_is_old_at_half_of_its_life() {
        let hour = Duration::from_secs(3600);
        assert!(!crl(1, 3600).is_old(1800, hour));
        assert!(crl(1, 3600).is_old(1801, hour));
    }
}
