//! Times, and what is said of them.

use std::{fmt, time::Duration};

#[derive(Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort_unstable();
    }

    fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let time = self
            .0
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default();
        time.as_secs_f64() * 1000.0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        write!(
            f,
            "p50 {p50:.1} ms, p99 {p99:.1} ms, {} rounds",
            self.0.len()
        )
    }
}
