//! Points in time as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::client::admin;

/// Milliseconds since 1970 of this moment.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time for ListOffsets: one of Kafka's words or numbers for special offsets, else [`parse_time`].
pub fn parse_offset_time(text: &str, now_ms: i64) -> Result<i64, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "latest" => Ok(admin::LATEST),
        "earliest" => Ok(admin::EARLIEST),
        "max-timestamp" => Ok(admin::MAX_TIMESTAMP),
        "earliest-local" => Ok(admin::EARLIEST_LOCAL),
        "latest-tiered" => Ok(admin::LATEST_TIERED),
        "earliest-pending-upload" => Ok(admin::EARLIEST_PENDING_UPLOAD),
        other => match other.parse::<i64>() {
            Ok(number) if number < admin::EARLIEST_PENDING_UPLOAD => {
                Err(format!("--time {number}: negative times below -6 mean nothing"))
            }
            Ok(number) => Ok(number),
            Err(_) => parse_time(text, now_ms),
        },
    }
}

/// A point in time in milliseconds since 1970: a number of milliseconds, `now`, a duration ago
/// (`90 minutes ago`, `1h30m ago`, `2d ago`), or an ISO 8601 time (`2026-03-01`, `2026-03-01T12:30`,
/// `2026-03-01T12:30:15.250Z`, `…+02:00`; without a zone it is UTC).
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now_ms);
    }
    if let Ok(number) = trimmed.parse::<i64>() {
        return if number >= 0 { Ok(number) } else { Err(format!("'{text}': a time before 1970")) };
    }
    let parsed = match trimmed.to_ascii_lowercase().strip_suffix("ago") {
        Some(duration) => parse_duration(duration).and_then(|duration| now_ms.checked_sub(duration)),
        None => parse_iso(trimmed),
    };
    parsed.ok_or_else(|| {
        format!(
            "'{text}' is no time: expected milliseconds since 1970, an ISO time as 2026-03-01T12:30:00Z, \
             or a duration as in '90 minutes ago'"
        )
    })
}

/// Milliseconds of a duration: numbers with units, one after the other (`1h 30m`, `90 seconds`), up to weeks.
pub fn parse_duration(text: &str) -> Option<i64> {
    let text = text.trim();
    // The ISO form, and a sign, are another matter.
    text.starts_with(|letter: char| letter.is_ascii_digit()).then(|| span_ms(text))?
}

/// Milliseconds of a duration of ISO 8601 in days and less, as Java's `Duration` has it: `P1D`,
/// `PT1H30M`, `P2DT0.5S`.
pub fn parse_iso_duration(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    text.starts_with('P').then(|| span_ms(&text))?
}

/// A day has 24 hours here; months and years have no fixed length and give nothing.
fn span_ms(text: &str) -> Option<i64> {
    let span = text.parse::<Span>().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    i64::try_from(duration.as_millis()).ok().filter(|milliseconds| *milliseconds >= 0)
}

fn parse_iso(text: &str) -> Option<i64> {
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        // Without a zone it is UTC.
        TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
    })?;
    Some(timestamp.as_millisecond()).filter(|milliseconds| *milliseconds >= 0)
}

/// `2026-03-01T12:30:15.250Z`; times that have no such form, before 1970 or beyond the year 9999, as their number.
pub fn format_iso(timestamp_ms: i64) -> String {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(timestamp) if timestamp_ms >= 0 => format!("{timestamp:.3}"),
        _ => timestamp_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_durations_or_iso() {
        let now = 1_000_000_000_000;
        for (text, expected) in [
            ("1700000000000", 1_700_000_000_000),
            ("now", now),
            ("90 minutes ago", now - 5_400_000),
            ("1h30m ago", now - 5_400_000),
            ("2d ago", now - 172_800_000),
            ("1970-01-01", 0),
            ("2026-03-01T12:30:15.250Z", 1_772_368_215_250),
            ("2026-03-01T14:30:15.25+02:00", 1_772_368_215_250),
            ("2026-03-01 12:30", 1_772_368_200_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "yesterday",
            "2026-13-01",
            "2025-02-29",
            "5 parsecs ago",
            "-5",
            "2026-03-01T25:00",
            "h ago",
            "2 months ago",
            "1969-12-31",
            "PT5M ago",
            "-5m ago",
        ] {
            assert!(parse_time(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn iso_durations_are_javas() {
        for (text, expected) in [
            ("P1D", 86_400_000),
            ("PT1H30M", 5_400_000),
            ("P2DT3H4M5.006S", 183_845_006),
            ("pt0s", 0),
            ("PT90M", 5_400_000),
        ] {
            assert_eq!(parse_iso_duration(text), Some(expected), "{text}");
        }
        for wrong in ["", "P", "PT", "1h", "P1Y", "PT1D", "PT1M2H", "PTS", "PT1X", "P1", "PT-1S"] {
            assert_eq!(parse_iso_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn iso_times_print_and_read_back() {
        assert_eq!(format_iso(1_772_368_215_250), "2026-03-01T12:30:15.250Z");
        for time in (0..4_000_000_000_000).step_by(86_400_123_457 / 7) {
            assert_eq!(parse_iso(&format_iso(time)), Some(time));
        }
        assert_eq!(format_iso(i64::MAX), i64::MAX.to_string());
        assert_eq!(format_iso(-1), "-1");
    }

    #[test]
    fn offset_times_are_kafkas_words_and_numbers() {
        assert_eq!(parse_offset_time("earliest", 0), Ok(-2));
        assert_eq!(parse_offset_time("-3", 0), Ok(-3));
        assert_eq!(parse_offset_time("MAX-TIMESTAMP", 0), Ok(-3));
        assert_eq!(parse_offset_time("12345", 0), Ok(12345));
        assert!(parse_offset_time("-7", 0).is_err());
    }
}
