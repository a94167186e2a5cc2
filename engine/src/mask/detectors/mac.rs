//! Hardware addresses (EUI-48): six pairs of hexadecimal digits parted by colons or hyphens, or three groups of four
//! parted by dots.
//!
//! Longer rows (fingerprints, EUI-64, the hyphenated groups of a UUID) are none. Six pairs of decimal digits alone are
//! more likely a time: they are found only if they are all there is. Zeros and the broadcast address say nothing of anyone.

use super::borders::{behind_escape, ends_free, run_end, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr3;

pub(super) const ENTRY: Entry = Entry {
    name: "mac",
    needs: Needs { all_of: 0, any_of: class::COLON | class::HYPHEN | class::DOT, digits: 0, length: 14, literals: &[] },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[mac]",
    form: Form::Code,
};

/// The two forms, by the digits of a group.
const PAIRS: Shape = Shape { digits: 2, groups: 6 };
const QUADS: Shape = Shape { digits: 4, groups: 3 };

struct Shape {
    digits: usize,
    groups: usize,
}

impl Shape {
    const fn length(&self) -> usize {
        self.groups * (self.digits + 1) - 1
    }

    /// Whether the bytes are groups of hexadecimal digits with the separator between them.
    fn fits(&self, bytes: &[u8], separator: u8) -> bool {
        bytes.iter().enumerate().all(|(at, &byte)| match at % (self.digits + 1) == self.digits {
            true => byte == separator,
            false => byte.is_ascii_hexdigit(),
        })
    }
}

/// From the first separator to both sides: each is looked at once, and no more than a few bytes around it.
fn find(text: &[u8], found: Report<'_>) {
    let mut position = 0;
    while let Some(offset) = memchr3(b':', b'-', b'.', &text[position..]) {
        let separator = position + offset;
        let shape = if text[separator] == b'.' { QUADS } else { PAIRS };
        let start = separator.checked_sub(shape.digits).filter(|&start| start >= position.saturating_sub(1));
        position = separator + 1;
        // Most separators are none of an address: the next one tells.
        if text.get(separator + shape.digits + 1) != Some(&text[separator]) {
            continue;
        }
        let Some(start) = start else { continue };
        let end = start + shape.length();
        let fits = text.get(start..end).is_some_and(|bytes| shape.fits(bytes, text[separator]));
        if fits && is_free(text, start, end, text[separator]) && is_telling(text, start, end) {
            found(start..end);
            position = end;
        }
    }
}

/// Whether no word and no further group of hexadecimal digits is beside it.
fn is_free(text: &[u8], start: usize, end: usize, separator: u8) -> bool {
    /// Longer words than this beside it are not looked at to their end.
    const REACH: usize = 16;
    let least = if separator == b'.' { QUADS.digits } else { PAIRS.digits };
    let is_group = |word: &[u8]| word.len() >= least && word.iter().all(u8::is_ascii_hexdigit);
    let starts = starts_free(text, start) || {
        // The first digits may be those of an escape, as in `%3A00:11:22:33:44:55`.
        let run = run_start(text, start.saturating_sub(2), start, |byte| byte.is_ascii_hexdigit());
        run < start && behind_escape(text, run) == start
    };
    let joins_before = text[..start].last() == Some(&separator) && {
        let word = run_start(text, start.saturating_sub(REACH), start - 1, |byte| byte.is_ascii_alphanumeric());
        is_group(&text[word..start - 1])
    };
    let joins_behind = text.get(end) == Some(&separator) && {
        let window = &text[..text.len().min(end + REACH)];
        is_group(&window[end + 1..run_end(window, end + 1, |byte| byte.is_ascii_alphanumeric())])
    };
    starts && ends_free(text, end) && !joins_before && !joins_behind
}

fn is_telling(text: &[u8], start: usize, end: usize) -> bool {
    let address = &text[start..end];
    let mut digits = address.iter().filter(|byte| byte.is_ascii_hexdigit());
    let is_all =
        |wanted: u8| address.iter().all(|byte| !byte.is_ascii_hexdigit() || byte.eq_ignore_ascii_case(&wanted));
    let has_letter = digits.any(u8::is_ascii_alphabetic);
    let is_whole_text = address.len() == text.len() && address.len() == PAIRS.length();
    (has_letter || is_whole_text) && !is_all(b'0') && !is_all(b'f')
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
                ("00:1b:44:11:3a:b7", "#"),
                ("00-1B-44-11-3A-B7", "#"),
                ("001b.4411.3ab7", "#"),
                ("12:34:56:78:90:12", "#"),
                ("mac=00:1b:44:11:3a:b7,", "mac=#,"),
                ("mac:00:1b:44:11:3a:b7", "mac:#"),
                ("ether 00:1b:44:11:3a:b7: up", "ether #: up"),
                ("mac%3D00:1b:44:11:3a:b7", "mac%3D#"),
                ("mac=%2000:1b:44:11:3a:b7", "mac=%20#"),
                (r"a\n00:1b:44:11:3a:b7", r"a\n#"),
                ("port-00-1b-44-11-3a-b7", "port-#"),
                ("001b.4411.3ab7.", "#."),
                ("00:1b:44:11:3a:b7 00:1b:44:11:3a:b8", "# #"),
                ("a.b.001b.4411.3ab7", "a.b.#"),
            ],
        );
    }

    #[test]
    fn what_is_no_address_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "00:00:00:00:00:00",
                "ff:ff:ff:ff:ff:ff",
                "FF-FF-FF-FF-FF-FF",
                "0000.0000.0000",
                "at 12:34:56:78:90:12",
                "24-01-15-10-00-07 done",
                "00:1b:44:11:3a",
                "00:1b:44:11:3a:b7:00",
                "00:1b:44:11:3a:b7:00:11",
                "00:1b-44:11-3a:b7",
                "001b44113ab7",
                "x00:1b:44:11:3a:b7",
                "00:1b:44:11:3a:b7f",
                "4bf9-00-1b-44-11-3a-b7-11",
                "1234.5678.9012",
                "001b.4411.3ab7.0011",
                "550e8400-e29b-41d4-a716-446655440000",
                "00:1b:44:11:3a:g7",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &[":", "-", "00:", "00-", "a", "aaaa.", "00:1b:44:11:3a:b7:", "00:1b:44:11:3a:b7 "]);
    }

    proptest! {
        #[test]
        fn any_address_is_found_wherever_it_stands_free(
            bytes in any::<[u8; 6]>(),
            separator in prop_oneof![Just(":"), Just("-")],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let pairs = bytes.map(|byte| format!("{byte:02x}"));
            prop_assume!(pairs.concat().bytes().any(|digit| digit.is_ascii_alphabetic()) && bytes != [0xff; 6]);
            let text = format!("{before}{}{after}", pairs.join(separator));
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
