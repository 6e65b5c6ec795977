//! Points in time as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// Milliseconds of a duration: numbers with units, one after the other (`1h 30m`, `90 seconds`).
pub fn parse_duration(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total = 0i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms: i64 = match unit {
            "ms" | "millis" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 7 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
        rest = after.trim_start();
    }
    Some(total)
}

/// Milliseconds of a duration of ISO 8601 in days and less, as Java's `Duration` has it: `P1D`,
/// `PT1H30M`, `P2DT0.5S`.
pub fn parse_iso_duration(text: &str) -> Option<i64> {
    let upper = text.trim().to_ascii_uppercase();
    let rest = upper.strip_prefix('P')?;
    let (date, clock) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, clock)) => (date, clock),
        None => (rest, ""),
    };
    if date.is_empty() && clock.is_empty() {
        return None;
    }
    let days = if date.is_empty() { 0 } else { date.strip_suffix('D')?.parse::<u32>().ok()? };
    let mut total = i64::from(days) * 86_400_000;
    let mut clock = clock;
    for (unit, unit_ms) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((number, after)) = clock.split_once(unit) {
            total += i64::from(number.parse::<u32>().ok()?) * unit_ms;
            clock = after;
        }
    }
    if let Some(seconds) = clock.strip_suffix('S') {
        let (whole, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, ""));
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        total += i64::from(whole.parse::<u32>().ok()?) * 1_000;
        total += format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
        clock = "";
    }
    clock.is_empty().then_some(total)
}

fn parse_iso(text: &str) -> Option<i64> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let mut milliseconds = days_since_1970(year, month, day) * 86_400_000;
    if let Some(clock) = clock {
        let (clock, zone_minutes) = split_zone(clock)?;
        let (whole, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
        let mut parts = whole.splitn(3, ':');
        let hour = digits(parts.next()?, 2)?;
        let minute = digits(parts.next()?, 2)?;
        let second = parts.next().map_or(Some(0), |second| digits(second, 2))?;
        if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let thousandths = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
        milliseconds += ((hour * 60 + minute - zone_minutes) * 60 + second) * 1_000 + thousandths;
    }
    (milliseconds >= 0).then_some(milliseconds)
}

/// The clock without its zone, and the zone's distance from UTC in minutes.
fn split_zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (clock, zone) = clock.split_at(at);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let zone = zone.get(1..)?.replace(':', "");
    let (hours, minutes) = match zone.len() {
        2 => (digits(&zone, 2)?, 0),
        4 => (digits(zone.get(..2)?, 2)?, digits(zone.get(2..)?, 2)?),
        _ => return None,
    };
    (hours <= 18 && minutes < 60).then_some((clock, sign * (hours * 60 + minutes)))
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March, so that the leap day
/// is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// `2026-03-01T12:30:15.250Z`; negative times as their number.
pub fn format_iso(timestamp_ms: i64) -> String {
    if timestamp_ms < 0 {
        return timestamp_ms.to_string();
    }
    let (mut days, in_day) = (timestamp_ms / 86_400_000, timestamp_ms % 86_400_000);
    // The inverse of the count above: eras of 400 years, then the year within, from March.
    days += 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (seconds, thousandths) = (in_day / 1_000, in_day % 1_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{thousandths:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
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
        for wrong in
            ["", "yesterday", "2026-13-01", "2025-02-29", "5 parsecs ago", "-5", "2026-03-01T25:00", "h ago"]
        {
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
