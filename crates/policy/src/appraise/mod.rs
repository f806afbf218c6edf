//! Appraisal: evidence against the question it answers and against policy, failing closed.
//!
//! The order of the checks: signature by the AK, `TPM_GENERATED` and type, qualifying data, PCR selection, PCR digest
//! (all in [`bootkeep_evidence::quote`]); the TPM's clock; the latch; the event log's replay and the boot policy;
//! `boot_aggregate`; the IMA list's replay; the runtime policy. What comes before decides whether what follows can be
//! read at all: a quote that is not verified ends the appraisal, later checks all speak.

mod clock;
mod ima;
mod question;
mod verdict;

use bootkeep_evidence::{eventlog::EventLog, ima::Entry, ClockInfo, PcrValues};
use bootkeep_protocol::{
    limits::MAX_PCR_SIGNATURES,
    link::{Claim, Evidence},
    Phase,
};

pub(crate) use clock::ClockFacts;

pub use clock::UnsafeClock;
pub use ima::{CheckpointError, ImaState};
pub use question::{
    boot_call, runtime_call, verify_link_quote, LinkQuestion, OpenedLink, Question, ATTESTED_PCRS,
};
pub use verdict::{Attested, Baseline, Booted, KnownGood, Progress};

use crate::{
    boot::BootPolicy,
    generations::Live,
    reason::{Reasons, Refusal},
    runtime::RuntimeRules,
};
use question::{verify, Verified};

const LATCH: u8 = 15;
const NOT_LATCHED: [u8; 32] = [0; 32];

/// The policies evidence is held against: a document each, or the generations that count now
/// ([`crate::Generations::at`]).
#[derive(Clone, Copy, Debug)]
pub struct Policies<'a> {
    /// For the boot.
    pub boot: Live<'a, BootPolicy>,
    /// For every measured file.
    pub runtime: &'a dyn RuntimeRules,
}

/// Appraises a node in its initramfs, before it may have a share: the question must be [`boot_call`]'s, PCR 15 must be
/// zero, the whole IMA list up to now and the boot event log must be good. `previous` is the clock of the last quote
/// of this AK that was appraised, if any.
///
/// # Errors
/// [`Refusal`] with every reason that was found.
pub fn appraise_boot(
    question: &Question<'_>,
    evidence: &Evidence,
    policies: Policies<'_>,
    previous: Option<ClockInfo>,
) -> Result<Booted, Refusal> {
    if question.phase != Phase::Initramfs {
        return Err(Refusal::of(
            "phase",
            "shares are only for a node in its initramfs",
        ));
    }
    let verified = verify(question, evidence)?;
    let mut ima = ImaState::default();
    match whole(
        &verified,
        evidence,
        policies,
        &NOT_LATCHED,
        previous,
        &mut ima,
    )? {
        Some(good) => Ok(Booted::new(question, &verified, good, ima)),
        None => Err(Refusal::of(
            "ima-too-long",
            "the initramfs' IMA list does not fit in one answer",
        )),
    }
}

/// Appraises a running node from nothing: boot event log and the IMA list from its start. The question must be
/// [`boot_call`]'s with the offset of `ima`, which starts as the default. `latched` is the value PCR 15 must have.
///
/// # Errors
/// [`Refusal`] with every reason that was found; `ima` is then unchanged.
pub fn appraise_whole(
    question: &Question<'_>,
    evidence: &Evidence,
    policies: Policies<'_>,
    latched: &[u8; 32],
    previous: Option<ClockInfo>,
    ima: &mut ImaState,
) -> Result<Progress, Refusal> {
    let verified = verify(question, evidence)?;
    match whole(&verified, evidence, policies, latched, previous, ima)? {
        Some(good) => Ok(Progress::Whole(Attested::new(good, ima.entries()))),
        None => Ok(Progress::More),
    }
}

/// Appraises a running node whose boot was appraised: the same boot (reset count), PCRs 0 to 9 as they were then,
/// PCR 15 latched, and the new part of the IMA list. The question must be [`runtime_call`]'s with the offset of `ima`.
///
/// # Errors
/// [`Refusal`] with every reason that was found; `ima` is then unchanged.
pub fn appraise_runtime(
    question: &Question<'_>,
    evidence: &Evidence,
    policy: &dyn RuntimeRules,
    latched: &[u8; 32],
    baseline: &Baseline,
    ima: &mut ImaState,
) -> Result<Progress, Refusal> {
    let verified = verify(question, evidence)?;
    let mut reasons = Reasons::default();
    let clock = verified.quote.clock();
    baseline.check_same_boot(&clock, &mut reasons);
    baseline.check_pcrs(verified.quote.pcrs(), &mut reasons);
    check_latch(verified.quote.pcrs(), latched, &mut reasons);
    let advance = ima.advance(verified.quote.pcrs(), evidence, policy, &mut reasons);
    reasons.verdict()?;
    let Some(advance) = advance else {
        return Err(Refusal::of("ima-replay", "the IMA list was not appraised"));
    };
    let whole = advance.is_whole();
    *ima = advance.into_state();
    if !whole {
        return Ok(Progress::More);
    }
    let good = Good {
        baseline: baseline.at(clock),
        claims: Vec::new(),
    };
    Ok(Progress::Whole(Attested::new(good, ima.entries())))
}

/// The values of the quote, when it answers the question: for a dry run of policies. Nothing else is appraised.
///
/// # Errors
/// [`Refusal`].
pub fn quoted_pcrs(question: &Question<'_>, evidence: &Evidence) -> Result<PcrValues, Refusal> {
    Ok(verify(question, evidence)?.quote.pcrs().clone())
}

/// Reads a known-good node, to make policies from it: everything is checked but the policies.
///
/// # Errors
/// [`Refusal`]: also a known-good node must answer the question and its logs must explain its PCRs.
pub fn inspect(question: &Question<'_>, evidence: &Evidence) -> Result<KnownGood, Refusal> {
    let verified = verify(question, evidence)?;
    let event_log = event_log(evidence)?;
    let entries = ima::whole_list(verified.quote.pcrs(), evidence)?;
    Ok(KnownGood {
        pcrs: verified.quote.pcrs().clone(),
        event_log,
        pcr_signatures: signatures(evidence).map(<[u8]>::to_vec),
        ima: entries,
        clock: verified.quote.clock(),
    })
}

/// What a good appraisal knows of the boot.
struct Good {
    baseline: Baseline,
    claims: Vec<Claim>,
}

/// The part that boot and one-shot appraisal share; `None` when more of the IMA list is needed.
fn whole(
    verified: &Verified,
    evidence: &Evidence,
    policies: Policies<'_>,
    pcr15: &[u8; 32],
    previous: Option<ClockInfo>,
    ima: &mut ImaState,
) -> Result<Option<Good>, Refusal> {
    let pcrs = verified.quote.pcrs();
    let clock = verified.quote.clock();
    let mut reasons = Reasons::default();
    let facts = clock::check_forward(previous.as_ref(), &clock, &mut reasons);
    check_latch(pcrs, pcr15, &mut reasons);
    match event_log(evidence) {
        Ok(log) => policies.boot.check(
            pcrs,
            log.as_ref(),
            signatures(evidence),
            &facts,
            &mut reasons,
        ),
        Err(refusal) => reasons.append_refusal(&refusal),
    }
    let advance = ima.advance(pcrs, evidence, policies.runtime, &mut reasons);
    reasons.verdict()?;
    let Some(advance) = advance else {
        return Err(Refusal::of("ima-replay", "the IMA list was not appraised"));
    };
    let complete = advance.is_whole();
    *ima = advance.into_state();
    Ok(complete.then(|| Good {
        baseline: Baseline::new(clock, pcrs),
        claims: facts.into_claims(),
    }))
}

fn event_log(evidence: &Evidence) -> Result<Option<EventLog>, Refusal> {
    evidence
        .event_log
        .as_ref()
        .map(|bytes| EventLog::parse(bytes.as_slice()))
        .transpose()
        .map_err(|error| Refusal::of("event-log-malformed", error.to_string()))
}

/// Signatures of PCR 11 that the node's unified kernel image carries. They prove themselves or nothing.
fn signatures(evidence: &Evidence) -> Option<&[u8]> {
    let bytes = evidence.pcr_signatures.as_ref()?.as_slice();
    (bytes.len() <= MAX_PCR_SIGNATURES).then_some(bytes)
}

fn check_latch(pcrs: &PcrValues, expected: &[u8; 32], reasons: &mut Reasons) {
    if pcrs.get(LATCH) == Some(expected) {
        return;
    }
    if *expected == NOT_LATCHED {
        reasons.add(
            "latched",
            "PCR 15 is not zero: this boot has already opened its volume, no share leaves any more",
        );
    } else {
        reasons.add(
            "latch-value",
            "PCR 15 does not have the latched value: this system does not run from the provisioned volume",
        );
    }
}

/// What a list must look like to be looked at by people and policies.
pub(crate) type Entries = Vec<Entry>;
