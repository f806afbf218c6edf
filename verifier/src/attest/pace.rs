//! How often a node is asked: a few times at once, then at a steady pace.

use std::time::Duration;

use tokio::time::Instant;

/// Attestations that may start at once after a quiet time: a violation is noticed without delay.
const BURST: u32 = 8;
/// Time between two attestations of a node that reports growth without end. Growth in between counts once.
const SPACING: Duration = Duration::from_millis(50);

/// A token bucket, kept as the moment at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Pace {
    full_at: Option<Instant>,
}

impl Pace {
    /// Takes the next place; gives the moment from which on it may be used.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(full_at + SPACING);
        let bucket = SPACING * (BURST - 1);
        full_at
            .checked_sub(bucket)
            .map_or(now, |moment| moment.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_then_spaced() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.take(start), start);
        }
        for n in 1..100 {
            assert_eq!(pace.take(start), start + SPACING * n);
        }
        let late = start + Duration::from_secs(60);
        assert_eq!(pace.take(late), late, "the bucket filled up again");
    }

    #[test]
    fn whoever_keeps_the_pace_never_waits() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut pace = Pace::default();
        for n in 0..100 {
            let now = start + SPACING * n;
            assert_eq!(pace.take(now), now);
        }
    }
}
