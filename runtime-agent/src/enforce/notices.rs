//! What the owner should know, as claims; and counters in the log.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

use bootkeep_handover::Handover;

/// Claim: no fresh word of the verifier; the node speaks with no peer.
pub(super) const STALE: &str = "revocations-stale";
/// Claim: this node found itself in the log.
pub(super) const SELF_REVOKED: &str = "self-revoked";
/// Claim: a message about revocations was refused.
pub(super) const REFUSED: &str = "revocations-refused";
/// Claim: an action failed.
pub(super) const ACTION_FAILED: &str = "action-failed";
/// Claim: a revocation could not be enforced.
pub(super) const NOT_ENFORCED: &str = "revocation-not-enforced";
/// Claim: the node forgot what it held.
pub(super) const STATE_LOST: &str = "revocations-state-lost";

/// Claims of one kind that are sent in the life of this process: a flood of refusals must not crowd out what else the
/// owner should hear.
const MAX_OF_A_KIND: usize = 8;

/// Tells the owner, each thing once.
#[derive(Debug)]
pub(super) struct Notices {
    handover: Handover,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Kind and key of what is with the owner.
    claims: HashSet<(&'static str, String)>,
    /// How often each kind was to be told.
    counts: BTreeMap<&'static str, u64>,
}

impl Notices {
    pub(super) fn new(handover: Handover) -> Self {
        Self {
            handover,
            told: Mutex::default(),
        }
    }

    /// Claims `kind` unless it was claimed with this key already. Gives how often this kind has come.
    pub(super) fn claim(&self, kind: &'static str, key: &str, detail: &str) -> u64 {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let count = told.counts.entry(kind).or_default();
        *count += 1;
        let count = *count;
        let of_kind = told
            .claims
            .iter()
            .filter(|(other, _)| *other == kind)
            .count();
        if of_kind < MAX_OF_A_KIND
            && !told.claims.contains(&(kind, key.to_owned()))
            && self.send(kind, detail)
        {
            told.claims.insert((kind, key.to_owned()));
        }
        count
    }

    /// It is over: when it comes again it is news.
    pub(super) fn over(&self, kind: &'static str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.claims.retain(|(other, _)| *other != kind);
    }

    fn send(&self, kind: &str, detail: &str) -> bool {
        let sent = self
            .handover
            .prepare()
            .and_then(|()| self.handover.claim(kind, detail));
        if let Err(error) = &sent {
            tracing::error!(kind, detail, %error, "a claim is lost");
        }
        sent.is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once_and_a_flood_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let handover = Handover::at(&folder.path().join("handover"));
        let notices = Notices::new(handover.clone());
        assert_eq!(notices.claim(STALE, "", "a"), 1);
        assert_eq!(notices.claim(STALE, "", "b"), 2);
        for n in 0..100 {
            notices.claim(REFUSED, &n.to_string(), &n.to_string());
        }
        let claims = handover.take_claims().unwrap();
        let of = |kind: &str| claims.iter().filter(|claim| claim.code == kind).count();
        assert_eq!((of(STALE), of(REFUSED)), (1, MAX_OF_A_KIND));
        notices.over(STALE);
        notices.claim(STALE, "", "again");
        assert_eq!(handover.take_claims().unwrap()[0].detail, "again");
    }
}
