//! Notices when a node's state changes: also by running out, which nobody reports.

use std::{collections::HashMap, sync::Weak};

use tokio::time::timeout;

use super::{event::Event, LOOK};
use crate::{error::VerifierError, service::Verifier};

/// Looks at all states, again and again, until the verifier is gone.
pub(super) async fn run(verifier: Weak<Verifier>) {
    let mut told: Option<HashMap<String, String>> = None;
    loop {
        let Some(verifier) = verifier.upgrade() else {
            return;
        };
        if let Err(error) = look(&verifier, &mut told).await {
            tracing::error!(%error, "states cannot be told to webhooks; trying again");
        }
        // Woken or not: the loop looks again.
        let _ = timeout(LOOK, verifier.webhooks.changed.notified()).await;
    }
}

async fn look(
    verifier: &Verifier,
    told: &mut Option<HashMap<String, String>>,
) -> Result<(), VerifierError> {
    let webhooks = &verifier.webhooks;
    let told = match told {
        Some(told) => told,
        None => told.insert(webhooks.outbox.states().await?),
    };
    let mut filled = false;
    for node in verifier.fleet.all() {
        let Some(status) = node.status() else {
            continue;
        };
        let id = status.node_id.as_str();
        if told
            .get(id)
            .is_some_and(|known| known == status.state.as_str())
        {
            continue;
        }
        match Event::of_status(&status)? {
            Some(event) => {
                let state = Some((&status.node_id, status.state));
                webhooks
                    .outbox
                    .put(&event, webhooks.targets(), state)
                    .await?;
                filled = true;
            }
            None => webhooks.outbox.note(&status.node_id, status.state).await?,
        }
        told.insert(id.to_owned(), status.state.as_str().to_owned());
    }
    if filled {
        webhooks.filled.notify_waiters();
    }
    Ok(())
}
