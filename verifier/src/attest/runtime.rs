//! A running node: attest at an interval, and at once when its IMA list grew.

use std::{sync::Arc, time::Duration};

use bootkeep_policy::{
    appraise_runtime, runtime_call, Attested, Baseline, ImaState, Progress, Question, Refusal,
};
use bootkeep_protocol::{
    link::{Call, Evidence, Reply, LATCH_PCR},
    Role,
};
use tokio::time::{sleep_until, Instant};

use super::{await_policies, keep_evidence, pace::Pace, pause_after, refuse, RETRY};
use crate::{
    clock::now_ms,
    error::VerifierError,
    fleet::{latched_values, Checkpoint, Enrolled, Node, Verdict},
    link::{CallError, Link},
    service::Verifier,
};

enum Outcome {
    /// With the value of PCR 15.
    Good(Box<Attested>, [u8; 32]),
    More,
    Refused(Refusal),
    /// No policy counts any more.
    NoPolicy,
    NoEvidence(CallError),
}

/// Until evidence is refused.
pub(super) async fn attest(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    enrolled: &Arc<Enrolled>,
) {
    let trust = node.trust();
    if !trust.is_open() {
        return;
    }
    let same_boot = |baseline: &Baseline| baseline.clock().reset_count == link.clock.reset_count;
    let Some(baseline) = trust.baseline.filter(same_boot) else {
        return no_boot_evidence(verifier, node, enrolled).await;
    };
    let mut attestation = Attestation {
        verifier,
        node,
        link,
        enrolled,
        ima: resume(verifier, node, enrolled, &baseline).await,
        baseline,
        pace: Pace::default(),
    };
    if let Err(refusal) = attestation.go_on().await {
        refuse(verifier, node, enrolled, &refusal).await;
    }
}

/// Where the last attestation of this boot ended, also before a restart of ours.
async fn resume(
    verifier: &Verifier,
    node: &Node,
    enrolled: &Enrolled,
    baseline: &Baseline,
) -> ImaState {
    let reset_count = baseline.clock().reset_count;
    let ima = verifier.fleet.resume(node, enrolled, reset_count).await;
    verifier.counters.resumed(ima.offset() > 0);
    ima
}

/// The boot was not seen in its initramfs, so nothing says that it was good: no trust, and no blame either.
async fn no_boot_evidence(verifier: &Verifier, node: &Node, enrolled: &Arc<Enrolled>) {
    let detail =
        "this boot was not appraised in its initramfs: it was unlocked without this verifier";
    node.step("refused", detail);
    verifier.counters.refused("no-boot-evidence");
    let explain = |trust: &mut crate::fleet::Trust| trust.explain("no-boot-evidence", detail);
    if let Err(error) = verifier.fleet.change(node, enrolled, explain).await {
        pause_after(node, &error).await;
    }
}

struct Attestation<'a> {
    verifier: &'a Verifier,
    node: &'a Node,
    link: &'a Link,
    enrolled: &'a Arc<Enrolled>,
    baseline: Baseline,
    ima: ImaState,
    pace: Pace,
}

impl Attestation<'_> {
    /// Attests again and again; gives the refusal that ends it.
    async fn go_on(&mut self) -> Result<(), Refusal> {
        loop {
            await_policies(self.verifier, self.node, self.link, self.enrolled).await;
            sleep_until(self.pace.take(Instant::now())).await;
            let started = Instant::now();
            match self.once().await {
                Ok(Outcome::Refused(refusal)) => return Err(refusal),
                Ok(Outcome::More | Outcome::NoPolicy) => continue,
                Ok(Outcome::Good(attested, latched)) => {
                    if let Err(error) = self.good(&attested, &latched).await {
                        pause_after(self.node, &error).await;
                    }
                    self.wait(
                        started,
                        Duration::from_secs(self.enrolled.terms.interval_seconds.into()),
                    )
                    .await;
                }
                Ok(Outcome::NoEvidence(error)) => {
                    self.node.step("no-evidence", &error.to_string());
                    self.wait(started, RETRY).await;
                }
                Err(error) => pause_after(self.node, &error).await,
            }
        }
    }

    async fn once(&mut self) -> Result<Outcome, VerifierError> {
        let call = runtime_call(self.verifier.nonce()?, Role::Verifier, self.ima.offset());
        let evidence: Box<Evidence> = match self.link.calls.ask(Call::Quote(call.clone())).await {
            Ok(Reply::Quote(evidence)) => evidence,
            Ok(_) => return Ok(Outcome::NoEvidence(CallError::OtherReply)),
            Err(error) => return Ok(Outcome::NoEvidence(error)),
        };
        let question = Question {
            node: self.node.id(),
            ak: &self.link.ak,
            call: &call,
            exporter: &self.link.exporter,
            phase: self.link.phase,
        };
        let runtime = self.enrolled.runtime.content();
        let latched = self.latched(&evidence);
        let progress = appraise_runtime(
            &question,
            &evidence,
            &runtime.generations.at(now_ms()),
            &latched,
            &self.baseline,
            &mut self.ima,
        );
        keep_evidence(self.node, &question, *evidence, progress.is_ok());
        Ok(match progress {
            Ok(Progress::Whole(attested)) => Outcome::Good(Box::new(attested), latched),
            Ok(Progress::More) => Outcome::More,
            Err(refusal) if refusal.is_ours() => Outcome::NoPolicy,
            Err(refusal) => Outcome::Refused(refusal),
        })
    }

    /// The value PCR 15 must have: of those that may be, the one the evidence claims. That it has it is appraised.
    fn latched(&self, evidence: &Evidence) -> [u8; 32] {
        let values = latched_values(self.node, self.enrolled);
        let claimed = |value: &&[u8; 32]| {
            let mut pcrs = evidence.quote.pcrs.iter();
            pcrs.any(|pcr| pcr.index == LATCH_PCR && pcr.digest.as_slice() == value.as_slice())
        };
        let value = values.iter().find(claimed).or(values.first());
        value.copied().unwrap_or(self.enrolled.latched_pcr15)
    }

    async fn good(&mut self, attested: &Attested, latched: &[u8; 32]) -> Result<(), VerifierError> {
        self.baseline = attested.baseline().clone();
        let was_trusted = matches!(self.node.trust().verdict, Verdict::Trusted { until_ms } if now_ms() < until_ms);
        let interval = self.enrolled.terms.interval_seconds;
        let verdict = |trust: &mut crate::fleet::Trust| {
            trust.attested(attested, latched, interval, now_ms());
        };
        if !self
            .verifier
            .fleet
            .change(self.node, self.enrolled, verdict)
            .await?
        {
            return Ok(());
        }
        self.verifier.counters.attested();
        let checkpoint = Checkpoint {
            reset_count: self.baseline.clock().reset_count,
            ima: self.ima.clone(),
        };
        let fleet = &self.verifier.fleet;
        fleet.keep_checkpoint(self.node, self.enrolled, checkpoint);
        self.verifier.reinstate(self.node, self.enrolled).await?;
        if !was_trusted {
            let detail = format!("{} IMA entries appraised", attested.ima_entries());
            self.node.step("trusted", &detail);
        }
        Ok(())
    }

    /// Until `pause` is over or the list grew beyond what was appraised. Growth during an attestation counts once.
    async fn wait(&self, started: Instant, pause: Duration) {
        let mut grew = self.link.grew.subscribe();
        let appraised = self.ima.entries();
        let growth = async {
            // The sender lives as long as the link, which we hold.
            let _ = grew.wait_for(|count| *count > appraised).await.is_ok();
        };
        tokio::select! {
            () = sleep_until(started + pause) => {}
            () = growth => {}
        }
    }
}
