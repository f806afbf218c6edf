//! All nodes this verifier knows, in memory, and the one way their verdicts change.

mod checkpoints;
mod enrolled;
mod keys;
mod node;
mod refresh;
mod steps;
mod trust;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use bootkeep_policy::ImaState;
use bootkeep_protocol::{policy::PolicyKind, verifier::State, NodeId};

pub(crate) use checkpoints::spawn_writer;
#[cfg(test)]
pub(crate) use enrolled::Secrets;
pub(crate) use enrolled::{Enrolled, NewEnrolment, Terms};
pub(crate) use keys::latched_values;
pub(crate) use node::{latched, Checkpoint, Node};
pub(crate) use trust::{Trust, Verdict};

use crate::{
    clock::now_ms,
    error::VerifierError,
    keys::Keys,
    policies::{Followers, Policies, PolicyId},
    store::{checkpoint_context, Database, NewCheckpoint},
};
use checkpoints::Pending;

/// The nodes and where they are kept.
#[derive(Debug)]
pub(crate) struct Fleet {
    nodes: RwLock<HashMap<NodeId, Arc<Node>>>,
    pub(crate) database: Database,
    pending: Pending,
}

impl Fleet {
    /// Loads every enrolled node. A row that cannot be read is left out and logged: it must not take the others along.
    pub(crate) async fn load(
        database: Database,
        policies: &Policies,
    ) -> Result<Self, VerifierError> {
        let mut nodes = HashMap::new();
        for stored in database.load(policies).await? {
            let id = stored.id.clone();
            nodes.insert(id, Arc::new(Node::stored(stored)));
        }
        tracing::info!(nodes = nodes.len(), "enrolments loaded");
        Ok(Self {
            nodes: RwLock::new(nodes),
            database,
            pending: Pending::default(),
        })
    }

    /// A node that is enrolled or has a link.
    pub(crate) fn get(&self, id: &NodeId) -> Option<Arc<Node>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes.get(id).cloned()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = nodes.values().cloned().collect();
        drop(nodes);
        all.sort_by(|a, b| a.id().cmp(b.id()));
        all
    }

    /// The node, made when it is not known yet.
    pub(crate) fn node(&self, id: &NodeId) -> Arc<Node> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Node::new(id.clone(), None, Trust::default()));
        nodes.entry(id.clone()).or_insert_with(new).clone()
    }

    /// Forgets a node that is neither enrolled nor linked. Nobody else may hold it, or its next link would be lost.
    pub(crate) fn tidy(&self, id: &NodeId) {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let idle = |node: &Arc<Node>| Arc::strong_count(node) == 1 && node.is_idle();
        if nodes.get(id).is_some_and(idle) {
            nodes.remove(id);
        }
    }

    /// Enrols, or replaces an enrolment. Durable when it returns. The same enrolment again changes nothing.
    pub(crate) async fn enrol(
        &self,
        node: &Node,
        new: NewEnrolment,
    ) -> Result<bool, VerifierError> {
        let _gate = node.gate.lock().await;
        let old = node.enrolment();
        if new.is_staged() {
            return self.stage(node, old, new).await;
        }
        let mut trust = Trust::waiting(now_ms());
        if let Some(old) = &old {
            let revoked = node.trust().verdict == Verdict::Revoked;
            if old.terms.digest == new.enrolled.terms.digest && !revoked {
                return Ok(false);
            }
            if new.enrolled.continues(old) {
                let known = node.trust();
                trust.baseline = known.baseline;
                trust.boot_id = known.boot_id;
            }
        }
        let keys = self.database.enrol(node.id(), &new, &trust).await?;
        node.publish_enrolment(new.enrolled, trust, keys);
        Ok(true)
    }

    /// Forgets enrolment, V and verdict.
    pub(crate) async fn forget(&self, node: &Node) -> Result<(), VerifierError> {
        let _gate = node.gate.lock().await;
        self.database.forget(node.id()).await?;
        node.publish_forgotten();
        Ok(())
    }

    /// Changes the verdict for the better, or what belongs to it: stored first, then told. Nothing happens when the
    /// enrolment is no longer the one the change was worked out under; the answer says whether it was.
    pub(crate) async fn change(
        &self,
        node: &Node,
        under: &Arc<Enrolled>,
        change: impl FnOnce(&mut Trust),
    ) -> Result<bool, VerifierError> {
        let _gate = node.gate.lock().await;
        if !is_current(node, under) {
            return Ok(false);
        }
        let before = node.trust();
        let mut trust = before.clone();
        change(&mut trust);
        // Refreshed trust lives in memory: after a restart a node is trusted when it was attested anew.
        let refreshed = matches!(
            (before.verdict, trust.verdict),
            (Verdict::Trusted { .. }, Verdict::Trusted { .. })
        ) && before.claims == trust.claims;
        if !refreshed {
            if let Some(closed) = self.database.save_trust(node.id(), &trust).await? {
                node.publish(closed);
                return Ok(false);
            }
        }
        node.publish(trust);
        Ok(true)
    }

    /// Changes the verdict for the worse: told first, then stored, so that a database that is away protects nobody.
    pub(crate) async fn condemn(
        &self,
        node: &Node,
        under: &Arc<Enrolled>,
        change: impl FnOnce(&mut Trust),
    ) -> Result<bool, VerifierError> {
        let _gate = node.gate.lock().await;
        if !is_current(node, under) {
            return Ok(false);
        }
        let mut trust = node.trust();
        change(&mut trust);
        node.publish(trust.clone());
        self.database.save_trust(node.id(), &trust).await?;
        Ok(true)
    }

    /// How far the IMA list of this boot was appraised: known, or stored before a restart; else nothing.
    pub(crate) async fn resume(
        &self,
        node: &Node,
        enrolled: &Enrolled,
        reset_count: u32,
    ) -> ImaState {
        if let Some(known) = node.checkpoint(reset_count) {
            return known;
        }
        let context = checkpoint_context(enrolled, reset_count);
        let stored = self.database.checkpoint(node.id(), &context).await;
        stored.unwrap_or_default()
    }

    /// Keeps how far the list was appraised; stored soon, when it went on.
    pub(crate) fn keep_checkpoint(&self, node: &Node, enrolled: &Enrolled, checkpoint: Checkpoint) {
        let new = NewCheckpoint {
            node: node.id().clone(),
            context: checkpoint_context(enrolled, checkpoint.reset_count),
            bytes: checkpoint.ima.to_bytes(),
        };
        if node.keep_checkpoint(checkpoint) {
            self.pending.put(new);
        }
    }

    /// Stores what is written behind.
    pub(crate) async fn flush(&self) {
        self.pending.flush(&self.database).await;
    }

    /// How many nodes follow each named policy.
    pub(crate) fn followers(&self) -> Followers {
        let mut followers = Followers::new();
        for enrolment in self.all().iter().filter_map(|node| node.enrolment()) {
            let boot = enrolment.boot.name().map(|name| (PolicyKind::Boot, name));
            let runtime = enrolment
                .runtime
                .name()
                .map(|name| (PolicyKind::Runtime, name));
            for (kind, name) in boot.into_iter().chain(runtime) {
                let name = name.to_owned();
                *followers.entry(PolicyId { kind, name }).or_default() += 1;
            }
        }
        followers
    }

    /// How many enrolled nodes are in each state.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, u64> {
        let mut states: BTreeMap<&str, u64> = State::ALL.map(|state| (state.as_str(), 0)).into();
        for state in self.all().iter().filter_map(|node| node.state()) {
            *states.entry(state.as_str()).or_default() += 1;
        }
        states
    }

    /// The tenant's word: V is gone from the store when this returns.
    pub(crate) async fn revoke(&self, node: &Node, reason: &str) -> Result<(), VerifierError> {
        let _gate = node.gate.lock().await;
        let mut trust = node.trust();
        trust.revoked(reason, now_ms());
        node.publish(trust.clone());
        node.set_keys(Keys::default());
        self.database.revoke(node.id(), &trust).await
    }
}

fn is_current(node: &Node, under: &Arc<Enrolled>) -> bool {
    node.enrolment()
        .is_some_and(|current| Arc::ptr_eq(&current, under))
}
