//! One node in memory: verdict, steps, links.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bootkeep_policy::{ImaState, Refusal};
use bootkeep_protocol::{
    boot_files::BootFiles,
    link::{PcrValue, LATCH_PCR},
    verifier::{LastEvidence, LinkInfo, NodeStatus, Reason, State, StepRecord},
    Bytes, NodeId, Phase, Problem, ProblemKind,
};
use tokio::sync::watch;

use super::{steps::Steps, trust::Trust, Enrolled};
use crate::{clock::now_ms, keys::Keys, link::Link, store::StoredNode};

/// A node, enrolled or only linked.
#[derive(Debug)]
pub(crate) struct Node {
    id: NodeId,
    inner: Mutex<Inner>,
    enrolment: watch::Sender<Option<Arc<Enrolled>>>,
    changes: watch::Sender<()>,
    /// Held while a verdict is worked out, stored and published.
    pub(super) gate: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    trust: Trust,
    steps: Steps,
    links: BTreeMap<Phase, Arc<Link>>,
    checkpoint: Option<Checkpoint>,
    evidence: Option<LastEvidence>,
    /// Sequence number of the entry that revoked it.
    revocation: Option<u64>,
    keys: Keys,
    boot_files: Option<BootFiles>,
}

/// Largest event log that is kept for the tenant (bytes).
const MAX_KEPT_LOG: usize = 256 * 1024;

/// How far the IMA list of a boot was appraised. A cache: without it the list is read from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) reset_count: u32,
    pub(crate) ima: ImaState,
}

impl Node {
    pub(crate) fn new(id: NodeId, enrolment: Option<Arc<Enrolled>>, trust: Trust) -> Self {
        Self {
            id,
            inner: Mutex::new(Inner {
                trust,
                steps: Steps::starting_at(now_ms()),
                links: BTreeMap::new(),
                checkpoint: None,
                evidence: None,
                revocation: None,
                keys: Keys::default(),
                boot_files: None,
            }),
            enrolment: watch::Sender::new(enrolment),
            changes: watch::Sender::new(()),
            gate: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn stored(stored: StoredNode) -> Self {
        let enrolled = Some(Arc::new(stored.enrolled));
        let node = Self::new(stored.id, enrolled, stored.trust);
        {
            let mut inner = node.inner();
            inner.keys = stored.keys;
            inner.boot_files = stored.boot_files;
        }
        node
    }

    pub(crate) fn id(&self) -> &NodeId {
        &self.id
    }

    /// Every change is one assignment, so a panic elsewhere leaves nothing half done.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enrolment(&self) -> Option<Arc<Enrolled>> {
        self.enrolment.borrow().clone()
    }

    pub(crate) fn watch_enrolment(&self) -> watch::Receiver<Option<Arc<Enrolled>>> {
        self.enrolment.subscribe()
    }

    /// Changes whenever steps, status or links may have.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn trust(&self) -> Trust {
        self.inner().trust.clone()
    }

    pub(super) fn publish(&self, trust: Trust) {
        self.inner().trust = trust;
        self.changes.send_replace(());
    }

    /// Publishes a new enrolment with its verdict and K sets.
    pub(super) fn publish_enrolment(&self, enrolled: Enrolled, trust: Trust, keys: Keys) {
        {
            let mut inner = self.inner();
            inner.trust = trust;
            inner.keys = keys;
            inner.checkpoint = None;
        }
        self.enrolment.send_replace(Some(Arc::new(enrolled)));
        self.changes.send_replace(());
    }

    /// Publishes an enrolment under which the running system goes on as it is.
    pub(super) fn publish_staged(&self, enrolled: Enrolled, keys: Keys) {
        self.inner().keys = keys;
        self.enrolment.send_replace(Some(Arc::new(enrolled)));
        self.changes.send_replace(());
    }

    /// Forgets the enrolment and what belongs to it.
    pub(super) fn publish_forgotten(&self) {
        {
            let mut inner = self.inner();
            inner.trust = Trust::default();
            inner.keys = Keys::default();
            inner.checkpoint = None;
            inner.boot_files = None;
        }
        self.enrolment.send_replace(None);
        self.changes.send_replace(());
    }

    pub(crate) fn keys(&self) -> Keys {
        self.inner().keys.clone()
    }

    pub(super) fn set_keys(&self, keys: Keys) {
        self.inner().keys = keys;
        self.changes.send_replace(());
    }

    pub(crate) fn boot_files(&self) -> Option<BootFiles> {
        self.inner().boot_files.clone()
    }

    pub(super) fn set_boot_files(&self, report: BootFiles) {
        self.inner().boot_files = Some(report);
        self.changes.send_replace(());
    }

    pub(crate) fn step(&self, step: &str, detail: &str) {
        self.record(step, None, detail);
    }

    pub(crate) fn record(&self, step: &str, node_ms: Option<u64>, detail: &str) {
        tracing::info!(node = self.id.short(), step, detail, "step");
        self.inner().steps.push(now_ms(), step, node_ms, detail);
        self.changes.send_replace(());
    }

    pub(crate) fn steps_after(&self, number: u64) -> Vec<StepRecord> {
        self.inner().steps.after(number)
    }

    pub(crate) fn confirmation(&self) -> Option<Bytes> {
        self.inner().trust.confirmation.clone()
    }

    pub(crate) fn checkpoint(&self, reset_count: u32) -> Option<ImaState> {
        let inner = self.inner();
        let known = inner.checkpoint.as_ref();
        let known = known.filter(|known| known.reset_count == reset_count);
        known.map(|known| known.ima.clone())
    }

    /// Gives whether it is another than the one before.
    pub(super) fn keep_checkpoint(&self, checkpoint: Checkpoint) -> bool {
        let mut inner = self.inner();
        let changed = inner.checkpoint.as_ref() != Some(&checkpoint);
        inner.checkpoint = Some(checkpoint);
        changed
    }

    /// Keeps what a verified quote said. The log of the boot stays until the next boot brings its own.
    pub(crate) fn keep_evidence(&self, pcrs: Vec<PcrValue>, event_log: Option<Bytes>, boot: bool) {
        let mut inner = self.inner();
        let before = inner.evidence.take().filter(|_| !boot);
        let event_log = event_log.or(before.and_then(|evidence| evidence.event_log));
        inner.evidence = Some(LastEvidence {
            at_ms: now_ms(),
            pcrs,
            event_log: event_log.filter(|log| log.as_slice().len() <= MAX_KEPT_LOG),
        });
    }

    pub(crate) fn evidence(&self) -> Option<LastEvidence> {
        self.inner().evidence.clone()
    }

    /// The state now; `None` when the node is not enrolled.
    pub(crate) fn state(&self) -> Option<State> {
        self.enrolment()?;
        let inner = self.inner();
        let links: Vec<Phase> = inner.links.keys().copied().collect();
        Some(inner.trust.state_at(now_ms(), &links))
    }

    /// Puts a link in its place and gives back the one that was there.
    pub(crate) fn add_link(&self, link: Arc<Link>) -> Option<Arc<Link>> {
        let old = self.inner().links.insert(link.phase, link);
        self.changes.send_replace(());
        old
    }

    pub(crate) fn remove_link(&self, link: &Arc<Link>) {
        {
            let mut inner = self.inner();
            let current = inner.links.get(&link.phase);
            if current.is_some_and(|current| Arc::ptr_eq(current, link)) {
                inner.links.remove(&link.phase);
            }
        }
        self.changes.send_replace(());
    }

    pub(crate) fn link(&self, phase: Phase) -> Option<Arc<Link>> {
        self.inner().links.get(&phase).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.inner().links.values().cloned().collect()
    }

    /// Ends every link, saying why.
    pub(crate) fn end_links(&self, problem: &Problem) {
        for link in self.links() {
            link.end(problem.clone());
        }
    }

    pub(crate) fn link_infos(&self) -> Vec<LinkInfo> {
        let enrolled = self.enrolment().is_some();
        let info = |link: Arc<Link>| LinkInfo {
            node_id: self.id.clone(),
            phase: link.phase,
            boot_id: link.boot_id.clone(),
            exporter: link.exporter.as_slice().into(),
            enrolled,
        };
        self.links().into_iter().map(info).collect()
    }

    /// Shows the entry of the revocation log that revoked the node, if it is revoked there.
    pub(crate) fn set_revocation(&self, sequence: Option<u64>) {
        self.inner().revocation = sequence;
        self.changes.send_replace(());
    }

    /// The status now; `None` when the node is not enrolled.
    pub(crate) fn status(&self) -> Option<NodeStatus> {
        let enrolment = self.enrolment()?;
        let inner = self.inner();
        let links: Vec<Phase> = inner.links.keys().copied().collect();
        let trust = &inner.trust;
        let now = now_ms();
        let state = trust.state_at(now, &links);
        Some(NodeStatus {
            node_id: self.id.clone(),
            label: enrolment.terms.label.clone(),
            state,
            since_ms: trust.since_at(now),
            trusted_until_ms: trust.until_ms(),
            reasons: reasons(trust, &enrolment, state, now),
            claims: trust.claims.clone(),
            attestations: trust.attestations,
            ima_entries: trust.ima_entries,
            boot_id: trust.boot_id.clone(),
            clock_safe: trust.clock_safe,
            links,
            interval_seconds: enrolment.terms.interval_seconds,
            policies: vec![enrolment.boot.in_use(now), enrolment.runtime.in_use(now)],
            revocation: inner.revocation,
            unattended: inner.keys.status(),
            boot_files: inner.boot_files.clone(),
        })
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        self.enrolment.borrow().is_none() && self.inner().links.is_empty()
    }
}

/// Why the node is in this state. Worked out now, as the state is: time changes both without anybody doing anything.
fn reasons(trust: &Trust, enrolment: &Enrolled, state: State, now_ms: u64) -> Vec<Reason> {
    let mut reasons = trust.reasons.clone();
    let phase = match state {
        State::Waiting => Phase::Initramfs,
        State::BootTrusted | State::Stale | State::Unreachable => Phase::Runtime,
        State::Trusted | State::Untrusted | State::Revoked => return reasons,
    };
    if let Some(gap) = enrolment.gap(phase, now_ms) {
        reasons.extend(gap.reasons());
    } else if let Some(silence) = silence(state) {
        reasons.extend(silence.reasons());
    }
    reasons
}

fn silence(state: State) -> Option<Refusal> {
    let detail = match state {
        State::Stale => "no good attestation came in time, though the node has a link",
        State::Unreachable => "no good attestation came in time, and the node has no link",
        _ => return None,
    };
    Some(Refusal::of(state.as_str(), detail))
}

/// Why a node that has opened its volume gets no link of the initramfs.
pub(crate) fn latched() -> Problem {
    Problem::new(
        ProblemKind::Untrusted,
        "latched",
        format!("PCR {LATCH_PCR} is not zero: this boot has already opened its volume, no share leaves any more"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_policy::{BootPolicy, RuntimePolicy};
    use bootkeep_protocol::{verifier::OnFailure, Bytes};

    use super::*;
    use crate::{
        fleet::{Terms, Verdict},
        policies::Shelf,
    };

    fn enrolled() -> Enrolled {
        Enrolled {
            terms: Terms {
                label: "node".into(),
                generation: 1,
                ak_digest: Bytes(vec![1; 32]),
                latched_pcr15: Bytes(vec![1; 32]),
                interval_seconds: 1,
                addresses: Vec::new(),
                serials: Vec::new(),
                on_failure: OnFailure::default(),
                digest: String::new(),
            },
            latched_pcr15: [1; 32],
            boot: Shelf::<BootPolicy>::default().named("base"),
            runtime: Shelf::<RuntimePolicy>::default().named("web"),
            boot_digest: String::new(),
            runtime_digest: String::new(),
        }
    }

    fn trusted_for(ms: u64) -> Arc<Node> {
        let until_ms = now_ms() + ms;
        let trust = Trust {
            verdict: Verdict::Trusted { until_ms },
            ..Trust::default()
        };
        let id = NodeId::of_ek_public(b"node");
        Arc::new(Node::new(id, Some(Arc::new(enrolled())), trust))
    }

    /// A10: the task that attests a node dies in the worst moment, holding the node's verdict and the gate of changes.
    #[tokio::test]
    async fn a10_a_task_that_panics_leaves_no_trust_behind() {
        let node = trusted_for(300);
        assert_eq!(node.status().unwrap().state, State::Trusted);
        let dying = node.clone();
        let task = tokio::spawn(async move {
            let _gate = dying.gate.lock().await;
            let _inner = dying.inner.lock().unwrap();
            panic!("a fault in the middle of a change");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(node.inner.is_poisoned());
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        let status = node.status().unwrap();
        assert_eq!(status.state, State::Unreachable);
        assert!(status.trusted_until_ms.unwrap() < now_ms());
        // The next task goes on: neither lock is lost.
        let _gate = node.gate.try_lock().unwrap();
        node.publish(Trust::waiting(now_ms()));
        assert_eq!(node.status().unwrap().state, State::Waiting);
    }

    #[test]
    fn a_node_whose_policies_are_gone_says_so() {
        let node = trusted_for(0);
        let status = node.status().unwrap();
        assert_eq!(status.reasons[0].code, "policy-empty");
        assert_eq!(trusted_for(1000).status().unwrap().reasons, []);
    }
}
