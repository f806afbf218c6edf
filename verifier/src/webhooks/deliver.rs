//! Sends what waits for one target: in order, again and again until it was taken or is too old.

use std::{
    sync::{atomic::Ordering, Arc, Weak},
    time::Duration,
};

use bootkeep_link::Backoff;
use tokio::time::timeout;

use super::{outbox::Leased, Target, Webhooks};
use crate::{clock::now_ms, error::VerifierError, service::Verifier};

/// How long an event is tried.
pub(super) const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Between two looks when nobody said that something waits.
const LOOK: Duration = Duration::from_secs(5);
/// Longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(300);

pub(super) async fn run(verifier: Weak<Verifier>, target: Arc<Target>) {
    let mut backoff = Backoff::between(Duration::from_secs(1), LONGEST);
    loop {
        let Some(verifier) = verifier.upgrade() else {
            return;
        };
        let webhooks = &verifier.webhooks;
        let mut filled = std::pin::pin!(webhooks.filled.notified());
        // Whoever fills the outbox from here on is heard.
        filled.as_mut().enable();
        match one(webhooks, &target).await {
            Ok(Sent::Taken) => backoff.reset(),
            Ok(Sent::Nothing) => drop(timeout(LOOK, filled).await),
            Ok(Sent::Failed) => backoff.pause().await,
            Err(error) => {
                tracing::error!(target = target.name(), %error, "the outbox of webhooks");
                backoff.pause().await;
            }
        }
    }
}

enum Sent {
    Taken,
    Nothing,
    Failed,
}

async fn one(webhooks: &Webhooks, target: &Target) -> Result<Sent, VerifierError> {
    let now = now_ms();
    let until = now + u64::try_from(2 * Target::DEADLINE.as_millis()).unwrap_or(0);
    let Some(leased) = webhooks.outbox.lease(target.name(), now, until).await? else {
        return Ok(Sent::Nothing);
    };
    let age = Duration::from_millis(now.saturating_sub(leased.created_ms));
    match target
        .send(&leased.event, &delivery_id(&leased), &leased.body)
        .await
    {
        Ok(()) => {
            webhooks.outbox.remove(&leased.id).await?;
            webhooks.delivered.fetch_add(1, Ordering::Relaxed);
            Ok(Sent::Taken)
        }
        Err(error) if age >= KEEP => {
            webhooks.outbox.remove(&leased.id).await?;
            webhooks.given_up.fetch_add(1, Ordering::Relaxed);
            tracing::error!(target = target.name(), event = leased.event, %error, "a webhook event is given up");
            Ok(Sent::Taken)
        }
        Err(error) => {
            webhooks.outbox.give_back(&leased.id).await?;
            webhooks.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(target = target.name(), event = leased.event, %error, "a webhook was not delivered; trying again");
            Ok(Sent::Failed)
        }
    }
}

/// The id in the body: the same for every target and every try.
fn delivery_id(leased: &Leased) -> String {
    leased.id.chars().take(32).collect()
}
