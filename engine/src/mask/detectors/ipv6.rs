//! IPv6 addresses in the text forms of RFC 4291, 2.2: eight groups, or fewer around one `::`; the last two may be written
//! as an IPv4 address. A zone (`%eth0`, RFC 4007) is part of the match, brackets, port and prefix length are not.
//!
//! What else is written with colons is told apart: times, hardware addresses, paths of C++ and Rust (`std::fs`, and those
//! of letters a to f as `ab::cd`: without a digit there must be three groups). `::` and `::1` say nothing of anyone.

use super::borders::{behind_escape, is_word, run_end, run_start, starts_free};
use super::{class, ipv4, Entry, Find, Form, Needs, Report};
use memchr::memchr;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "ipv6",
    needs: Needs { all_of: class::COLON, any_of: 0, digits: 0, length: 4, literals: &[] },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[ipv6]",
    form: Form::Address,
};

const GROUPS: usize = 8;
/// An interface's name and more (IFNAMSIZ is 16).
const LONGEST_ZONE: usize = 32;

/// From the first colon of a run of hexadecimal digits and colons to both sides; a run is read once.
fn find(text: &[u8], found: Report<'_>) {
    let mut position = 0;
    while let Some(offset) = memchr(b':', &text[position..]) {
        let colon = position + offset;
        let start = run_start(text, position, colon, |byte| byte.is_ascii_hexdigit());
        let run = start..run_end(text, colon, |byte| byte.is_ascii_hexdigit() || byte == b':');
        position = run.end;
        if let Some(address) = address(text, run, colon) {
            position = address.end.max(position);
            found(address);
        }
    }
}

fn address(text: &[u8], run: Range<usize>, colon: usize) -> Option<Range<usize>> {
    let start = first_digit(text, run.start, colon)?;
    let mut end = run.end;
    // `fe80::1: no route`
    if text[start..end].ends_with(b":") && !text[start..end].ends_with(b"::") {
        end -= 1;
    }
    let mut groups = Groups::read(text.get(start..end)?);
    if let (Some(last), Some(&[b'.', b'0'..=b'9'])) = (groups.last, text.get(end..end + 2)) {
        let last = start + last;
        end = embedded_ipv4_end(text, last)?;
        groups = Groups::read(&text[start..last]).with_ipv4()?;
    }
    if !groups.are_address() || text.get(end).is_some_and(|&byte| is_word(byte)) {
        return None;
    }
    Some(start..zone_end(text, start, end))
}

/// Where the address begins: not within a word, but behind the colon of `client:2001:db8::1`.
fn first_digit(text: &[u8], run: usize, colon: usize) -> Option<usize> {
    let start = behind_escape(text, run).min(colon);
    let behind_name = text[..start].last().is_some_and(|&byte| is_word(byte)) && !starts_free(text, start);
    if !behind_name {
        return Some(start);
    }
    (text.get(colon + 1) != Some(&b':')).then_some(colon + 1)
}

/// The groups between colons.
struct Groups {
    count: usize,
    /// Where `::` was seen.
    gaps: usize,
    hex_digits: usize,
    decimal_digits: usize,
    /// All groups have two digits.
    pairs: bool,
    valid: bool,
    /// Where the last group begins, if nothing is behind it.
    last: Option<usize>,
}

impl Groups {
    fn read(text: &[u8]) -> Groups {
        let mut groups =
            Groups { count: 0, gaps: 0, hex_digits: 0, decimal_digits: 0, pairs: true, valid: true, last: None };
        let mut position = 0;
        while position < text.len() && groups.valid {
            if text[position] == b':' {
                let colons = run_end(text, position, |byte| byte == b':') - position;
                groups.gaps += usize::from(colons == 2);
                groups.valid = colons <= 2 && (colons == 2 || groups.count > 0);
                groups.last = None;
                position += colons;
                continue;
            }
            let end = run_end(text, position, |byte| byte != b':');
            let digits = &text[position..end];
            groups.count += 1;
            groups.hex_digits += digits.len();
            groups.decimal_digits += digits.iter().filter(|byte| byte.is_ascii_digit()).count();
            groups.pairs &= digits.len() == 2;
            groups.valid = digits.len() <= 4 && groups.count <= GROUPS;
            groups.last = Some(position);
            position = end;
        }
        groups
    }

    /// With an IPv4 address behind them, which stands for two groups.
    fn with_ipv4(self) -> Option<Groups> {
        let groups = Groups { count: self.count + 2, hex_digits: self.hex_digits + 4, decimal_digits: 4, ..self };
        (groups.gaps == 1 || groups.count == GROUPS).then_some(groups)
    }

    fn are_address(&self) -> bool {
        let like_a_path = self.decimal_digits == 0 && self.count < 3;
        match self.gaps {
            0 => self.valid && self.count == GROUPS,
            1 => self.valid && self.count < GROUPS && !like_a_path && (self.count > 1 || self.hex_digits > 1),
            _ => false,
        }
    }
}

fn embedded_ipv4_end(text: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    for part in 0..4 {
        let end = run_end(&text[..text.len().min(position + 4)], position, |byte| byte.is_ascii_digit());
        ipv4::octet(&text[position..end])?;
        if part == 3 {
            let goes_on = matches!(text.get(end..end + 2), Some(&[b'.', digit]) if digit.is_ascii_digit());
            return (!goes_on).then_some(end);
        }
        position = end + 1;
        if text.get(end) != Some(&b'.') {
            return None;
        }
    }
    None
}

/// `%eth0`, in URLs `%25eth0` (RFC 6874). A percent sign that begins an escape (`%20`) is no zone, unless the address is of
/// the kind that has zones.
fn zone_end(text: &[u8], start: usize, end: usize) -> usize {
    let Some(rest) = text[end..].strip_prefix(b"%") else { return end };
    let is_local = text[start..].len() > 2
        && (text[start..start + 2].eq_ignore_ascii_case(b"fe") || text[start..start + 2].eq_ignore_ascii_case(b"ff"));
    let is_escape = rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit) && !rest.starts_with(b"25");
    let zone = &rest[..rest.len().min(LONGEST_ZONE)];
    let mut length = run_end(zone, 0, |byte| is_word(byte) || byte == b'-');
    // `eth0.100`: a VLAN.
    if length > 0 && zone.get(length) == Some(&b'.') {
        let vlan = run_end(zone, length + 1, |byte| byte.is_ascii_digit());
        length = if vlan > length + 1 { vlan } else { length };
    }
    if length > 0 && (is_local || !is_escape) {
        end + 1 + length
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("2001:db8:85a3:0:0:8a2e:370:7334", "#"),
                ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "#"),
                ("2001:db8::1", "#"),
                ("2001:DB8::A", "#"),
                ("fe80::", "#"),
                ("::ffff:192.0.2.1", "#"),
                ("64:ff9b::192.0.2.33,", "#,"),
                ("0:0:0:0:0:ffff:192.0.2.1", "#"),
                ("[2001:db8::1]:8080", "[#]:8080"),
                ("http://[2001:db8::1]/x", "http://[#]/x"),
                ("2001:db8::/32", "#/32"),
                ("fe80::1%eth0", "#"),
                ("fe80::1%12", "#"),
                ("fe80::1%eth0.100", "#"),
                ("fe80::1%eth0.", "#."),
                ("http://[fe80::1%25en1]/", "http://[#]/"),
                ("ip=2001:db8::1%20x", "ip=#%20x"),
                ("from 2001:db8::1: no route", "from #: no route"),
                ("client:2001:db8::1", "client:#"),
                ("cache:2001:db8::1", "cache:#"),
                ("ip%3D2001:db8::1", "ip%3D#"),
                (r"a\n2001:db8::1", r"a\n#"),
                (r"a\b2001:db8::1", r"a\b#"),
                ("2001:db8::1.", "#."),
                ("2001:db8::1 2001:db8::2", "# #"),
                ("dead:beef::cafe", "#"),
            ],
        );
    }

    #[test]
    fn other_things_with_colons_stay() {
        assert_stays(
            &ENTRY,
            &[
                "",
                ":",
                "::",
                "::1",
                "1::",
                ":::",
                "[::1]:8080",
                "12:34:56",
                "2024-01-15T10:00:00.123Z",
                "00:1b:44:11:3a:b7",
                "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33",
                "std::fs::read",
                "ab::cd",
                "::add",
                "foo::bad::cafe1",
                "Foo::1a",
                "1:2:3:4:5:6:7",
                "1:2:3:4:5:6:7:8:9",
                "12345::1",
                "1::2::3",
                "2001:db8::1g",
                "2001:db8:::1",
                "job:http_requests:rate5m",
                "main.rs:12:5",
                "::ffff:1.2.3",
                "::ffff:1.2.3.4.5",
                "::ffff:1.2.3.256",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &[":", "a", "a:", "::", "a::", "::ffff:1.2.3.4.", "::1.", "fe80::1%", "x:a::"]);
    }

    proptest! {
        #[test]
        fn any_address_is_found_wherever_it_stands_free(
            groups in vec(1u16.., 8),
            gap in proptest::option::of((0usize..7, 2usize..4)),
            (before, after) in ("([a-z ]*[=(\\[,])?", "([,;)/\\] ]{1,2}[a-z]*)?"),
        ) {
            let mut groups = groups;
            if let Some((from, length)) = gap {
                groups.iter_mut().skip(from).take(length).for_each(|group| *group = 0);
            }
            let address = std::net::Ipv6Addr::from(<[u16; 8]>::try_from(groups).unwrap());
            let text = format!("{before}{address}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
