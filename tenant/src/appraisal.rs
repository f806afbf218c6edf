//! Own appraisal: the owner's copy of the policies, held against what a node showed for a nonce of the owner's own.

use bootkeep_policy::{
    appraise_boot, appraise_whole, inspect, Attested, Booted, ImaState, KnownGood, Progress,
};
use bootkeep_protocol::{verifier::LinkInfo, Phase};

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

/// A running node, looked at from nothing.
///
/// # Errors
/// [`Error::Untrusted`] with every reason; errors of the relay.
pub async fn running(
    services: &Services,
    record: &CheckedRecord,
    link: &LinkInfo,
    policies: &Policies,
    latched: &[u8; 32],
) -> Result<Attested, Error> {
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
        let progress = appraise_whole(
            &look.question(record, link.phase),
            &look.evidence,
            policies.now().held(),
            latched,
            None,
            &mut ima,
        );
        match progress.map_err(|refusal| own(&refusal))? {
            Progress::Whole(attested) => return Ok(attested),
            Progress::More => {}
        }
    }
    Err(Error::untrusted(
        Party::OwnAppraisal,
        "ima-too-long",
        format!("the measurement list does not end within {MAX_PARTS} answers"),
    ))
}

/// A node taken as known-good: its quote and logs must agree.
///
/// # Errors
/// [`Error::Untrusted`] with every reason.
pub fn known_good(record: &CheckedRecord, look: &Look, phase: Phase) -> Result<KnownGood, Error> {
    inspect(&look.question(record, phase), &look.evidence).map_err(|refusal| own(&refusal))
}
