//! What becomes of a node's K sets when it is enrolled.

use bootkeep_protocol::{kept::MAX_KEY_SETS, Problem, ProblemKind, ShareId};

use super::{KeySet, Keys};

/// The K of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The tenant brings U to each boot.
    Attended,
    /// The node keeps its U; it boots with this K from now on.
    Unattended(ShareId),
    /// The node keeps its U; this K begins with its next boot.
    Staged(ShareId),
}

impl Change {
    /// Names the split of a node that keeps its U.
    pub(crate) fn share_id(self) -> Option<ShareId> {
        match self {
            Self::Attended => None,
            Self::Unattended(id) | Self::Staged(id) => Some(id),
        }
    }
}

/// What an enrolment does to the sets that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The enrolment is of this set, which is the newest: its terms change, its K does not.
    Same(i64),
    /// A set comes.
    New {
        /// Its number.
        number: i64,
        /// Sets that are dropped: the node cannot depend on them.
        dropped: Vec<i64>,
        /// Whether those that stay still boot the node.
        older_boot: bool,
    },
}

fn conflict(code: &str, detail: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, code, detail)
}

fn boot_first() -> Problem {
    conflict(
        "boot-first",
        "the node may use any of the K it has: let it boot once so that it acknowledges one; \
         or forget it first, when its volume has the image's key or you have its recovery key",
    )
}

fn keeps_its_u() -> Problem {
    conflict(
        "keeps-its-u",
        "the node keeps its U, and its volume may need the K it has: enrol it with --unattended; \
         or forget it first, when its volume has the image's key or you have its recovery key",
    )
}

fn not_unattended() -> Problem {
    conflict(
        "not-unattended",
        "a K can be staged only for a node that has booted with a K it keeps: provision it with --unattended",
    )
}

pub(crate) fn id_used() -> Problem {
    conflict(
        "share-id-used",
        "this share id names another split already: make a fresh one",
    )
}

impl Keys {
    /// Whether an enrolment may come now, and what it leaves of the K sets.
    pub(crate) fn plan(&self, change: Change) -> Result<Plan, Problem> {
        if let Some(same) = self.same(change)? {
            return Ok(Plan::Same(same));
        }
        let (bound, free): (Vec<&KeySet>, Vec<&KeySet>) =
            self.0.iter().partition(|set| set.is_bound());
        match change {
            Change::Attended if !bound.is_empty() => return Err(keeps_its_u()),
            Change::Staged(_) if !bound.iter().any(|set| set.boots) => return Err(not_unattended()),
            Change::Staged(_) if bound.len() > 1 => return Err(boot_first()),
            Change::Unattended(_) if bound.len() >= MAX_KEY_SETS => return Err(boot_first()),
            _ => {}
        }
        let newest = self.0.first().map_or(0, |set| set.number);
        Ok(Plan::New {
            number: change.share_id().map_or(0, |_| newest + 1),
            dropped: free.iter().map(|set| set.number).collect(),
            older_boot: matches!(change, Change::Staged(_)),
        })
    }

    /// The newest set, when the enrolment is of its K. A share id that names any other split is refused.
    fn same(&self, change: Change) -> Result<Option<i64>, Problem> {
        let Some(id) = change.share_id() else {
            return Ok(None);
        };
        let known = |set: &KeySet| set.share_id == id || set.shares.contains(&id);
        match self.0.iter().find(|set| known(set)) {
            None => Ok(None),
            Some(set) => {
                let newest = self.0.first().is_some_and(|newest| newest.share_id == id);
                let begins_now = matches!(change, Change::Unattended(_)) && self.staged().is_some();
                if newest && !begins_now {
                    Ok(Some(set.number))
                } else {
                    Err(id_used())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::set, *};

    #[test]
    fn no_enrolment_drops_a_set_the_node_may_depend_on() {
        let id = ShareId::from([9; 16]);
        let (unattended, staged) = (Change::Unattended(id), Change::Staged(id));
        let kept = |number| set(number, true, true, Some(7));
        let old = |number| set(number, false, true, Some(7));
        let sent = |number| set(number, true, true, None);
        let free = |number| set(number, true, false, None);
        let plan = |dropped: &[i64], older_boot, number| {
            Ok(Plan::New {
                dropped: dropped.to_vec(),
                older_boot,
                number,
            })
        };
        for (sets, change, expected) in [
            (vec![], Change::Attended, plan(&[], false, 0)),
            (vec![], unattended, plan(&[], false, 1)),
            (vec![], staged, Err("not-unattended")),
            // Never sent: the tenant has changed its mind.
            (vec![free(1)], Change::Attended, plan(&[1], false, 0)),
            (vec![free(1)], unattended, plan(&[1], false, 2)),
            (vec![free(1)], staged, Err("not-unattended")),
            // In use.
            (vec![kept(1)], Change::Attended, Err("keeps-its-u")),
            (vec![sent(1)], Change::Attended, Err("keeps-its-u")),
            (vec![kept(1)], unattended, plan(&[], false, 2)),
            (vec![sent(1)], unattended, plan(&[], false, 2)),
            (vec![kept(1)], staged, plan(&[], true, 2)),
            // A staged K that was not sent yet makes room, the one in use stays.
            (vec![free(2), kept(1)], staged, plan(&[2], true, 3)),
            (vec![free(2), kept(1)], unattended, plan(&[2], false, 3)),
            (vec![free(2), kept(1)], Change::Attended, Err("keeps-its-u")),
            // Which of the two the header needs is not known.
            (vec![sent(2), kept(1)], staged, Err("boot-first")),
            (vec![sent(2), kept(1)], unattended, plan(&[], false, 3)),
            (
                vec![sent(3), old(2), old(1)],
                unattended,
                plan(&[], false, 4),
            ),
            (
                vec![free(4), old(3), old(2), old(1)],
                unattended,
                plan(&[4], false, 5),
            ),
            (
                vec![sent(4), old(3), old(2), old(1)],
                unattended,
                Err("boot-first"),
            ),
            // Only the older one is bound, and it does not boot.
            (vec![free(2), old(1)], staged, Err("not-unattended")),
            (vec![free(2), old(1)], unattended, plan(&[2], false, 3)),
        ] {
            let keys = Keys(sets);
            let planned = keys.plan(change).map_err(|problem| problem.code);
            assert_eq!(
                planned,
                expected.map_err(str::to_owned),
                "{change:?} {keys:?}"
            );
        }
    }

    #[test]
    fn a_share_id_names_one_split() {
        let id = |byte| ShareId::from([byte; 16]);
        let (staged, unattended) = (Change::Staged, Change::Unattended);
        let one = || vec![set(1, true, true, Some(7))];
        let two = || vec![set(2, true, false, None), set(1, true, true, Some(7))];
        for (sets, change, expected) in [
            (one(), unattended(id(1)), Ok(Plan::Same(1))),
            // The node has acknowledged it since.
            (one(), staged(id(1)), Ok(Plan::Same(1))),
            (two(), staged(id(2)), Ok(Plan::Same(2))),
            (two(), unattended(id(2)), Err("share-id-used")),
            (two(), staged(id(1)), Err("share-id-used")),
            (two(), unattended(id(1)), Err("share-id-used")),
        ] {
            let planned = Keys(sets).plan(change).map_err(|problem| problem.code);
            assert_eq!(planned, expected.map_err(str::to_owned), "{change:?}");
        }
        // Nor may it be that of a split the verifier made.
        let mut sets = one();
        sets[0].shares = vec![id(8)];
        assert!(Keys(sets).plan(unattended(id(8))).is_err());
    }
}
