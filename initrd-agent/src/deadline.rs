//! How long the shares are waited for: until the deadline of `agent.yaml`, or until a person has had enough.

use std::{future::Future, path::PathBuf, time::Duration};

use tokio::time::{sleep_until, Instant};

use crate::{person, Console, GaveUp, Settings};

/// From the agent's start to the shares.
pub(crate) struct Deadline {
    seconds: u64,
    at: Instant,
    /// Where a person may say so, when one may type a passphrase at all.
    terminal: Option<PathBuf>,
}

impl Deadline {
    /// Starts now.
    pub(crate) fn of(settings: &Settings, console: &Console) -> Self {
        let seconds = settings.config.deadline_seconds;
        let terminal = settings
            .config
            .passphrase
            .then(|| settings.terminal.clone());
        if terminal.is_some() {
            console.say(&format!(
                "a passphrase can be typed after {seconds} s, or now: type p and Enter"
            ));
        }
        Self {
            seconds,
            at: Instant::now() + Duration::from_secs(seconds),
            terminal,
        }
    }

    /// Waits for `work`. Whoever ends that wait before has the agent give up: a passphrase is asked for once PCR 15 is closed.
    pub(crate) async fn keep<T>(
        &self,
        work: impl Future<Output = T>,
        console: &Console,
    ) -> Result<T, GaveUp> {
        let last = || console.last_wait();
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = sleep_until(self.at) => Err(GaveUp::Deadline { seconds: self.seconds, last: last() }),
            () = self.asked() => Err(GaveUp::Asked { last: last() }),
        }
    }

    async fn asked(&self) {
        match &self.terminal {
            Some(terminal) => person::asks(terminal).await,
            None => std::future::pending().await,
        }
    }
}
