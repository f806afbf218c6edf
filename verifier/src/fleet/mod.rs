//! All nodes this verifier knows, in memory, and the one way their verdicts change.

mod enrolled;
mod node;
mod steps;
mod trust;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use bootkeep_protocol::NodeId;

pub(crate) use enrolled::{Enrolled, NewEnrolment, Secrets, Terms};
pub(crate) use node::{latched, Checkpoint, Node};
pub(crate) use trust::{Trust, Verdict};

use crate::{
    clock::now_ms,
    error::VerifierError,
    store::{Database, StoredNode},
};

/// The nodes and where they are kept.
#[derive(Debug)]
pub(crate) struct Fleet {
    nodes: RwLock<HashMap<NodeId, Arc<Node>>>,
    pub(crate) database: Database,
}

impl Fleet {
    /// Loads every enrolled node. A row that cannot be read is left out and logged: it must not take the others along.
    pub(crate) async fn load(database: Database) -> Result<Self, VerifierError> {
        let mut nodes = HashMap::new();
        for StoredNode {
            id,
            enrolled,
            trust,
        } in database.load().await?
        {
            let node = Node::new(id.clone(), Some(Arc::new(enrolled)), trust);
            nodes.insert(id, Arc::new(node));
        }
        tracing::info!(nodes = nodes.len(), "enrolments loaded");
        Ok(Self {
            nodes: RwLock::new(nodes),
            database,
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
        self.database.enrol(node.id(), &new, &trust).await?;
        node.publish_enrolment(Some(Arc::new(new.enrolled)), trust);
        Ok(true)
    }

    /// Forgets enrolment, V and verdict.
    pub(crate) async fn forget(&self, node: &Node) -> Result<(), VerifierError> {
        let _gate = node.gate.lock().await;
        self.database.forget(node.id()).await?;
        node.publish_enrolment(None, Trust::default());
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
            self.database.save_trust(node.id(), &trust).await?;
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

    /// The tenant's word: V is gone from the store when this returns.
    pub(crate) async fn revoke(&self, node: &Node, reason: &str) -> Result<(), VerifierError> {
        let _gate = node.gate.lock().await;
        let mut trust = node.trust();
        trust.revoked(reason, now_ms());
        node.publish(trust.clone());
        self.database.revoke(node.id(), &trust).await
    }
}

fn is_current(node: &Node, under: &Arc<Enrolled>) -> bool {
    node.enrolment()
        .is_some_and(|current| Arc::ptr_eq(&current, under))
}
