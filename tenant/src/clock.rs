//! Time, as people write and read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{format_description::well_known::Rfc3339, OffsetDateTime};

/// Milliseconds since 1970 (UTC).
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}

/// How long ago, in one number.
pub(crate) fn ago(at_ms: u64) -> String {
    let seconds = now_ms().saturating_sub(at_ms) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// RFC 3339, UTC, milliseconds when there are some.
pub(crate) fn written(at_ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{at_ms} ms"))
}

/// Reads RFC 3339.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn moment(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error} (like 2026-01-31T12:00:00Z)"))?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| "before 1970".into())
}

/// Reads a duration: a number with `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration like 90s, 30m, 12h, 14d or 8w");
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    count
        .checked_mul(seconds)
        .filter(|seconds| (1..=100 * 366 * 86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("2m", 120),
            ("1h", 3600),
            ("1d", 86_400),
            ("2w", 1_209_600),
        ] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for bad in [
            "",
            "s",
            "1",
            "0d",
            "-1d",
            "1 d",
            "1y",
            "99999999999999999999d",
            "36700d",
            "1\u{fc}",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_come_back() {
        let at = moment("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(at, 1_769_860_800_000);
        assert_eq!(written(at), "2026-01-31T12:00:00Z");
        assert_eq!(moment("2026-01-31T13:00:00+01:00").unwrap(), at);
        assert!(moment("yesterday").is_err());
    }
}
