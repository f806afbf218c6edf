//! PCR 15: zero until a boot has opened its volume or given up, and never zero again in that boot.

use bootkeep_node::tpm::TpmThread;
use bootkeep_protocol::link::LATCH_PCR;
use bootkeep_tpkd::{latch_digest, latched_pcr15, BootstrapKey};
use bootkeep_tpm::TpmError;
use sha2::{Digest, Sha256};

use crate::GaveUp;

/// What PCR 15 is extended with by an agent that gives up and lets a person type the passphrase.
const GIVEN_UP: &[u8] = b"bootkeep given up v1";

/// PCR 15 was extended for the volume and holds the value the verifier expects.
#[derive(Debug)]
pub(crate) struct LatchedTpm(());

async fn value(tpm: &TpmThread) -> Result<[u8; 32], GaveUp> {
    let values = tpm.run(|tpm| tpm.pcr_read(&[LATCH_PCR])).await??;
    let (_, value) = values
        .first()
        .copied()
        .ok_or(GaveUp::Tpm(TpmError::NoSha256Bank))?;
    Ok(value)
}

/// Refuses a boot that has latched.
pub(crate) async fn demand_open(tpm: &TpmThread) -> Result<(), GaveUp> {
    match value(tpm).await? {
        zero if zero == [0; 32] => Ok(()),
        _ => Err(GaveUp::AlreadyLatched),
    }
}

/// Extends PCR 15 for this volume and K, and reads it back.
pub(crate) async fn latch(
    tpm: &TpmThread,
    volume: &str,
    key: &BootstrapKey,
) -> Result<LatchedTpm, GaveUp> {
    demand_open(tpm).await?;
    let digest = latch_digest(volume, &*key.latch_secret());
    extend(tpm, digest).await?;
    (value(tpm).await? == latched_pcr15(&digest))
        .then_some(LatchedTpm(()))
        .ok_or(GaveUp::NotLatched)
}

/// Closes this boot: no share any more, and no value that the verifier expects of a booted system.
pub(crate) async fn close(tpm: &TpmThread) -> Result<(), GaveUp> {
    extend(tpm, Sha256::digest(GIVEN_UP).into()).await
}

async fn extend(tpm: &TpmThread, digest: [u8; 32]) -> Result<(), GaveUp> {
    Ok(tpm
        .run(move |tpm| tpm.pcr_extend(LATCH_PCR, &digest))
        .await??)
}
