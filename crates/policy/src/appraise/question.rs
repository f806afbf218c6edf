//! What was asked, and the answer's quote.

use bootkeep_evidence::{AkPublic, ClockInfo, Quote, UnverifiedQuote};
use bootkeep_protocol::{
    link::{self, Evidence, Open, QuoteCall, LATCH_PCR},
    link_qualifying_data, quote_qualifying_data, NodeId, Nonce, Phase, Role, EXPORTER_LEN,
};

use crate::reason::Refusal;

/// The PCRs every appraisal asks for: 0 to 15.
pub const ATTESTED_PCRS: std::ops::RangeInclusive<u8> = 0..=15;

/// The question of [`crate::appraise_boot`], [`crate::appraise_whole`] and [`crate::inspect`]. `ima_offset` is 0, or
/// where an [`crate::ImaState`] goes on.
#[must_use]
pub fn boot_call(nonce: Nonce, asker: Role, ima_offset: u64) -> QuoteCall {
    QuoteCall {
        nonce,
        asker,
        pcrs: ATTESTED_PCRS.collect(),
        event_log: true,
        ima_offset: Some(ima_offset),
    }
}

/// The question of [`crate::appraise_runtime`].
#[must_use]
pub fn runtime_call(nonce: Nonce, asker: Role, ima_offset: u64) -> QuoteCall {
    QuoteCall {
        event_log: false,
        ..boot_call(nonce, asker, ima_offset)
    }
}

/// What was asked, of whom, over which link. The asker makes sure that the nonce is used once and not too old.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The node that was asked.
    pub node: &'a NodeId,
    /// Its registered AK.
    pub ak: &'a AkPublic,
    /// The call as it was sent.
    pub call: &'a QuoteCall,
    /// The TLS exporter of the node's link.
    pub exporter: &'a [u8; EXPORTER_LEN],
    /// Which agent was asked.
    pub phase: Phase,
}

/// A quote that answers the question.
pub(super) struct Verified {
    pub(super) quote: Quote,
    pub(super) nk_public: [u8; 32],
}

/// Checks everything that makes evidence an answer to the question.
pub(super) fn verify(question: &Question<'_>, evidence: &Evidence) -> Result<Verified, Refusal> {
    let asked: Vec<u8> = ATTESTED_PCRS.collect();
    if question.call.pcrs != asked || question.call.ima_offset.is_none() {
        return Err(Refusal::of(
            "question",
            "an appraisal needs a quote over PCRs 0 to 15 and the IMA list",
        ));
    }
    if evidence.phase != question.phase {
        return Err(Refusal::of(
            "phase",
            "another agent answered than was asked",
        ));
    }
    let nk_public = nk(evidence.nk_public.as_slice())?;
    let qualifying = quote_qualifying_data(
        &question.call.nonce,
        question.call.asker,
        &nk_public,
        question.node,
        question.exporter,
    );
    let quote = verify_quote(question.ak, &evidence.quote, &qualifying, &asked)?;
    Ok(Verified { quote, nk_public })
}

fn nk(bytes: &[u8]) -> Result<[u8; 32], Refusal> {
    bytes
        .try_into()
        .map_err(|_| Refusal::of("evidence-malformed", "NK is not 32 bytes"))
}

fn verify_quote(
    ak: &AkPublic,
    quote: &link::Quote,
    qualifying: &[u8; 32],
    selection: &[u8],
) -> Result<Quote, Refusal> {
    let pcrs = quote
        .pcrs
        .iter()
        .map(|pcr| Some((pcr.index, pcr.digest.as_slice().try_into().ok()?)))
        .collect::<Option<Vec<(u8, [u8; 32])>>>()
        .ok_or_else(|| Refusal::of("evidence-malformed", "a PCR value is not 32 bytes"))?;
    UnverifiedQuote {
        attest: quote.attest.as_slice(),
        signature: quote.signature.as_slice(),
    }
    .verify(ak, qualifying, selection, &pcrs)
    .map_err(|error| Refusal::of(error.code(), error.to_string()))
}

/// What the opening of a link must answer.
#[derive(Clone, Copy, Debug)]
pub struct LinkQuestion<'a> {
    /// The AK registered for the node the opening names.
    pub ak: &'a AkPublic,
    /// Of the hello.
    pub nonce: &'a Nonce,
    /// The TLS exporter of the link.
    pub exporter: &'a [u8; EXPORTER_LEN],
}

/// A link whose node has shown that it holds its AK. Only [`verify_link_quote`] makes one.
#[derive(Clone, Debug)]
pub struct OpenedLink {
    pcr15: [u8; 32],
    clock: ClockInfo,
}

impl OpenedLink {
    /// Whether PCR 15 is still zero.
    #[must_use]
    pub fn is_unlatched(&self) -> bool {
        self.pcr15 == super::NOT_LATCHED
    }

    /// The value of PCR 15.
    #[must_use]
    pub fn pcr15(&self) -> &[u8; 32] {
        &self.pcr15
    }

    /// The TPM's clock at the opening.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }
}

/// Checks the quote that opens a link.
///
/// # Errors
/// [`Refusal`].
pub fn verify_link_quote(question: &LinkQuestion<'_>, open: &Open) -> Result<OpenedLink, Refusal> {
    let nk_public = nk(open.nk_public.as_slice())?;
    let qualifying = link_qualifying_data(
        question.nonce,
        open.phase,
        &nk_public,
        &open.node_id,
        question.exporter,
    );
    let quote = verify_quote(question.ak, &open.quote, &qualifying, &[LATCH_PCR])?;
    let pcr15 = quote
        .pcrs()
        .get(LATCH_PCR)
        .ok_or_else(|| Refusal::of("quote-selection", "PCR 15 was not quoted"))?;
    Ok(OpenedLink {
        pcr15: *pcr15,
        clock: quote.clock(),
    })
}
