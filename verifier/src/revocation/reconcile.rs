//! Verdicts and log agree: after a crash between the two, after a database that was away, and when another verifier
//! has appended.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bootkeep_link::Backoff;
use bootkeep_policy::Refusal;
use bootkeep_protocol::verifier::OnFailure;

use super::On;
use crate::{
    clock::now_ms,
    error::VerifierError,
    fleet::{Node, Trust, Verdict},
    service::Verifier,
};

/// Between two looks at what other verifiers have appended.
const LOOK: Duration = Duration::from_millis(500);

/// Looks at every enrolled node: who was refused or revoked has an entry, and who has an entry is not trusted.
pub(super) async fn once(verifier: &Verifier) -> Result<(), VerifierError> {
    let Some(on) = verifier.revocations.on() else {
        return Ok(());
    };
    for node in verifier.fleet.all() {
        one(verifier, on, &node).await?;
        verifier.revocations.mark(&node);
    }
    Ok(())
}

async fn one(verifier: &Verifier, on: &On, node: &Arc<Node>) -> Result<(), VerifierError> {
    let Some(enrolled) = node.enrolment() else {
        return Ok(());
    };
    let trust = node.trust();
    if needs_entry(&trust, enrolled.terms.on_failure) {
        return verifier.revoke(node, &enrolled, trust.reasons).await;
    }
    let known = on.log.revocation(node.id());
    let Some(known) = known.filter(|known| known.enrolment == enrolled.terms.digest) else {
        return Ok(());
    };
    if !trust.is_open() {
        return Ok(());
    }
    // The entry was stored, the verdict was not.
    let detail = format!("entry {} of the revocation log revokes it", known.sequence);
    let refusal = Refusal::of("revoked-in-log", &detail);
    let verdict = |trust: &mut Trust| trust.refused(&refusal, now_ms());
    verifier.fleet.condemn(node, &enrolled, verdict).await?;
    node.step("untrusted", &detail);
    Ok(())
}

fn needs_entry(trust: &Trust, on_failure: OnFailure) -> bool {
    match trust.verdict {
        Verdict::Revoked => true,
        Verdict::Untrusted => on_failure == OnFailure::Revoke,
        _ => false,
    }
}

/// Keeps up with other verifiers, and tries again what could not be written. Ends with the verifier.
pub(super) async fn run(verifier: Weak<Verifier>) {
    let mut backoff = Backoff::default();
    let mut amiss = false;
    while let Some(verifier) = verifier.upgrade() {
        let Some(on) = verifier.revocations.on() else {
            return;
        };
        let _ = tokio::time::timeout(LOOK, on.amiss.notified())
            .await
            .map(|()| amiss = true);
        let result = look(&verifier, on, amiss).await;
        drop(verifier);
        match result {
            Ok(()) => {
                amiss = false;
                backoff.reset();
            }
            Err(error) => {
                tracing::error!(%error, "the revocation log cannot be brought up to date; trying again");
                amiss = true;
                backoff.pause().await;
            }
        }
    }
}

async fn look(verifier: &Verifier, on: &On, amiss: bool) -> Result<(), VerifierError> {
    let before = on.log.end();
    on.log.refresh().await?;
    on.lists.look(&on.log.table).await?;
    if amiss || on.log.end() != before {
        once(verifier).await?;
    }
    Ok(())
}
