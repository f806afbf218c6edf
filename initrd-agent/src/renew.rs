//! After the volume opened: its own key, and the U of the next boot.
//!
//! In this order, so that a power cut between any two writes leaves a K that the TPM and the verifier can form and the
//! volume opens to: new key into the header, new U into the TPM, old keys out of the header, older U out of the TPM, and
//! only then the word to the verifier, which drops what is older.

use std::path::PathBuf;

use bootkeep_node::tpm::TpmThread;
use bootkeep_protocol::link::{Claim, Event, Step};
use zeroize::Zeroizing;

use crate::{
    collect::Derived,
    own_key::OwnKey,
    rekey::{Rekey, RekeyError},
    stages::Events,
    Console, GaveUp, Settings,
};

/// The volume that has opened.
pub(crate) struct Open {
    /// The device below it.
    pub(crate) device: PathBuf,
    /// The key that opened it.
    pub(crate) used: Zeroizing<Vec<u8>>,
}

/// Why something was not renewed. The volume is open and what was there still fits: the next boot tries again.
#[derive(Debug, thiserror::Error)]
enum NotRenewed {
    #[error("the volume keeps its old key: {0}")]
    Key(#[from] RekeyError),
    #[error("the share for the next boot is not renewed: {0}")]
    Share(GaveUp),
}

impl NotRenewed {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "rekey-failed",
            Self::Share(_) => "share-not-kept",
        }
    }
}

/// Renews what is to be renewed; a failure is told, as a claim too.
pub(crate) async fn renew(
    derived: Derived,
    open: Open,
    settings: &Settings,
    tpm: &TpmThread,
    events: &Events,
    console: &Console,
) {
    if let Err(error) = try_renew(derived, open, settings, tpm, events).await {
        let claim = Claim {
            code: error.code().to_owned(),
            detail: error.to_string(),
        };
        console.say(&claim.detail);
        let _ = events.0.send(Event::Claim(claim)).await;
    }
}

async fn try_renew(
    derived: Derived,
    open: Open,
    settings: &Settings,
    tpm: &TpmThread,
    events: &Events,
) -> Result<(), NotRenewed> {
    let rekey = rekey(&derived, open, settings);
    let rekey = match rekey {
        Some(rekey) => blocking(move || Ok(rekey.add_new()?.then_some(rekey))).await?,
        None => None,
    };
    let kept = match derived.next {
        Some(next) => Some(next.keep(tpm).await.map_err(NotRenewed::Share)?),
        None => None,
    };
    if let Some(rekey) = rekey {
        blocking(move || rekey.remove_old()).await?;
        events.step(Step::Rekeyed).await;
    }
    if let Some(kept) = kept {
        kept.forget_others(tpm).await.map_err(NotRenewed::Share)?;
        let _ = events.0.send(Event::ShareKept { id: kept.id }).await;
        events.step(Step::ShareKept).await;
    }
    Ok(())
}

fn rekey(derived: &Derived, open: Open, settings: &Settings) -> Option<Rekey> {
    let recovery = derived.contents.own_key?;
    let volume = &settings.config.volume;
    Some(Rekey {
        cryptsetup: settings.cryptsetup.clone(),
        device: open.device,
        used: open.used,
        own: OwnKey::of(&derived.key, volume),
        recovery: recovery.then(|| derived.key.recovery_key(volume)),
        image: derived.contents.luks_key.clone(),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RekeyError> + Send + 'static,
) -> Result<T, RekeyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}
