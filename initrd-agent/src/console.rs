//! What the agent tells the person at the console, in plain words.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long the same wait goes without another line.
const REPEAT: Duration = Duration::from_secs(30);

/// Writes lines to standard error, which systemd shows on the console and keeps in the journal.
#[derive(Debug)]
pub struct Console {
    started: Instant,
    last: Mutex<Option<(String, Instant)>>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: Mutex::new(None),
        }
    }
}

/// In one piece: the kernel writes to the same console. Nobody is there to hear that it cannot be written.
fn print(text: &str) {
    let _ = io::stderr().write_all(format!("bootkeep: {text}\n").as_bytes());
}

impl Console {
    /// One line, at once.
    pub fn say(&self, text: &str) {
        print(&bootkeep_protocol::limits::clean_text(text));
    }

    fn last(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last waited for or refused.
    pub(crate) fn last_wait(&self) -> String {
        self.last()
            .as_ref()
            .map_or_else(String::new, |(text, _)| text.clone())
    }

    /// What is being waited for, or why it was refused: said when it is new, and again every 30 seconds with the time
    /// that has passed.
    pub fn waiting(&self, text: &str) {
        let mut last = self.last();
        let now = Instant::now();
        match last.as_mut() {
            Some((same, said)) if same == text => {
                if now.duration_since(*said) < REPEAT {
                    return;
                }
                *said = now;
                let seconds = self.started.elapsed().as_secs();
                print(&format!("{text} (after {seconds} s)"));
            }
            _ => {
                print(text);
                *last = Some((text.to_owned(), now));
            }
        }
    }
}
