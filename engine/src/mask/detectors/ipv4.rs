//! IPv4 addresses: four octets without leading zeros. Ports and prefix lengths stay.
//!
//! Other dotted numbers are told apart: those of five parts, versions (`v1.2.3.4`, `version=1.2.3.4`), and products of a
//! user agent (`Chrome/120.0.0.0`). Addresses that say nothing of anyone (unspecified, loopback, broadcast) stay.

use super::borders::{behind_escape, ends_free, ends_with_ignoring_case, run_end, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report, Run};

pub(super) const ENTRY: Entry = Entry {
    name: "ipv4",
    needs: Needs { all_of: class::DOT, any_of: 0, digits: 4, length: 7, literals: &[] },
    find: Find::AtDigits(find),
    is_match_number: None,
    replacement: b"[ipv4]",
    form: Form::Address,
};

/// From the first of a row of numbers, which is read once.
fn find(text: &[u8], runs: &[Run], found: Report<'_>) {
    let mut position = 0;
    for &[digits, dot] in runs {
        let is_parted = matches!(text[dot..], [b'.', b'0'..=b'9', ..]);
        if digits < position || !is_parted {
            continue;
        }
        let start = behind_escape(text, digits);
        if start >= dot {
            continue;
        }
        let row = Row::at(text, start);
        position = row.end;
        let is_address = row.octets.is_some_and(says_something)
            && starts_free(text, start)
            && ends_free(text, row.end)
            && !is_behind_number(text, start)
            && !is_version(text, start, row.end);
        if is_address {
            found(start..row.end);
        }
    }
}

/// Numbers parted by single dots.
struct Row {
    /// If there are four of them and each fits an octet.
    octets: Option<[u8; 4]>,
    end: usize,
}

impl Row {
    fn at(text: &[u8], start: usize) -> Row {
        let mut octets = Some([0; 4]);
        let mut count = 0;
        let mut position = start;
        loop {
            let end = run_end(text, position, |byte| byte.is_ascii_digit());
            octets = octets.filter(|_| count < 4).and_then(|mut octets| {
                octets[count] = octet(&text[position..end])?;
                Some(octets)
            });
            count += 1;
            match text.get(end..end + 2) {
                Some(&[b'.', digit]) if digit.is_ascii_digit() => position = end + 1,
                _ => return Row { octets: octets.filter(|_| count == 4), end },
            }
        }
    }
}

pub(super) fn octet(digits: &[u8]) -> Option<u8> {
    if !matches!(digits.len(), 1..=3) || digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    u8::try_from(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))).ok()
}

fn says_something(octets: [u8; 4]) -> bool {
    octets[0] != 127 && octets != [0; 4] && octets != [255; 4]
}

/// As the numbers in `1..2.3.4.5`, and an object identifier that begins with a dot (`.1.3.6.1`).
fn is_behind_number(text: &[u8], start: usize) -> bool {
    text[..start].ends_with(b".") && !text[..start - 1].last().is_some_and(u8::is_ascii_alphabetic)
}

fn is_version(text: &[u8], start: usize, end: usize) -> bool {
    let before = &text[..start];
    match before.last() {
        Some(b'/') => {
            let product = run_start(text, start.saturating_sub(24), start - 1, |byte| byte.is_ascii_alphabetic());
            // Java prints an address as `host/10.0.0.1:80`.
            text[product].is_ascii_uppercase() && text.get(end) != Some(&b':')
        }
        // `version 1.2.3.4`, `"version":"1.2.3.4"`.
        Some(b' ' | b'=' | b':' | b'"' | b'\'' | b'-') => {
            const LONGEST_BETWEEN: usize = 5;
            let between = |byte: u8| b" =:\"'\\-".contains(&byte);
            let word = run_start(text, start.saturating_sub(LONGEST_BETWEEN), start, between);
            let name = &text[..word];
            ends_with_ignoring_case(name, b"version") && !ends_with_ignoring_case(name, b"conversion")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("10.0.0.1", "#"),
                ("255.255.255.0", "#"),
                ("8.8.8.8", "#"),
                ("from 192.168.1.20:8080 to 10.1.2.3/24.", "from #:8080 to #/24."),
                ("http://10.0.0.1:9090/metrics", "http://#:9090/metrics"),
                ("api/10.0.0.1:443", "api/#:443"),
                ("10.0.0.1,10.0.0.2", "#,#"),
                ("10.0.0.1-10.0.0.9", "#-#"),
                ("[10.0.0.1]", "[#]"),
                ("ip=10.0.0.1.", "ip=#."),
                ("ip%3D10.0.0.1", "ip%3D#"),
                ("?q=%2010.0.0.1", "?q=%20#"),
                (r#"{"line":"a\n10.0.0.1"}"#, r##"{"line":"a\n#"}"##),
                ("peer.10.0.0.1.up", "peer.#.up"),
                ("地址10.0.0.1号", "地址#号"),
                ("conversion 10.0.0.1 x", "conversion # x"),
            ],
        );
    }

    #[test]
    fn other_dotted_numbers_stay() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "....",
                "1.2.3",
                "1.2.3.4.5",
                "1.3.6.1.4.1.311",
                "256.1.1.1",
                "1.2.3.1000",
                "01.2.3.4",
                "a10.0.0.1",
                "10.0.0.1a",
                "_10.0.0.1",
                "v1.2.3.4",
                "app/v1.2.3.4",
                "version 1.2.3.4",
                "Version: 1.2.3.4",
                "service.version=1.2.3.4",
                r#"{"version":"1.2.3.4"}"#,
                "Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36",
                "0.0.0.0:4317",
                "127.0.0.1",
                "127.1.2.3",
                "255.255.255.255",
                "1..2.3.4",
                "3.14",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &[".", "1", "1.", "10.0.0.1", "10.0.0.1 ", "%20", "v1.", "1..", "/1.2.3.4"]);
    }

    proptest! {
        #[test]
        fn any_address_is_found_wherever_it_stands_free(
            octets in (1u8..127, any::<u8>(), any::<u8>(), any::<u8>()),
            (before, after) in ("([a-z ]*[=(,])?", "([,;)/:] ?[a-z]*)?"),
        ) {
            let (a, b, c, d) = octets;
            let text = format!("{before}{a}.{b}.{c}.{d}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
