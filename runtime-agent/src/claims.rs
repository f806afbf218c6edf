//! Sends the claims that wait in the hand-over folder.

use std::time::Duration;

use bootkeep_handover::Handover;
use bootkeep_protocol::link::Event;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::said::Said;

/// Between two looks into the folder.
const LOOK: Duration = Duration::from_secs(1);

/// Sends claims until nobody listens. They are taken only while a link is open: till then they are safe in the folder,
/// also from a restart of this daemon.
pub(crate) async fn forward(
    handover: Handover,
    events: mpsc::Sender<Event>,
    mut linked: watch::Receiver<bool>,
) {
    let mut said = Said::default();
    while linked.wait_for(|&up| up).await.is_ok() {
        match handover.take_claims() {
            Ok(claims) => {
                for claim in claims {
                    tracing::info!(code = claim.code, detail = claim.detail, "claim");
                    if events.send(Event::Claim(claim)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) if said.news(&error.to_string()) => {
                tracing::warn!(%error, "claims cannot be read");
            }
            Err(_) => {}
        }
        sleep(LOOK).await;
    }
}
