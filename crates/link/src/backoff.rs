//! Pauses between attempts: longer each time, jittered so that a fleet does not come back as one.

use std::time::Duration;

/// The pauses of one row of attempts.
///
/// ```
/// # use bootkeep_link::Backoff;
/// let mut backoff = Backoff::default();
/// let pause = backoff.next_pause();
/// assert!(pause <= Backoff::FIRST);
/// backoff.reset(); // after a success
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
    first: Duration,
    most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(Self::FIRST, Self::MOST)
    }
}

impl Backoff {
    /// The longest first pause.
    pub const FIRST: Duration = Duration::from_millis(500);
    /// The longest pause of all.
    pub const MOST: Duration = Duration::from_secs(15);

    /// Pauses from `first` on, doubling up to `most`.
    #[must_use]
    pub fn between(first: Duration, most: Duration) -> Self {
        Self {
            ceiling: first,
            first,
            most,
        }
    }

    /// The next pause: half of the present ceiling and a random part of the other half.
    pub fn next_pause(&mut self) -> Duration {
        let half = self.ceiling / 2;
        let pause = half + half.mul_f64(fraction());
        self.ceiling = (self.ceiling * 2).min(self.most);
        pause
    }

    /// Waits for the next pause.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    /// Starts again with the first pause.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

/// 0 to 1. Only spreads load: without randomness the longest pause does as well.
fn fraction() -> f64 {
    let mut byte = [0u8; 2];
    match getrandom::fill(&mut byte) {
        Ok(()) => f64::from(u16::from_le_bytes(byte)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::between(Duration::from_secs(1), Duration::from_secs(8));
        for ceiling in [1, 2, 4, 8, 8, 8] {
            let pause = backoff.next_pause();
            let ceiling = Duration::from_secs(ceiling);
            assert!(pause >= ceiling / 2 && pause <= ceiling, "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_secs(1));
    }
}
