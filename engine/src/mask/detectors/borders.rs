//! Where a match may begin and end: not within a word, that is a run of ASCII letters, digits and `_`. The letters and
//! digits of an escape (`\n`, `\u003d`, `%3D`, `%253D`) are no word, though they touch what follows.

use super::Report;
use std::ops::Range;

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether no word goes on at `at`.
pub(super) fn starts_free(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    !before.last().is_some_and(|&byte| is_word(byte)) || ends_with_escape(before)
}

/// Whether no word goes on behind a match that ends at `end`.
pub(super) fn ends_free(text: &[u8], end: usize) -> bool {
    !text.get(end).is_some_and(|&byte| is_word(byte))
}

fn ends_with_escape(text: &[u8]) -> bool {
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match text {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => true,
        [.., b'%', a, b] | [.., b'%', b'2', b'5', a, b] => hex(&[*a, *b]),
        [.., b'\\', b'u', a, b, c, d] => hex(&[*a, *b, *c, *d]),
        _ => false,
    }
}

/// Where the run of (hexadecimal) digits at `start` begins in truth: its first bytes may be the end of an escape. May lie
/// behind the run.
#[inline]
pub(super) fn behind_escape(text: &[u8], start: usize) -> usize {
    match text[..start].last() {
        Some(byte) if byte.is_ascii_hexdigit() || matches!(byte, b'%' | b'\\' | b'u') => {
            behind_real_escape(text, start)
        }
        _ => start,
    }
}

fn behind_real_escape(text: &[u8], start: usize) -> usize {
    let hex = |range: Range<usize>| text.get(range).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let of_escape = match (&text[..start], &text[start..]) {
        ([.., b'%'], [b'2', b'5', ..]) if hex(start + 2..start + 4) => 4,
        ([.., b'%'], _) if hex(start..start + 2) => 2,
        ([.., b'%', letter], _) if letter.is_ascii_hexdigit() && hex(start..start + 1) => 1,
        ([.., b'\\', b'u'], _) if hex(start..start + 4) => 4,
        ([.., b'\\'], [b'b' | b'f', ..]) => 1,
        _ => 0,
    };
    start + of_escape
}

/// Reports what `match_at` finds at the anchors, which ascend; anchors within a match are passed over.
pub(super) fn report_at(
    anchors: impl Iterator<Item = usize>,
    match_at: impl Fn(usize) -> Option<Range<usize>>,
    found: Report<'_>,
) {
    let mut end = 0;
    for anchor in anchors {
        if anchor < end {
            continue;
        }
        if let Some(range) = match_at(anchor).filter(|range| range.start >= end) {
            end = range.end;
            found(range);
        }
    }
}

/// The end of the run of such bytes that begins at `from`.
pub(super) fn run_end(text: &[u8], from: usize, of: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|&byte| !of(byte)).map_or(text.len(), |length| from + length)
}

/// The start of the run of such bytes that ends at `end`, not before `floor`.
pub(super) fn run_start(text: &[u8], floor: usize, end: usize, of: impl Fn(u8) -> bool) -> usize {
    text[floor..end].iter().rposition(|&byte| !of(byte)).map_or(floor, |last| floor + last + 1)
}

/// Whether `text` ends with `suffix`, compared without ASCII case.
pub(super) fn ends_with_ignoring_case(text: &[u8], suffix: &[u8]) -> bool {
    text.len() >= suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// Whether `text` starts with `prefix`, compared without ASCII case.
pub(super) fn starts_with_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_no_word() {
        for (before, free) in [
            ("", true),
            (" ", true),
            ("x", false),
            ("_", false),
            ("7", false),
            ("n", false),
            (r"\n", true),
            (r"\\t", true),
            (r"\x", false),
            ("%3D", true),
            ("%3g", false),
            ("%253d", true),
            ("%d", false),
            (r"\u003d", true),
            (r"u003d", false),
            ("é", true),
        ] {
            assert_eq!(starts_free(before.as_bytes(), before.len()), free, "{before}");
        }
    }

    #[test]
    fn digits_begin_behind_an_escape() {
        for (text, run, expected) in [
            ("%2010", 1, "10"),
            ("%252010", 1, "10"),
            ("%A010", 2, "10"),
            (r"\u003d10", 2, "10"),
            (r"\b10", 1, "10"),
            ("%zz10", 3, "10"),
            ("=10", 1, "10"),
            ("10", 0, "10"),
            ("%2", 1, "2"),
        ] {
            assert_eq!(&text[behind_escape(text.as_bytes(), run)..], expected, "{text}");
        }
    }
}
