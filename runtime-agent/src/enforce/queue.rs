//! The owner's actions, one occasion after the other, apart from everything that must not wait for them.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{actions::Occasion, enforcer::Enforcer, notices};

/// Occasions to act on, in order.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) occasions: Vec<Occasion>,
    /// Hears one line for each occasion; empty where there was nothing to do.
    pub(super) done: Option<oneshot::Sender<Vec<String>>>,
}

/// No bound of its own: who sends is bounded (clients, and one gate).
pub(super) fn queue() -> (mpsc::UnboundedSender<Job>, mpsc::UnboundedReceiver<Job>) {
    mpsc::unbounded_channel()
}

/// Acts for ever.
pub(super) async fn run(mut jobs: mpsc::UnboundedReceiver<Job>, enforcer: Arc<Enforcer>) {
    while let Some(job) = jobs.recv().await {
        let mut details = Vec::new();
        for occasion in &job.occasions {
            details.push(one(&enforcer, occasion).await);
        }
        if let Some(done) = job.done {
            // Nobody waits when the client has gone.
            let _ = done.send(details);
        }
    }
}

async fn one(enforcer: &Enforcer, occasion: &Occasion) -> String {
    let ran = enforcer.actions.run(occasion).await;
    for failed in &ran.failed {
        enforcer
            .notices
            .claim(notices::ACTION_FAILED, failed, failed);
    }
    if let Occasion::Entry { entry, .. } = occasion {
        enforcer.acted(entry.sequence).await;
    }
    ran.detail()
}
