//! Points in a log as people type them: `earliest`, `latest`, an offset, a time.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::OffsetSpec;
use types::{Offset, Timestamp};

/// A point in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    /// The log start.
    Earliest,
    /// The end.
    Latest,
    /// An offset.
    Offset(Offset),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

impl When {
    /// How to look it up; `None` when it is an offset already.
    pub fn spec(self) -> Option<OffsetSpec> {
        match self {
            When::Earliest => Some(OffsetSpec::Earliest),
            When::Latest => Some(OffsetSpec::Latest),
            When::Time(timestamp) => Some(OffsetSpec::Timestamp(timestamp)),
            When::Offset(_) => None,
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        match text {
            "earliest" => return Ok(When::Earliest),
            "latest" => return Ok(When::Latest),
            _ => {}
        }
        if let Ok(offset) = text.parse::<i64>() {
            let negative = || "an offset is 0 or more".to_owned();
            return if offset >= 0 { Ok(When::Offset(Offset(offset))) } else { Err(negative()) };
        }
        let time = ago(text).or_else(|| rfc3339(text)).ok_or_else(|| {
            "expected earliest, latest, an offset such as 42, \
             a time such as 2026-01-31T12:00:00Z, or an age such as 90m ago"
                .to_owned()
        })?;
        Ok(When::Time(time))
    }
}

/// `10m ago`, or `10m`: so long before now. Units s, m, h, d.
fn ago(text: &str) -> Option<Timestamp> {
    let age = text.trim_end_matches("ago").trim();
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let age = Duration::from_secs(number.trim().parse::<u64>().ok()?.checked_mul(seconds)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = now.saturating_sub(age);
    Some(Timestamp(i64::try_from(then.as_millis()).ok()?))
}

/// `2026-01-31`, `2026-01-31T12:00`, `...:30.5`, each with `Z`, `+hh:mm`, `-hh:mm` or nothing (UTC).
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    let mut parts = date.split('-');
    let year: i64 = number(parts.next()?, 4)?;
    let month: i64 = number(parts.next()?, 2)?;
    let day: i64 = number(parts.next()?, 2)?;
    if parts.next().is_some()
        || !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
    {
        return None;
    }
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let mut parts = clock.split(':');
    let hour: i64 = number(parts.next()?, 2)?;
    let minute: i64 = number(parts.next()?, 2)?;
    let (second, fraction) = match parts.next() {
        None => ("00", ""),
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "")),
    };
    let second: i64 = number(second, 2)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = match fraction {
        "" => 0,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let padded: String = digits.chars().chain("00".chars()).take(3).collect();
            padded.parse::<i64>().ok()?
        }
        _ => return None,
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        - zone_seconds(zone)?;
    Some(Timestamp(seconds * 1000 + millis))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years + months + day - 1
}

/// A timestamp for people: UTC, to the millisecond.
pub(super) fn show(timestamp: Timestamp) -> String {
    let millis = timestamp.0;
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Far from any calendar the number itself says more.
    if !(-719_162..2_932_897).contains(&days) {
        return format!("{millis} ms");
    }
    let (mut year, mut left) = (1970, days);
    while left < 0 {
        year -= 1;
        left += if is_leap(year) { 366 } else { 365 };
    }
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let mut month = 1;
    while left >= days_of(year, month) {
        left -= days_of(year, month);
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        left + 1,
        rest % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_words_offsets_and_times() {
        let time = |text: &str| match text.parse() {
            Ok(When::Time(timestamp)) => timestamp.0,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!("earliest".parse(), Ok(When::Earliest));
        assert_eq!("42".parse(), Ok(When::Offset(Offset(42))));
        assert_eq!(time("1970-01-01T00:00:00Z"), 0);
        assert_eq!(time("2000-02-29"), 951_782_400_000);
        assert_eq!(time("2026-11-21T07:25:34Z"), 1_795_245_934_000);
        assert_eq!(time("2026-11-21T08:25:34.5+01:00"), 1_795_245_934_500);
        assert_eq!(time("2026-11-21 07:25"), 1_795_245_900_000);
        assert!(time("10m ago") < time("1s"));
        for bad in ["-1", "now", "2026-02-29", "2026-13-01", "2026-01-01T24:00", "10x", "", "m"] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_shown_as_they_are_typed() {
        for text in
            ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.999Z", "1969-12-31T00:00:00.001Z"]
        {
            let Ok(When::Time(timestamp)) = text.parse() else { panic!("{text}") };
            assert_eq!(show(timestamp), text);
        }
        assert_eq!(show(Timestamp(i64::MAX)), format!("{} ms", i64::MAX));
    }
}
