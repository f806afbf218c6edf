//! The one way a node's K sets change.

use std::sync::Arc;

use bootkeep_protocol::{boot_files::BootFiles, verifier::State, Problem, ProblemKind, ShareId};

use super::{is_current, Enrolled, Fleet, NewEnrolment, Node};
use crate::{
    clock::now_ms,
    error::VerifierError,
    keys::Keys,
    store::{SecretSet, Taken},
};

fn conflict(code: &str, detail: &str) -> VerifierError {
    Problem::new(ProblemKind::Conflict, code, detail).into()
}

/// A K is staged for a node that runs and is trusted, and for nothing but its K.
fn check_staged(
    node: &Node,
    old: Option<&Enrolled>,
    new: &NewEnrolment,
) -> Result<(), VerifierError> {
    let state = node.state();
    let Some(old) = old.filter(|_| state == Some(State::Trusted)) else {
        let state = state.map_or("not enrolled", State::as_str);
        let detail = format!("a K is staged for a trusted node only, and this one is {state}");
        return Err(conflict("not-trusted", &detail));
    };
    if new.enrolled.same_rules(old) {
        return Ok(());
    }
    Err(conflict(
        "staged-changes-policy",
        "a staged enrolment has the AK and the policies the node runs under: change them with an enrolment of their own",
    ))
}

impl Fleet {
    /// Puts a K beside the one the node runs with. Verdict and attestation go on. Durable when it returns; the same
    /// again changes nothing. The caller holds the node's gate.
    pub(super) async fn stage(
        &self,
        node: &Node,
        old: Option<Arc<Enrolled>>,
        mut new: NewEnrolment,
    ) -> Result<bool, VerifierError> {
        let same = |old: &Arc<Enrolled>| old.terms.digest == new.enrolled.terms.digest;
        if old.as_ref().is_some_and(same) && node.trust().is_open() {
            return Ok(false);
        }
        check_staged(node, old.as_deref(), &new)?;
        if let Some(old) = old {
            new.add_serials(&old.terms);
        }
        let trust = node.trust();
        let keys = self.database.enrol(node.id(), &new, &trust).await?;
        node.publish_staged(new.enrolled, keys);
        Ok(true)
    }

    /// The secrets that may be sent to a node that was appraised under this enrolment, newest K first; none when it is
    /// revoked, refused, or enrolled anew since. The next V of each is durable when this returns.
    pub(crate) async fn take_secrets(
        &self,
        node: &Node,
        under: &Arc<Enrolled>,
    ) -> Result<Vec<SecretSet>, VerifierError> {
        let _gate = node.gate.lock().await;
        if !is_current(node, under) || !node.trust().is_open() {
            return Ok(Vec::new());
        }
        let sets = match self.database.take_secrets(node.id(), under).await? {
            Taken::Nothing | Taken::Enrolled => return Ok(Vec::new()),
            Taken::Sets(sets) => sets,
        };
        let known = sets.iter().filter_map(|set| set.known.clone());
        node.set_keys(Keys(known.collect()));
        Ok(sets)
    }

    /// The node says that it keeps the U of this split. False, and nothing is dropped, when it cannot be.
    pub(crate) async fn acknowledge(
        &self,
        node: &Node,
        share: ShareId,
    ) -> Result<Option<bool>, VerifierError> {
        let _gate = node.gate.lock().await;
        let mut trust = node.trust();
        let known = trust.latched.as_ref();
        let known = known.and_then(|known| known.as_slice().try_into().ok());
        let stored = self
            .database
            .acknowledge(node.id(), share, known, now_ms())
            .await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        node.set_keys(stored.keys);
        if known != Some(stored.latched) {
            trust.latched = Some(stored.latched.as_slice().into());
            let closed = self.database.save_trust(node.id(), &trust).await?;
            node.publish(closed.unwrap_or(trust));
        }
        Ok(Some(stored.changed))
    }

    /// Keeps the node's report about the files of its next boot. Durable when it returns; false when it is known.
    pub(crate) async fn keep_boot_files(
        &self,
        node: &Node,
        report: BootFiles,
    ) -> Result<bool, VerifierError> {
        let _gate = node.gate.lock().await;
        if node.enrolment().is_none() || node.boot_files().as_ref() == Some(&report) {
            return Ok(false);
        }
        self.database.save_boot_files(node.id(), &report).await?;
        node.set_boot_files(report);
        Ok(true)
    }
}

/// Values PCR 15 may have in this boot of a running node: the one it has shown, or that of any K it may boot with.
pub(crate) fn latched_values(node: &Node, enrolled: &Enrolled) -> Vec<[u8; 32]> {
    let shown = node.trust().latched;
    if let Some(shown) = shown.and_then(|shown| shown.as_slice().try_into().ok()) {
        return vec![shown];
    }
    let kept = node.keys().latched();
    if kept.is_empty() {
        vec![enrolled.latched_pcr15]
    } else {
        kept
    }
}
