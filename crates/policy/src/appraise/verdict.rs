//! What a good appraisal gives. Only the appraising functions make these.

use bootkeep_evidence::{eventlog::EventLog, ClockInfo, PcrValues};
use bootkeep_protocol::{link::Claim, NodeId, Nonce, Role};
use serde::{Deserialize, Serialize};

use super::{
    ima::ImaState,
    question::{Question, Verified},
    Entries, Good,
};
use crate::{digest::Digest32, reason::Reasons};

/// PCRs that no longer change once the kernel runs: those of `boot_aggregate`.
const BOOT_PCRS: std::ops::RangeInclusive<u8> = 0..=9;

/// What later appraisals of one boot are held against. Can be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    reset_count: u32,
    restart_count: u32,
    clock: u64,
    safe: bool,
    pcrs: Vec<Digest32>,
}

impl Baseline {
    pub(super) fn new(clock: ClockInfo, pcrs: &PcrValues) -> Self {
        Self {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock: clock.clock,
            safe: clock.safe,
            pcrs: BOOT_PCRS
                .filter_map(|pcr| pcrs.get(pcr))
                .map(|value| Digest32(*value))
                .collect(),
        }
    }

    /// The TPM's clock at the last good appraisal.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        ClockInfo {
            clock: self.clock,
            reset_count: self.reset_count,
            restart_count: self.restart_count,
            safe: self.safe,
        }
    }

    pub(super) fn at(&self, clock: ClockInfo) -> Self {
        Self {
            restart_count: clock.restart_count,
            clock: clock.clock,
            safe: clock.safe,
            ..self.clone()
        }
    }

    pub(super) fn check_same_boot(&self, now: &ClockInfo, reasons: &mut Reasons) {
        if now.reset_count > self.reset_count {
            reasons.add(
                "other-boot",
                "the TPM was reset since the boot was appraised: this boot has shown no boot evidence",
            );
            return;
        }
        super::clock::check_within_reset(&self.clock(), now, reasons);
    }

    pub(super) fn check_pcrs(&self, pcrs: &PcrValues, reasons: &mut Reasons) {
        for (index, pcr) in BOOT_PCRS.enumerate() {
            let then = self.pcrs.get(index).map(|value| &value.0);
            if then.is_none() || then != pcrs.get(pcr) {
                reasons.add(
                    "pcr-changed",
                    format!("PCR {pcr} is not what it was when this boot was appraised"),
                );
            }
        }
    }
}

/// A node in its initramfs whose evidence is good: a share may be wrapped to its NK, for this very quote.
///
/// There is no other way to get one than [`crate::appraise_boot`], and it cannot be copied: one quote, one share.
#[derive(Debug)]
pub struct Booted {
    node: NodeId,
    nonce: Nonce,
    asker: Role,
    nk_public: [u8; 32],
    baseline: Baseline,
    claims: Vec<Claim>,
    ima: ImaState,
}

impl Booted {
    pub(super) fn new(
        question: &Question<'_>,
        verified: &Verified,
        good: Good,
        ima: ImaState,
    ) -> Self {
        Self {
            node: question.node.clone(),
            nonce: question.call.nonce,
            asker: question.call.asker,
            nk_public: verified.nk_public,
            baseline: good.baseline,
            claims: good.claims,
            ima,
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The nonce of the quote, part of the wrapping's context.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// Who asked for the quote.
    #[must_use]
    pub fn asker(&self) -> Role {
        self.asker
    }

    /// The key bound inside the quote.
    #[must_use]
    pub fn nk_public(&self) -> &[u8; 32] {
        &self.nk_public
    }

    /// For later appraisals of this boot.
    #[must_use]
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// What the owner should know of this boot though policy accepts it.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// How far the IMA list was appraised.
    #[must_use]
    pub fn ima(&self) -> &ImaState {
        &self.ima
    }
}

/// A running node whose evidence is good.
#[derive(Clone, Debug)]
pub struct Attested {
    baseline: Baseline,
    claims: Vec<Claim>,
    ima_entries: u64,
}

impl Attested {
    pub(super) fn new(good: Good, ima_entries: u64) -> Self {
        Self {
            baseline: good.baseline,
            claims: good.claims,
            ima_entries,
        }
    }

    /// For the next appraisal of this boot.
    #[must_use]
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// What the owner should know of this boot though policy accepts it.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// IMA entries appraised in this boot.
    #[must_use]
    pub fn ima_entries(&self) -> u64 {
        self.ima_entries
    }
}

/// How far an appraisal came.
#[derive(Clone, Debug)]
pub enum Progress {
    /// To the quoted end.
    Whole(Attested),
    /// The IMA list is longer than one answer: ask again from the state's new offset. Nothing is trusted yet.
    More,
}

/// A node taken as known-good: its quote and logs agree, no policy was asked.
#[derive(Clone, Debug)]
pub struct KnownGood {
    /// The quoted values.
    pub pcrs: PcrValues,
    /// The boot event log, when there is one.
    pub event_log: Option<EventLog>,
    /// Signatures of PCR 11 that the node showed (`.pcrsig`): they prove themselves.
    pub pcr_signatures: Option<Vec<u8>>,
    /// The IMA entries the quote covers.
    pub ima: Entries,
    /// The TPM's clock at the quote.
    pub clock: ClockInfo,
}
