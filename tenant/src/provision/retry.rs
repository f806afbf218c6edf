//! Trying again what may work a moment later, until the deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::watch::Timeline;
use crate::Error;

/// First pause between attempts.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const LONGEST: Duration = Duration::from_secs(2);

/// When a provisioning gives up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    seconds: u64,
}

impl Deadline {
    /// So many seconds from now.
    #[must_use]
    pub fn after(seconds: u64) -> Self {
        Self {
            at: Instant::now() + Duration::from_secs(seconds),
            seconds,
        }
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.at
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error of a wait for `what` that took too long.
    #[must_use]
    pub fn missed(&self, what: &str) -> Error {
        Error::TryAgain(format!(
            "{what}: not within {} s; run the same command again to go on",
            self.seconds
        ))
    }
}

/// Pauses that grow.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pauses {
    /// The next pause, longer each time.
    pub fn longer(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (self.0 * 3 / 2).min(LONGEST);
        pause
    }

    /// Sleeps, longer each time, and not past the deadline.
    pub async fn pause(&mut self, deadline: &Deadline) {
        sleep(self.longer().min(deadline.left())).await;
    }
}

/// Does it until it works, is refused, or the deadline comes; then the last error is given.
///
/// # Errors
/// The first error that does not pass, or the last one.
pub(super) async fn persist<T, F>(
    deadline: &Deadline,
    timeline: &mut Timeline<'_>,
    mut operation: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pauses = Pauses::default();
    loop {
        match operation().await {
            Err(error) if error.is_transient() && !deadline.is_over() => {
                timeline.waiting(&format!("{error}; trying again"));
                pauses.pause(deadline).await;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::provision::{watch::Watch, Moment};

    struct Nobody;
    impl Watch for Nobody {
        fn moment(&mut self, _: &Moment) {}
        fn waiting(&mut self, _: u64, _: &str) {}
    }

    async fn attempts(deadline: u64, outcome: fn(u32) -> Result<(), Error>) -> (u32, bool) {
        let count = Cell::new(0);
        let mut nobody = Nobody;
        let result = persist(
            &Deadline::after(deadline),
            &mut Timeline::new(&mut nobody),
            || {
                count.set(count.get() + 1);
                std::future::ready(outcome(count.get()))
            },
        )
        .await;
        (count.get(), result.is_ok())
    }

    #[tokio::test]
    async fn only_what_passes_is_tried_again() {
        let again = |_| Err(Error::TryAgain("later".into()));
        let third = |n| {
            if n < 3 {
                Err(Error::TryAgain("later".into()))
            } else {
                Ok(())
            }
        };
        let refused = |_| Err(Error::NotFound("never".into()));
        assert_eq!(attempts(60, third).await, (3, true));
        assert_eq!(attempts(60, refused).await, (1, false));
        assert_eq!(attempts(0, again).await, (1, false));
    }
}
