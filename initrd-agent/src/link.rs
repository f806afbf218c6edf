//! The links of one boot, one after the other.

use std::{sync::Arc, time::Duration};

use bootkeep_link::{Backoff, ClientTls};
use bootkeep_node::{
    host::boot_ms,
    session::{Ended, EventQueue, OpenError, Session, ShareRequest},
    Attester,
};
use bootkeep_protocol::link::{Event, Step};
use tokio::{
    sync::{mpsc, Notify},
    time::sleep,
};

use crate::{
    stages::{Events, Registered},
    Console, Settings,
};

/// How long a link that is to be made anew still lives: the refusal that is the reason has to go out over it.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Keeps a link to a verifier open, as often as it breaks.
pub(crate) struct Links {
    attester: Attester,
    tls: ClientTls,
    urls: Vec<String>,
    shares: mpsc::Sender<ShareRequest>,
    // Weak: the links end when everybody else is done with events.
    events: mpsc::WeakSender<Event>,
    console: Arc<Console>,
    reopen: Arc<Notify>,
}

impl Links {
    pub(crate) fn new(
        settings: &Settings,
        registered: &Registered,
        shares: mpsc::Sender<ShareRequest>,
        events: &Events,
        console: &Arc<Console>,
    ) -> Self {
        Self {
            attester: registered.attester.clone(),
            tls: registered.tls.clone(),
            urls: settings.config.verifier.clone(),
            shares,
            events: events.0.downgrade(),
            console: console.clone(),
            reopen: Arc::default(),
        }
    }

    /// Notified, it makes the link anew.
    pub(crate) fn reopen(&self) -> Arc<Notify> {
        self.reopen.clone()
    }

    /// Runs until every event was sent and no more can come.
    pub(crate) async fn keep(self, mut queue: EventQueue) {
        let mut backoff = Backoff::default();
        loop {
            match Session::open(&self.attester, &self.tls, &self.urls).await {
                Ok(session) => {
                    backoff.reset();
                    self.opened().await;
                    if self.serve(session, &mut queue).await {
                        return;
                    }
                }
                Err(OpenError::Refused(problem)) => self.refused(&problem.to_string()),
                Err(error) => self
                    .console
                    .waiting(&format!("waiting for a verifier: {error}")),
            }
            backoff.pause().await;
        }
    }

    async fn opened(&self) {
        self.console
            .waiting("link to the verifier is open; waiting for the shares of the key");
        if let Some(events) = self.events.upgrade() {
            let at_ms = boot_ms();
            let _ = events
                .send(Event::Progress {
                    step: Step::Linked,
                    at_ms,
                })
                .await;
        }
    }

    /// Whether everything is done.
    async fn serve(&self, session: Session<'_>, queue: &mut EventQueue) -> bool {
        tokio::select! {
            ended = session.serve(Some(&self.shares), queue) => {
                match ended {
                    Ended::Done => return true,
                    Ended::Refused(problem) => self.refused(&problem.to_string()),
                    ended => self.console.waiting(&format!("waiting for a verifier: {ended}")),
                }
            }
            () = self.reopening() => self.console.waiting("asking the verifier anew"),
        }
        false
    }

    async fn reopening(&self) {
        self.reopen.notified().await;
        sleep(LAST_WORD).await;
    }

    fn refused(&self, why: &str) {
        self.console
            .waiting(&format!("refused: the verifier: {why}"));
    }
}
