//! Times as log lines write them.

const NANOS: f64 = 1e9;

/// RFC 3339, or Unix time in seconds, milliseconds, microseconds or nanoseconds; `None`: neither, or before 1970.
pub(super) fn unix_nanos(text: &str) -> Option<u64> {
    match text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        true => of_number(text),
        false => of_rfc3339(text),
    }
}

/// The unit is told by the size: in seconds, 1e11 is the year 5138.
fn of_number(text: &str) -> Option<u64> {
    let value: f64 = text.parse().ok()?;
    if let (Ok(whole), true) = (text.parse::<u64>(), value >= 1e17) {
        return Some(whole);
    }
    let unit = [(1e11, 1.0), (1e14, 1e3), (1e17, 1e6)].into_iter().find(|(below, _)| value < *below)?.1;
    // A double holds the seconds of today to less than a microsecond, not to a nanosecond.
    let micros = (value / unit * 1e6).round();
    Some(micros as u64 * (NANOS / 1e6) as u64)
}

fn of_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, digits: usize| -> Option<i64> {
        let digits = bytes.get(from..from + digits)?;
        digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
    };
    let mark = |at: usize, of: &[u8]| bytes.get(at).filter(|byte| of.contains(byte)).map(drop);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")]
        .into_iter()
        .try_for_each(|(at, of)| mark(at, of))?;
    // A leap second is the first of the next minute.
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let mut zone = 19;
    let mut nanos = 0;
    if matches!(bytes.get(zone), Some(b'.')) {
        let digits = bytes[zone + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let kept = digits.clamp(1, 9);
        nanos = number(zone + 1, kept)? * 10_i64.pow(9 - kept as u32);
        zone += 1 + digits;
    }
    let offset = match bytes.get(zone)? {
        b'Z' | b'z' if bytes.len() == zone + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == zone + 6 && bytes[zone + 3] == b':' => {
            let seconds = number(zone + 1, 2)? * 3600 + number(zone + 4, 2)? * 60;
            if *sign == b'-' {
                -seconds
            } else {
                seconds
            }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    u64::try_from(nanos).ok().filter(|nanos| in_range && *nanos > 0)
}

/// Of the Gregorian calendar. Source: Howard Hinnant, `chrono`-compatible low-level date algorithms, `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit_and_zone() {
        const SECOND: u64 = 1_700_000_000_000_000_000;
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", Some(SECOND)),
            ("2023-11-14 22:13:20z", Some(SECOND)),
            ("2023-11-14T22:13:20.5Z", Some(SECOND + 500_000_000)),
            ("2023-11-14T22:13:20.123456789Z", Some(SECOND + 123_456_789)),
            ("2023-11-14T22:13:20.1234567891Z", Some(SECOND + 123_456_789)),
            ("2023-11-15T00:13:20+02:00", Some(SECOND)),
            ("2023-11-14T16:43:20.000-05:30", Some(SECOND)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000_000)),
            ("1970-01-01T00:00:00.000000001Z", Some(1)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000_000_000)),
            ("1700000000", Some(SECOND)),
            ("1700000000.123456", Some(SECOND + 123_456_000)),
            ("1700000000000", Some(SECOND)),
            ("1700000000000000", Some(SECOND)),
            ("1700000000000000001", Some(SECOND + 1)),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14T22:13:20.Z ", None),
            ("2023-13-14T22:13:20Z", None),
            ("2023-11-14T24:13:20Z", None),
            ("2023-11-14T22:13:20+0200", None),
            ("1969-12-31T23:59:59Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("99999999999999999999999", None),
            ("1.2.3", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(unix_nanos(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TtZ:+.é -]{0,40}") {
            let _ = unix_nanos(&text);
        }
    }
}
