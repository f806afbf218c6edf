//! The links of the daemon's life, one after the other.

use std::time::Duration;

use bootkeep_link::{Backoff, ClientTls};
use bootkeep_node::{
    attester::AttestError,
    session::{Ended, EventQueue, KeepRequest, OpenError, RevocationsRequest, Session},
    tpm::TpmGone,
    Attester,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::said::Said;

/// A link that held this long was a good one: the next attempt comes soon again.
const STEADY: Duration = Duration::from_secs(30);

/// Keeps a link to a verifier open, for ever.
pub(crate) struct Links {
    pub(crate) attester: Attester,
    pub(crate) tls: ClientTls,
    pub(crate) urls: Vec<String>,
    /// Whether a link is open.
    pub(crate) linked: watch::Sender<bool>,
    /// Takes what the verifier says of revocations; none: it is refused.
    pub(crate) revocations: Option<mpsc::Sender<RevocationsRequest>>,
    /// Takes shares for the next boot.
    pub(crate) keeps: mpsc::Sender<KeepRequest>,
}

impl Links {
    /// Runs until every sender of events is gone and all events were sent.
    ///
    /// # Errors
    /// When the TPM's thread has ended: there is nothing left to attest with.
    pub(crate) async fn keep(self, mut queue: EventQueue) -> Result<(), TpmGone> {
        let mut backoff = Backoff::default();
        let mut said = Said::default();
        loop {
            match Session::open(&self.attester, &self.tls, &self.urls).await {
                Ok(session) => {
                    tracing::info!("link to the verifier is open");
                    said.clear();
                    let opened = Instant::now();
                    if self.serve(session, &mut queue).await {
                        return Ok(());
                    }
                    if opened.elapsed() >= STEADY {
                        backoff.reset();
                    }
                }
                Err(OpenError::Attest(AttestError::Gone(gone))) => return Err(gone),
                Err(error) => complain(&mut said, &error.to_string()),
            }
            backoff.pause().await;
        }
    }

    /// Whether everything is done.
    async fn serve(&self, session: Session<'_>, queue: &mut EventQueue) -> bool {
        self.linked.send_replace(true);
        let session = match &self.revocations {
            Some(revocations) => session.taking_revocations(revocations),
            None => session,
        };
        // The running system takes no shares of this boot: there is no channel for them.
        let session = session.taking_keeps(&self.keeps);
        let ended = session.serve(None, queue).await;
        self.linked.send_replace(false);
        if !matches!(ended, Ended::Done) {
            tracing::warn!(reason = %ended, "link ended");
        }
        matches!(ended, Ended::Done)
    }
}

fn complain(said: &mut Said, reason: &str) {
    if said.news(reason) {
        tracing::warn!(reason, "no link; trying again");
    }
}
