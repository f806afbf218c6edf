//! When no key came and a person may type one.

use std::{os::unix::net::UnixListener, sync::Arc, time::Duration};

use bootkeep_handover::{ForAgent, Handover};
use bootkeep_node::tpm::TpmThread;
use bootkeep_protocol::link::Claim;

use crate::{latch, Console, GaveUp, KeySocket, Settings};

/// How long the TPM may take once more.
const TPM_PATIENCE: Duration = Duration::from_secs(5);

/// Closes PCR 15, lets systemd-cryptsetup ask for the passphrase, waits for the volume and leaves a claim.
///
/// Without a TPM there is nothing to close, and nothing that could ask for shares either.
///
/// # Errors
/// [`GaveUp`] when the socket fails; then the unlocking fails too, closed. A volume that is open but not the owner's is not
/// offered to anybody.
pub async fn offer_passphrase(
    settings: &Settings,
    listener: UnixListener,
    reason: GaveUp,
    console: &Arc<Console>,
) -> Result<(), GaveUp> {
    if matches!(reason, GaveUp::NotTheOwners { .. }) {
        return Err(reason);
    }
    if let Ok(tpm) = TpmThread::open_at(settings.tpm.clone(), TPM_PATIENCE).await {
        close(settings, &tpm).await?;
    }
    console.say("type the passphrase or the recovery key of the volume");
    let socket = KeySocket::new(listener)?;
    // An empty answer makes systemd-cryptsetup ask the person.
    socket
        .feed(Default::default, &settings.device(), async || {})
        .await
        .map_err(GaveUp::io("the key socket"))?;
    console.say(&format!(
        "the volume {} is open, by hand",
        settings.config.volume
    ));
    claim(&settings.handover, &reason).map_err(GaveUp::io("the hand-over to the booted system"))
}

/// Takes the hand-over back and closes PCR 15.
pub(crate) async fn close(settings: &Settings, tpm: &TpmThread) -> Result<(), GaveUp> {
    let withdrawn = settings.handover.withdraw();
    latch::close(tpm).await?;
    withdrawn.map_err(GaveUp::io("the hand-over to the booted system"))
}

fn claim(handover: &Handover, reason: &GaveUp) -> std::io::Result<()> {
    handover.prepare()?;
    let claims = vec![Claim {
        code: "unlocked-by-passphrase".into(),
        detail: bootkeep_protocol::limits::clean_text(&reason.to_string()),
    }];
    let files = Vec::new();
    handover.write("agent.json", &ForAgent { files, claims })
}
