//! A node in its initramfs: appraise its boot, then send V.

use std::sync::Arc;

use bootkeep_policy::{appraise_boot, boot_call, Booted, Policies, Question, Refusal};
use bootkeep_protocol::{
    kept::SignedPcrPolicy,
    link::{Call, Evidence, Reply},
    Role,
};

use super::{await_policies, end_refused, keep_evidence, pause_after, refuse, share, RETRY};
use crate::{
    clock::now_ms,
    error::VerifierError,
    fleet::{Checkpoint, Enrolled, Node, Verdict},
    link::{CallError, Link},
    service::Verifier,
};

enum Outcome {
    Good(Box<Booted>),
    Refused(Refusal),
    /// No policy counts any more.
    NoPolicy,
    NoEvidence(CallError),
}

/// Until V is sent or the evidence is refused; for a node that keeps its U, again whenever other PCR policies count.
pub(super) async fn attest(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    enrolled: &Arc<Enrolled>,
) {
    let trust = node.trust();
    // This boot has gone further: an enrolment that stages a K begins nothing anew.
    let running = matches!(trust.verdict, Verdict::Trusted { .. });
    if !trust.is_open() || running {
        return;
    }
    loop {
        await_policies(verifier, node, link, enrolled).await;
        match appraise(verifier, node, link, enrolled).await {
            Ok(Outcome::Good(booted)) => {
                match release(verifier, node, link, enrolled, *booted).await {
                    Ok(Some(sent)) => share::await_other_policies(enrolled, &sent).await,
                    Ok(None) => return,
                    Err(error) => pause_after(node, &error).await,
                }
            }
            // It was asked again and has opened its volume meanwhile, with the V it had.
            Ok(Outcome::Refused(refusal)) if link.had_v() && is_only_latched(&refusal) => return,
            Ok(Outcome::Refused(refusal)) => {
                refuse(verifier, node, enrolled, &refusal).await;
                return end_refused(link, &refusal);
            }
            Ok(Outcome::NoPolicy) => {}
            Ok(Outcome::NoEvidence(error)) => {
                node.step("no-evidence", &error.to_string());
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => pause_after(node, &error).await,
        }
    }
}

async fn appraise(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    enrolled: &Enrolled,
) -> Result<Outcome, VerifierError> {
    let call = boot_call(verifier.nonce()?, Role::Verifier, 0);
    let evidence: Box<Evidence> = match link.calls.ask(Call::Quote(call.clone())).await {
        Ok(Reply::Quote(evidence)) => evidence,
        Ok(_) => return Ok(Outcome::NoEvidence(CallError::OtherReply)),
        Err(error) => return Ok(Outcome::NoEvidence(error)),
    };
    let question = Question {
        node: node.id(),
        ak: &link.ak,
        call: &call,
        exporter: &link.exporter,
        phase: link.phase,
    };
    let (boot, runtime) = (enrolled.boot.content(), enrolled.runtime.content());
    let now = now_ms();
    let policies = Policies {
        boot: boot.generations.at(now),
        runtime: &runtime.generations.at(now),
    };
    let previous = node.trust().baseline.map(|baseline| baseline.clock());
    let verdict = appraise_boot(&question, &evidence, policies, previous);
    keep_evidence(node, &question, *evidence, verdict.is_ok());
    Ok(match verdict {
        Ok(booted) => Outcome::Good(Box::new(booted)),
        Err(refusal) if refusal.is_ours() => Outcome::NoPolicy,
        Err(refusal) => Outcome::Refused(refusal),
    })
}

fn is_only_latched(refusal: &Refusal) -> bool {
    let reasons = refusal.reasons();
    reasons.iter().all(|reason| reason.code == "latched")
}

/// Stores the verdict, then sends V for this very appraisal. Gives the PCR policies that were sent with it to a node that
/// keeps its U: it waits for others when none of them fits.
async fn release(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    enrolled: &Arc<Enrolled>,
    booted: Booted,
) -> Result<Option<Vec<SignedPcrPolicy>>, VerifierError> {
    let clock = booted.baseline().clock();
    let checkpoint = Checkpoint {
        reset_count: clock.reset_count,
        ima: booted.ima().clone(),
    };
    let verdict = |trust: &mut crate::fleet::Trust| trust.boot_trusted(&booted, now_ms());
    if !verifier.fleet.change(node, enrolled, verdict).await? || !node.trust().is_open() {
        return Ok(None);
    }
    verifier.fleet.keep_checkpoint(node, enrolled, checkpoint);
    let safe = if clock.safe {
        ""
    } else {
        ", after an unclean power-off"
    };
    let entries = booted.ima().entries();
    node.step(
        "appraised",
        &format!("boot good, {entries} IMA entries{safe}"),
    );
    verifier.counters.appraised();
    verifier.reinstate(node, enrolled).await?;
    share::send(verifier, node, link, enrolled, booted).await
}
