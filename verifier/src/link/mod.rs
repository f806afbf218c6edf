//! Links of nodes: opening, calls, events.

mod calls;
mod events;
mod kept;
mod open;
mod session;

use std::{
    collections::BTreeSet,
    sync::{atomic::AtomicU32, Mutex, PoisonError},
};

use bootkeep_evidence::{AkPublic, ClockInfo};
use bootkeep_protocol::{BootId, Phase, Problem, ShareId, EXPORTER_LEN};
use tokio::sync::watch;

pub(crate) use calls::{CallError, Calls};
pub(crate) use events::keep_confirmation;
pub(crate) use open::{other_ak, problem_of, untrusted};
pub(crate) use session::serve;

use crate::fleet::Enrolled;

/// An open link: its node has shown that it holds the AK, on this very connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    pub(crate) boot_id: BootId,
    pub(crate) exporter: [u8; EXPORTER_LEN],
    /// The AK the registrar vouched for when the link opened.
    pub(crate) ak: AkPublic,
    pub(crate) generation: u64,
    pub(crate) ak_digest: [u8; 32],
    /// The TPM's clock when the link opened.
    pub(crate) clock: ClockInfo,
    /// PCR 15 was still zero when the link opened.
    pub(crate) unlatched: bool,
    pub(crate) calls: Calls,
    /// The node said that its IMA list grew to this many entries.
    pub(crate) grew: watch::Sender<u64>,
    /// Events taken so far.
    pub(crate) events: AtomicU32,
    /// Set once V was sent over it: the splits of the K the node may boot with, if it keeps its U.
    pub(crate) offered: Mutex<Option<BTreeSet<ShareId>>>,
    /// Why the link is to end.
    pub(crate) ending: watch::Sender<Option<Problem>>,
}

impl Link {
    /// Ends the link; the node is told why.
    pub(crate) fn end(&self, problem: Problem) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(problem);
            }
            first
        });
    }

    /// Notes the splits whose V leaves over this link; the node may acknowledge these and no others.
    pub(crate) fn offer(&self, splits: impl Iterator<Item = ShareId>) {
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.get_or_insert_default().extend(splits);
    }

    fn was_offered(&self, split: &ShareId) -> bool {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered
            .as_ref()
            .is_some_and(|offered| offered.contains(split))
    }

    /// Whether V was sent over this link: the boot may have gone on with it.
    pub(crate) fn had_v(&self) -> bool {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.is_some()
    }

    /// Tenant and registrar speak of the same AK (CVE-2022-1053: read at two times, two AKs).
    pub(crate) fn fits(&self, enrolled: &Enrolled) -> bool {
        self.generation == enrolled.terms.generation
            && self.ak_digest.as_slice() == enrolled.terms.ak_digest.as_slice()
    }
}
