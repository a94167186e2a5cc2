//! What the tests of all detectors share.

use super::{class, DigitRuns, Entry, Find, Needs, Report};
use std::time::{Duration, Instant};

type Finds<'f> = &'f dyn Fn(&[u8], Report<'_>);

/// The text with `#` in the place of each match; checks that matches ascend and do not overlap.
pub(super) fn masked(text: &[u8], find: Finds<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut copied = 0;
    find(text, &mut |range| {
        assert!(range.start >= copied && range.start < range.end && range.end <= text.len(), "{range:?}");
        out.extend_from_slice(&text[copied..range.start]);
        out.push(b'#');
        copied = range.end;
    });
    out.extend_from_slice(&text[copied..]);
    out
}

pub(super) fn find(entry: &Entry, text: &[u8], report: Report<'_>) {
    match entry.find {
        Find::Anywhere(find) => find(text, report),
        Find::AtDigits(find) => find(text, DigitRuns::default().of(text), report),
    }
}

pub(super) fn mask(entry: &Entry, text: &str) -> String {
    String::from_utf8(masked(text.as_bytes(), &|text, report| find(entry, text, report))).unwrap()
}

/// Each text is masked as expected, and would have been searched.
pub(super) fn assert_found(entry: &Entry, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(mask(entry, text), *expected, "{text}");
        assert!(may_match(&entry.needs, text.as_bytes()), "the needs of {} exclude {text}", entry.name);
    }
}

pub(super) fn assert_stays(entry: &Entry, cases: &[&str]) {
    for text in cases {
        assert_eq!(mask(entry, text), *text);
    }
}

pub(super) fn assert_linear(entry: &Entry, units: &[&str]) {
    assert_finds_linearly(&|text, report| find(entry, text, report), units);
}

/// A megabyte of each unit is searched in no time. The limit leaves room for a slow machine that others use too, and none
/// for a quadratic search, which would take minutes.
pub(super) fn assert_finds_linearly(find: Finds<'_>, units: &[&str]) {
    for unit in units {
        let repeated = |bytes: usize| unit.repeat(bytes / unit.len());
        // The shorter one first: it tells of a quadratic search soon.
        for text in [repeated(1 << 15), repeated(1 << 20), repeated(1 << 20) + "_"] {
            let start = Instant::now();
            find(text.as_bytes(), &mut |_| {});
            let took = start.elapsed();
            assert!(took < Duration::from_secs(1), "{unit:?} took {took:?}");
            if std::env::var_os("SHOW_TIMES").is_some() && took > Duration::from_millis(10) {
                println!("{unit:?} {took:?}");
            }
        }
    }
}

/// Whether a text is searched, told byte by byte.
pub(super) fn may_match(needs: &Needs, text: &[u8]) -> bool {
    let classes = text.iter().fold(0, |classes, byte| {
        classes
            | match byte {
                b'@' => class::AT,
                b'%' => class::PERCENT,
                b'"' => class::QUOTE,
                b':' => class::COLON,
                b'.' => class::DOT,
                b'-' => class::HYPHEN,
                b'=' => class::EQUALS,
                b'_' => class::UNDERSCORE,
                b' ' => class::SPACE,
                b'/' => class::SLASH,
                b'+' => class::PLUS,
                b'A'..=b'Z' => class::UPPER,
                b'a'..=b'z' => class::LOWER,
                _ => 0,
            }
    });
    let occurs = |literal: &&str| text.windows(literal.len()).any(|part| part.eq_ignore_ascii_case(literal.as_bytes()));
    classes & needs.all_of == needs.all_of
        && (needs.any_of == 0 || classes & needs.any_of != 0)
        && text.iter().filter(|byte| byte.is_ascii_digit()).count() >= needs.digits
        && text.len() >= needs.length
        && (needs.literals.is_empty() || needs.literals.iter().any(occurs))
}
