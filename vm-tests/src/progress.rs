//! What a person sees while work goes on: one line per thing, with the time since the start.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The time line of one run.
#[derive(Clone, Copy, Debug)]
pub struct Progress(Instant);

impl Default for Progress {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Progress {
    /// A line of its own.
    pub fn say(&self, text: &str) {
        println!("{} {text}", self.stamp());
    }

    /// Announces, works, says how long it took.
    ///
    /// # Errors
    /// Those of the work.
    pub fn step<T>(&self, text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.say(&format!("{text} ..."));
        let begun = Instant::now();
        let done = work()?;
        self.say(&format!("{text}: done in {}", seconds(begun.elapsed())));
        Ok(done)
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// When the start was.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.0
    }

    fn stamp(&self) -> String {
        format!("[{:>7}]", seconds(self.0.elapsed()))
    }
}

/// `12.3 s`
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
