//! What the guest finds at the host: cloud-init's metadata service, and the harness's command channel.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use base64::{engine::general_purpose::STANDARD, Engine};
use serde::{Deserialize, Serialize};

use crate::http::{self, Handler, Request, Server};

/// Where the harness listens for the first machine, and above it for the others; the guest knows the host as 10.0.2.2.
const PORT: u16 = 8099;
/// How long the guest's question for a command is kept open.
const LONG_POLL: Duration = Duration::from_secs(20);

/// What a cloud's metadata service would say.
#[derive(Clone, Debug)]
pub struct Seed {
    /// `meta-data`.
    pub meta_data: String,
    /// `user-data`.
    pub user_data: Vec<u8>,
    /// `vendor-data`.
    pub vendor_data: Vec<u8>,
}

impl Default for Seed {
    fn default() -> Self {
        Self {
            meta_data: "instance-id: bootkeep-test\nlocal-hostname: bootkeep\n".into(),
            user_data: Vec::new(),
            vendor_data: Vec::new(),
        }
    }
}

#[derive(Serialize)]
struct Job<'a> {
    id: u64,
    shell: &'a str,
}

#[derive(Deserialize)]
struct Result64 {
    code: i32,
    stdout: String,
    stderr: String,
}

/// How a command in the guest ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Both streams as text.
    #[must_use]
    pub fn text(&self) -> String {
        let both = [self.stdout.as_slice(), self.stderr.as_slice()].concat();
        String::from_utf8_lossy(&both).into_owned()
    }
}

#[derive(Default)]
struct State {
    seed: Seed,
    next_id: u64,
    waiting: Option<(u64, String)>,
    done: HashMap<u64, Outcome>,
    asked: bool,
}

/// The host's side of the guest.
#[derive(Clone, Default)]
pub struct Guest(Arc<(Mutex<State>, Condvar)>);

impl std::fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Guest")
    }
}

impl Guest {
    /// Starts serving the machine of this number, counted from 0, for as long as the server is kept.
    ///
    /// # Errors
    /// When its port is taken.
    pub fn serve(number: u8) -> Result<(Self, Server)> {
        let guest = Self::default();
        let server = http::serve(PORT + u16::from(number), Arc::new(guest.clone()))?;
        Ok((guest, server))
    }

    /// Makes it ready for another machine.
    pub fn reset(&self, seed: Seed) {
        let mut state = self.lock();
        *state = State {
            seed,
            next_id: state.next_id,
            ..State::default()
        };
    }

    /// Waits until the guest asks for commands.
    ///
    /// # Errors
    /// When it does not in this time, or `alive` says no.
    pub fn wait_until_up(&self, limit: Duration, alive: impl FnMut() -> bool) -> Result<()> {
        self.wait(limit, alive, |state| state.asked.then_some(()))
            .context("the guest has not asked for commands")
    }

    /// Runs a shell command in the guest.
    ///
    /// # Errors
    /// When there is no answer in this time.
    pub fn run(&self, shell: &str, limit: Duration) -> Result<Outcome> {
        let id = {
            let mut state = self.lock();
            state.next_id += 1;
            state.waiting = Some((state.next_id, shell.to_owned()));
            state.next_id
        };
        self.0 .1.notify_all();
        self.wait(limit, || true, |state| state.done.remove(&id))
            .with_context(|| format!("the guest has not answered: {shell}"))
    }

    /// Runs a shell command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// When it fails or does not answer within two minutes.
    pub fn ok(&self, shell: &str) -> Result<String> {
        let outcome = self.run(shell, Duration::from_secs(120))?;
        if outcome.code != 0 {
            bail!(
                "in the guest, {shell:?} ended with {}: {}",
                outcome.code,
                outcome.text()
            );
        }
        Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
    }

    fn wait<T>(
        &self,
        limit: Duration,
        mut alive: impl FnMut() -> bool,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = found(&mut state) {
                return Ok(found);
            }
            if Instant::now() > end {
                bail!("not within {} s", limit.as_secs());
            }
            if !alive() {
                bail!("the machine is gone");
            }
            let beat = Duration::from_millis(200);
            state = self
                .0
                 .1
                .wait_timeout(state, beat)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0 .0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Vec<u8> {
        self.lock().asked = true;
        self.0 .1.notify_all();
        let job = self.wait(LONG_POLL, || true, |state| state.waiting.take());
        match &job {
            Ok((id, shell)) => serde_json::to_vec(&Job { id: *id, shell }).unwrap_or_default(),
            Err(_) => b"null".to_vec(),
        }
    }

    fn result(&self, id: &str, body: &[u8]) -> Option<Vec<u8>> {
        let result: Result64 = serde_json::from_slice(body).ok()?;
        let outcome = Outcome {
            code: result.code,
            stdout: STANDARD.decode(result.stdout).ok()?,
            stderr: STANDARD.decode(result.stderr).ok()?,
        };
        self.lock().done.insert(id.parse().ok()?, outcome);
        self.0 .1.notify_all();
        Some(Vec::new())
    }
}

impl Handler for Guest {
    fn answer(&self, request: &Request) -> Option<Vec<u8>> {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/next") => Some(self.next()),
            ("GET", "/seed/meta-data") => Some(self.lock().seed.meta_data.clone().into_bytes()),
            ("GET", "/seed/user-data") => Some(self.lock().seed.user_data.clone()),
            ("GET", "/seed/vendor-data") => Some(self.lock().seed.vendor_data.clone()),
            ("POST", path) => self.result(path.strip_prefix("/result/")?, &request.body),
            _ => None,
        }
    }
}
