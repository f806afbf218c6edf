//! Whether the verifier's word is fresh, by this machine's CLOCK_BOOTTIME: it counts from boot on, goes on in sleep, and
//! nobody sets it. A wrong wall clock changes nothing.
//!
//! A head carries the verifier's time. How far that is from our clock is not known, but the quickest head so far shows
//! the least it can be: whatever a head is late beyond that, it was held back. Two clocks drift apart, each by no more
//! than 500 ppm while it is disciplined: so much the least distance may grow.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bootkeep_protocol::BootId;
use serde::{Deserialize, Serialize};

use super::keep;

/// One part in so many that our clock may run faster than the verifier's: 2,000 ppm.
const DRIFT: i64 = 500;

/// When the last fresh word was.
#[derive(Debug)]
pub(super) struct Freshness {
    limit: Option<Duration>,
    record: PathBuf,
    boot: BootId,
    /// When this process began: milliseconds of our clock.
    began_ms: u64,
    known: Option<Known>,
}

/// How fresh the verifier's word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Fresh, or it need not be.
    Fresh,
    /// None since boot, and it is not late yet.
    Awaited,
    /// Too old.
    Stale,
}

/// What a restart of this process must not forget; of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// When the newest head was made, at the earliest: milliseconds of our clock.
    fresh_ms: i64,
    /// Least distance of our clock from the verifier's (milliseconds).
    distance_ms: i64,
    /// When that was reckoned: milliseconds of our clock.
    heard_ms: i64,
}

impl Known {
    fn distance_at(&self, now: i64) -> i64 {
        let since = now.saturating_sub(self.heard_ms).max(0);
        self.distance_ms.saturating_add(since / DRIFT)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    boot: BootId,
    known: Known,
}

impl Freshness {
    /// Goes on where this boot's enforcer before ended. `record` lies on a file system that forgets at reboot.
    pub(super) fn new(limit: Option<Duration>, record: &Path, boot: BootId, now_ms: u64) -> Self {
        let known = fs::read(record)
            .ok()
            .and_then(|text| serde_json::from_slice::<Record>(&text).ok())
            .filter(|record| record.boot == boot)
            .map(|record| record.known);
        Self {
            limit,
            record: record.into(),
            boot,
            began_ms: now_ms,
            known,
        }
    }

    /// A verified head of the verifier's time `at_ms` came at `now_ms` of our clock.
    pub(super) fn heard(&mut self, at_ms: u64, now_ms: u64) {
        let (at, now) = (signed(at_ms), signed(now_ms));
        let distance = now.saturating_sub(at);
        let least = self
            .known
            .map_or(distance, |known| known.distance_at(now).min(distance));
        let made = at.saturating_add(least);
        let fresh = self.known.map_or(made, |known| known.fresh_ms.max(made));
        self.known = Some(Known {
            fresh_ms: fresh,
            distance_ms: least,
            heard_ms: now,
        });
        if let Err(error) = self.write() {
            tracing::warn!(%error, "a restart of this process will wait for a fresh word");
        }
    }

    /// How it is now. With a limit nothing counts that was said before this boot: a reboot makes nothing fresh.
    pub(super) fn word(&self, now_ms: u64) -> Word {
        let Some(limit) = self.limit else {
            return Word::Fresh;
        };
        let limit = signed(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let age = |since: i64| signed(now_ms).saturating_sub(since);
        match self.known {
            Some(known) if age(known.fresh_ms) <= limit => Word::Fresh,
            None if age(signed(self.began_ms)) <= limit => Word::Awaited,
            _ => Word::Stale,
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(known) = self.known else {
            return Ok(());
        };
        let record = Record {
            boot: self.boot.clone(),
            known,
        };
        keep::write(
            &self.record,
            &serde_json::to_vec(&record).map_err(io::Error::other)?,
        )
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: u64 = 1_700_000_000_000;

    fn boot(n: u8) -> BootId {
        format!("00000000-0000-4000-8000-0000000000{n:02x}")
            .parse()
            .unwrap()
    }

    fn at(record: &Path) -> Freshness {
        Freshness::new(Some(Duration::from_secs(20)), record, boot(1), 0)
    }

    #[test]
    fn a_word_is_fresh_for_its_time_and_a_boot_begins_without() {
        let folder = tempfile::tempdir().unwrap();
        let mut fresh = at(&folder.path().join("fresh"));
        assert_eq!(fresh.word(20_000), Word::Awaited);
        assert_eq!(fresh.word(20_001), Word::Stale);
        fresh.heard(DAY, 5_000);
        assert!(fresh.word(5_000) == Word::Fresh && fresh.word(25_000) == Word::Fresh);
        assert!(fresh.word(25_001) != Word::Fresh);
        fresh.heard(DAY + 30_000, 35_000);
        assert!(fresh.word(55_000) == Word::Fresh);
    }

    #[test]
    fn a_word_that_was_held_back_is_as_old_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut fresh = at(&folder.path().join("fresh"));
        fresh.heard(DAY, 5_000);
        // Made 10 s after the first, delivered 60 s after it: 120 ms of the delay may be drift.
        fresh.heard(DAY + 10_000, 65_000);
        assert!(fresh.word(65_000) != Word::Fresh);
        fresh.heard(DAY + 60_000, 65_001);
        assert!(fresh.word(85_000) == Word::Fresh);
    }

    #[test]
    fn the_first_word_may_be_the_slow_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut fresh = at(&folder.path().join("fresh"));
        fresh.heard(DAY, 9_000);
        fresh.heard(DAY + 10_000, 15_000);
        assert!(fresh.word(35_000) == Word::Fresh && fresh.word(35_001) != Word::Fresh);
    }

    #[test]
    fn a_restart_goes_on_and_a_reboot_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("fresh");
        at(&record).heard(DAY, 5_000);
        let again = at(&record);
        assert!(again.word(25_000) == Word::Fresh && again.word(25_001) != Word::Fresh);
        let rebooted = Freshness::new(Some(Duration::from_secs(20)), &record, boot(2), 3);
        assert!(rebooted.word(0) != Word::Fresh);
        fs::write(&record, "rubbish").unwrap();
        assert!(at(&record).word(5_000) != Word::Fresh);
    }

    #[test]
    fn clocks_that_drift_apart_do_not_make_a_node_stale() {
        let folder = tempfile::tempdir().unwrap();
        let mut fresh = at(&folder.path().join("fresh"));
        // Ours gains 1 s in every 1,000 s (1,000 ppm): after a while more than the limit.
        for beat in 0..60 {
            let now = 5_000 + beat * 1_001_000;
            fresh.heard(DAY + beat * 1_000_000, now);
            assert_eq!(fresh.word(now + 18_000), Word::Fresh, "{beat}");
        }
    }

    #[test]
    fn without_a_limit_it_is_always_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Freshness::new(None, &folder.path().join("fresh"), boot(1), 0);
        assert!(fresh.word(u64::MAX) == Word::Fresh);
    }
}
