//! What other verifiers on the same database have done to a node, seen when its link comes here.

use super::{Fleet, Node, Verdict};
use crate::{error::VerifierError, policies::Policies, store::StoredNode};

impl Fleet {
    /// Takes over what is stored: another enrolment, none at all, a verdict that closes, and the K sets. What this verifier
    /// knows of the running boot under the same enrolment stays.
    pub(crate) async fn refresh(
        &self,
        node: &Node,
        policies: &Policies,
    ) -> Result<(), VerifierError> {
        let _gate = node.gate.lock().await;
        let stored = self.database.load_one(node.id(), policies).await?;
        let known = node.enrolment();
        match (stored, known) {
            (None, None) => {}
            (None, Some(_)) => node.publish_forgotten(),
            (Some(stored), Some(known)) if stored.enrolled.terms.digest == known.terms.digest => {
                take_over(node, stored);
            }
            (Some(stored), _) => {
                node.publish_enrolment(stored.enrolled, stored.trust, stored.keys);
                if let Some(report) = stored.boot_files {
                    node.set_boot_files(report);
                }
            }
        }
        Ok(())
    }
}

fn take_over(node: &Node, stored: StoredNode) {
    let known = node.trust();
    if known.verdict == Verdict::Revoked {
        return;
    }
    if known.is_open() && !stored.trust.is_open() {
        node.publish(stored.trust);
    }
    node.set_keys(stored.keys);
    if let Some(report) = stored.boot_files {
        node.set_boot_files(report);
    }
}
