//! Attestation of one linked node, for as long as its link lives.

mod boot;
mod pace;
mod runtime;
mod share;

use std::{sync::Arc, time::Duration};

use bootkeep_policy::{quoted_pcrs, Question, Refusal};
use bootkeep_protocol::{link::Evidence, verifier::OnFailure, Phase, Problem};

use crate::{
    clock::now_ms,
    error::VerifierError,
    fleet::{Enrolled, Node, Verdict},
    link::{other_ak, problem_of, Link},
    service::Verifier,
};

/// Pause after a failure that is not the node's evidence.
const RETRY: Duration = Duration::from_secs(2);
/// Longest time until the clock is looked at again while no policy counts: it may be set meanwhile.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Attests the node of a link under its enrolment, and again from the start whenever the enrolment changes. Ends only
/// with the link.
pub(crate) async fn drive(verifier: Arc<Verifier>, node: Arc<Node>, link: Arc<Link>) {
    let mut enrolments = node.watch_enrolment();
    loop {
        let current = enrolments.borrow_and_update().clone();
        let work = async {
            if let Some(enrolled) = current {
                attest(&verifier, &node, &link, &enrolled).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            changed = enrolments.changed() => if changed.is_err() { return },
        }
    }
}

async fn attest(verifier: &Verifier, node: &Node, link: &Link, enrolled: &Arc<Enrolled>) {
    if !link.fits(enrolled) {
        return link.end(other_ak());
    }
    match link.phase {
        Phase::Initramfs => boot::attest(verifier, node, link, enrolled).await,
        Phase::Runtime => runtime::attest(verifier, node, link, enrolled).await,
    }
}

/// A link has opened: when it is of another boot than the appraised one, what was known of that boot is over.
pub(crate) async fn note_boot(
    verifier: &Verifier,
    node: &Node,
    enrolled: &Arc<Enrolled>,
    link: &Link,
) -> Result<(), Problem> {
    let known = node.trust();
    let labelled = known.boot_id.as_ref() == Some(&link.boot_id);
    let same = match &known.baseline {
        // The TPM's count decides; the label is the node's own choice and serves only while there is no trust to lose.
        Some(baseline) if known.verdict != Verdict::Waiting => {
            known.boot_id.is_some() && baseline.clock().reset_count == link.clock.reset_count
        }
        _ => labelled,
    };
    if same {
        return Ok(());
    }
    let change =
        |trust: &mut crate::fleet::Trust| trust.begin_boot(&link.boot_id, crate::clock::now_ms());
    verifier.fleet.change(node, enrolled, change).await?;
    Ok(())
}

/// Evidence was refused: the verdict, the step, the count.
async fn refuse(verifier: &Verifier, node: &Node, enrolled: &Arc<Enrolled>, refusal: &Refusal) {
    for reason in refusal.reasons() {
        verifier.counters.refused(&reason.code);
    }
    let verdict = |trust: &mut crate::fleet::Trust| trust.refused(refusal, crate::clock::now_ms());
    let condemned = verifier.fleet.condemn(node, enrolled, verdict).await;
    verifier.webhooks.wake();
    if !matches!(condemned, Ok(false)) {
        revoke(verifier, node, enrolled, refusal).await;
    }
    match condemned {
        Ok(true) => node.step("untrusted", &refusal.to_string()),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(node = node.id().short(), %error, "a verdict could not be stored");
            node.step("untrusted", &refusal.to_string());
        }
    }
}

/// Refused evidence revokes the node, unless its owner only wants to hear of it.
async fn revoke(verifier: &Verifier, node: &Node, enrolled: &Enrolled, refusal: &Refusal) {
    if enrolled.terms.on_failure != OnFailure::Revoke {
        return;
    }
    if let Err(error) = verifier.revoke(node, enrolled, refusal.reasons()).await {
        tracing::error!(node = node.id().short(), %error, "a revocation could not be stored; trying again");
    }
}

/// Waits until there are policies that count. That none does is nothing the node can help: it is not blamed, and what
/// trust it has runs out.
async fn await_policies(verifier: &Verifier, node: &Node, link: &Link, enrolled: &Enrolled) {
    let mut told = false;
    loop {
        let (mut boot, mut runtime) = (enrolled.boot.watch(), enrolled.runtime.watch());
        let Some(gap) = enrolled.gap(link.phase, now_ms()) else {
            return;
        };
        if !std::mem::replace(&mut told, true) {
            node.step("no-policy", &gap.to_string());
            for reason in gap.reasons() {
                verifier.counters.refused(&reason.code);
            }
        }
        let pause = enrolled.next_change(now_ms()).map(Duration::from_millis);
        tokio::select! {
            // The senders live as long as the enrolment, which we hold.
            _ = boot.changed() => {}
            _ = runtime.changed() => {}
            () = tokio::time::sleep(pause.unwrap_or(LONGEST_GAP).min(LONGEST_GAP)) => {}
        }
    }
}

/// Keeps evidence for the tenant's dry runs: of refused evidence only what a verified quote says.
fn keep_evidence(node: &Node, question: &Question<'_>, evidence: Evidence, good: bool) {
    if good || quoted_pcrs(question, &evidence).is_ok() {
        node.keep_evidence(
            evidence.quote.pcrs,
            evidence.event_log,
            question.call.event_log,
        );
    }
}

/// A fault of ours: the node keeps what trust it has, until it runs out.
async fn pause_after(node: &Node, error: &VerifierError) {
    tracing::error!(node = node.id().short(), %error, "attestation failed on our side");
    tokio::time::sleep(RETRY).await;
}

fn end_refused(link: &Link, refusal: &Refusal) {
    link.end(problem_of(refusal));
}
