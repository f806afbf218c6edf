//! The serial console: every line with its time, and waits that end at once when the machine says it failed.

use std::{
    fs::File,
    io::{Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Result};

/// Lines after which nothing good follows in any scenario.
const FATAL: &[&str] = &["Kernel panic", "end Kernel panic", "Attempted to kill init"];
/// A line without an end that has not grown for so long is a prompt.
const PAUSE: Duration = Duration::from_millis(400);
/// How many of the last lines a failure shows.
const SHOWN: usize = 25;

/// One line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the machine was switched on.
    pub at: Duration,
    /// Without colours and control characters.
    pub text: String,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    partial: Vec<u8>,
    partial_at: Duration,
    heard: Option<Instant>,
    ended: bool,
}

impl State {
    /// Whether the last line is one that waits for an answer, and not one that is still being written.
    fn is_prompt(&self) -> bool {
        self.ended || self.heard.is_some_and(|heard| heard.elapsed() > PAUSE)
    }
}

/// The console of one machine.
#[derive(Clone, Default)]
pub struct Serial(Arc<(Mutex<State>, Condvar)>);

impl std::fmt::Debug for Serial {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Serial")
    }
}

/// What is shown of each new line while a person watches.
pub type Watcher = Box<dyn FnMut(&Line) + Send>;

impl Serial {
    /// Reads the console until it ends, into `log` too.
    pub fn follow(
        mut stream: impl Read + Send + 'static,
        mut log: File,
        started: Instant,
        mut watcher: Watcher,
    ) -> Self {
        let serial = Self::default();
        let reader = serial.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let _ = log.write_all(&buffer[..length]);
                for line in reader.take(&buffer[..length], started.elapsed()) {
                    watcher(&line);
                }
            }
            reader.lock().ended = true;
            reader.0 .1.notify_all();
        });
        serial
    }

    fn take(&self, bytes: &[u8], at: Duration) -> Vec<Line> {
        let mut state = self.lock();
        state.partial.extend_from_slice(bytes);
        state.partial_at = at;
        state.heard = Some(Instant::now());
        let mut new = Vec::new();
        while let Some(end) = state.partial.iter().position(|byte| *byte == b'\n') {
            let raw: Vec<u8> = state.partial.drain(..=end).collect();
            new.push(Line {
                at,
                text: plain(&raw),
            });
        }
        state.lines.extend(new.iter().cloned());
        drop(state);
        self.0 .1.notify_all();
        new
    }

    /// Waits for a line with `wanted`; a line with one of `failures`, the end of the machine or the limit end the wait.
    ///
    /// # Errors
    /// Why the line did not come, with the last lines of the console.
    pub fn wait(&self, wanted: &str, failures: &[&str], limit: Duration) -> Result<Line> {
        self.wait_for_any(&[wanted], failures, limit)
    }

    /// The same for a line with any of `wanted`.
    ///
    /// # Errors
    /// As [`Serial::wait`].
    pub fn wait_for_any(
        &self,
        wanted: &[&str],
        failures: &[&str],
        limit: Duration,
    ) -> Result<Line> {
        let is_wanted = |text: &str| wanted.iter().any(|wanted| text.contains(wanted));
        let end = Instant::now() + limit;
        let mut state = self.lock();
        let mut seen = 0;
        loop {
            for line in &state.lines[seen..] {
                if is_wanted(&line.text) {
                    return Ok(line.clone());
                }
                if FATAL
                    .iter()
                    .chain(failures)
                    .any(|bad| line.text.contains(bad))
                {
                    bail!("waiting for {wanted:?}, the console said: {}", line.text);
                }
            }
            seen = state.lines.len();
            if state.is_prompt() && is_wanted(&plain(&state.partial)) {
                return Ok(Line {
                    at: state.partial_at,
                    text: plain(&state.partial),
                });
            }
            if state.ended {
                bail!(
                    "the machine ended before it said {wanted:?}; its last lines:\n{}",
                    last(&state)
                );
            }
            if Instant::now() > end {
                bail!(
                    "no {wanted:?} within {} s; the last lines:\n{}",
                    limit.as_secs(),
                    last(&state)
                );
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

    /// The first line with this text, if it has come.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Option<Line> {
        self.lock()
            .lines
            .iter()
            .find(|line| line.text.contains(wanted))
            .cloned()
    }

    /// The last line with this text.
    #[must_use]
    pub fn find_last(&self, wanted: &str) -> Option<Line> {
        self.lock()
            .lines
            .iter()
            .rfind(|line| line.text.contains(wanted))
            .cloned()
    }

    /// Whether the console has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0 .0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn last(state: &State) -> String {
    let partial = plain(&state.partial);
    let from = state.lines.len().saturating_sub(SHOWN);
    let lines = state.lines[from..].iter().map(|line| line.text.as_str());
    lines
        .chain([partial.as_str()])
        .collect::<Vec<_>>()
        .join("\n")
}

/// Without escape sequences (ECMA-48 CSI) and control characters.
fn plain(raw: &[u8]) -> String {
    let raw = String::from_utf8_lossy(raw);
    let mut text = String::new();
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn console(text: &'static str) -> Serial {
        let log = File::options().write(true).open("/dev/null").unwrap();
        Serial::follow(text.as_bytes(), log, Instant::now(), Box::new(|_| {}))
    }

    #[test]
    fn colours_and_control_characters_are_not_part_of_a_line() {
        let serial = console("[\u{1b}[0;32m  OK  \u{1b}[0m] Reached\r\n");
        assert_eq!(
            serial
                .wait("Reached", &[], Duration::from_secs(5))
                .unwrap()
                .text,
            "[  OK  ] Reached"
        );
    }

    #[test]
    fn a_prompt_without_a_newline_is_found() {
        assert!(console("Passphrase: ")
            .wait("Passphrase", &[], Duration::from_secs(5))
            .is_ok());
    }

    #[test]
    fn failure_and_end_stop_the_wait() {
        let failed = console("so far\nit failed\nwanted\n").wait(
            "wanted",
            &["failed"],
            Duration::from_secs(5),
        );
        assert!(failed.unwrap_err().to_string().contains("it failed"));
        let ended = console("nothing\n").wait("wanted", &[], Duration::from_secs(5));
        assert!(ended.unwrap_err().to_string().contains("ended before"));
    }
}
