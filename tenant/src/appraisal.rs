//! Own appraisal: the owner's copy of the policies, held against what a node showed for a nonce of the owner's own.

use bootkeep_policy::{
    appraise_boot, appraise_whole, inspect, Attested, Booted, ImaState, KnownGood, Progress,
};
use bootkeep_protocol::{link::LATCH_PCR, verifier::LinkInfo, Bytes, Nonce, Phase};

use crate::{
    error::{Party, Refusal},
    look::{look, Look, Wanted},
    policies::Policies,
    record::CheckedRecord,
    services::Services,
    Error,
};

/// Answers one measurement list may take: 64 MiB in parts of 4 MiB.
const MAX_PARTS: usize = 16;

fn own(refusal: &bootkeep_policy::Refusal) -> Error {
    Error::Untrusted(Refusal {
        by: Party::OwnAppraisal,
        reasons: refusal.reasons(),
    })
}

/// A node in its initramfs, before it may have U.
///
/// # Errors
/// [`Error::Untrusted`] with every reason.
pub fn boot(record: &CheckedRecord, look: &Look, policies: &Policies) -> Result<Booted, Error> {
    appraise_boot(
        &look.question(record, Phase::Initramfs),
        &look.evidence,
        policies.now().held(),
        None,
    )
    .map_err(|refusal| own(&refusal))
}

/// A running node that was just found good.
#[derive(Debug)]
pub struct Running {
    attested: Attested,
    nonce: Nonce,
    nk_public: Bytes,
}

impl Running {
    /// The appraisal's outcome.
    #[must_use]
    pub fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Nonce of the quote that was appraised.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The transport key bound inside that quote.
    #[must_use]
    pub fn nk_public(&self) -> &[u8] {
        self.nk_public.as_slice()
    }
}

/// A running node, looked at from nothing. `latched`: what PCR 15 may be.
///
/// # Errors
/// [`Error::Untrusted`] with every reason; errors of the relay.
pub async fn running(
    services: &Services,
    record: &CheckedRecord,
    link: &LinkInfo,
    policies: &Policies,
    latched: &[[u8; 32]],
) -> Result<Running, Error> {
    let mut ima = ImaState::default();
    for _ in 0..MAX_PARTS {
        let look = look(
            services,
            record,
            link,
            Wanted::Everything {
                ima_offset: ima.offset(),
            },
        )
        .await?;
        let expected = expected_latch(&look, latched);
        let progress = appraise_whole(
            &look.question(record, link.phase),
            &look.evidence,
            policies.now().held(),
            expected,
            None,
            &mut ima,
        );
        match progress.map_err(|refusal| own(&refusal))? {
            Progress::Whole(attested) => {
                return Ok(Running {
                    attested,
                    nonce: look.asked.nonce,
                    nk_public: look.evidence.nk_public,
                })
            }
            Progress::More => {}
        }
    }
    Err(Error::untrusted(
        Party::OwnAppraisal,
        "ima-too-long",
        format!("the measurement list does not end within {MAX_PARTS} answers"),
    ))
}

/// The one of these values that the node shows, else the first: the appraisal then says what is wrong.
fn expected_latch<'a>(look: &Look, latched: &'a [[u8; 32]]) -> &'a [u8; 32] {
    const NONE: &[u8; 32] = &[0; 32];
    let pcrs = &look.evidence.quote.pcrs;
    let shown = |value: &&[u8; 32]| {
        pcrs.iter()
            .any(|pcr| pcr.index == LATCH_PCR && pcr.digest.as_slice() == value.as_slice())
    };
    let first = latched.first().unwrap_or(NONE);
    latched.iter().find(shown).unwrap_or(first)
}

/// A node taken as known-good: its quote and logs must agree.
///
/// # Errors
/// [`Error::Untrusted`] with every reason.
pub fn known_good(record: &CheckedRecord, look: &Look, phase: Phase) -> Result<KnownGood, Error> {
    inspect(&look.question(record, phase), &look.evidence).map_err(|refusal| own(&refusal))
}
