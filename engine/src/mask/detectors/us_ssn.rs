//! Social security numbers of the United States, `AAA-GG-SSSS`, with hyphens or single spaces. Numbers that the SSA never
//! assigns (area 000, 666, 900 and above, group 00, serial 0000) are none. Bare digits are not searched: every ninth
//! digits of telemetry would be one.

use super::borders::{behind_escape, ends_free, report_at, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report, Run};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "us_ssn",
    needs: Needs { all_of: 0, any_of: class::HYPHEN | class::SPACE, digits: 9, length: LENGTH, literals: &[] },
    find: Find::AtDigits(find),
    is_match_number: None,
    replacement: b"[us_ssn]",
    form: Form::Digits,
};

const LENGTH: usize = 11;
/// Digits in front of the first separator, and, with that, in front of the second.
const AREA: usize = 3;

fn find(text: &[u8], runs: &[Run], found: Report<'_>) {
    // The last digits of a run: those in front of them may be an escape's.
    let areas = runs.iter().filter(|[start, end]| end - start >= AREA);
    report_at(areas.map(|&[_, end]| end), |end| number(text, end), found);
}

/// The number of which this is the first separator, if it is one.
#[inline]
fn number(text: &[u8], first: usize) -> Option<Range<usize>> {
    let separator = *text.get(first).filter(|&&byte| byte == b'-' || byte == b' ')?;
    if text.get(first + AREA) != Some(&separator) {
        return None;
    }
    let start = first.checked_sub(AREA)?;
    let end = start + LENGTH;
    let digits_of = |range: Range<usize>| -> Option<u32> {
        text.get(range)?
            .iter()
            .try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
    };
    let area = digits_of(start..first)?;
    let group = digits_of(first + 1..first + 3)?;
    let serial = digits_of(first + 4..end)?;
    let assigned = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    (assigned && is_free(text, start, end, separator)).then_some(start..end)
}

/// Whether it is not part of a word or of a longer row of digits.
fn is_free(text: &[u8], start: usize, end: usize, separator: u8) -> bool {
    let joins = |sign: Option<&u8>, digit: Option<&u8>| {
        sign.is_some_and(|&sign| sign == b'-' || sign == b'.' || sign == separator)
            && digit.is_some_and(u8::is_ascii_digit)
    };
    let starts = starts_free(text, start) || {
        let run = run_start(text, start.saturating_sub(4), start, |byte| byte.is_ascii_hexdigit());
        run < start && behind_escape(text, run) == start
    };
    let before = start >= 2 && joins(text.get(start - 1), text.get(start - 2));
    starts && ends_free(text, end) && !before && !joins(text.get(end), text.get(end + 1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("123-45-6789", "#"),
                ("123 45 6789", "#"),
                ("078-05-1120", "#"),
                ("219-09-9999", "#"),
                ("ssn=899-99-9999;", "ssn=#;"),
                ("ssn-123-45-6789.", "ssn-#."),
                ("ssn%3D123-45-6789", "ssn%3D#"),
                ("ssn=%20123-45-6789", "ssn=%20#"),
                (r"a\n123-45-6789", r"a\n#"),
                ("123-45-6789,123-45-6780", "#,#"),
            ],
        );
    }

    #[test]
    fn what_is_no_number_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "123456789",
                "000-12-3456",
                "666-12-3456",
                "900-12-3456",
                "123-00-4567",
                "123-45-0000",
                "123-45 6789",
                "1123-45-6789",
                "123-45-67890",
                "x123-45-6789",
                "1-123-45-6789",
                "123-45-6789-1",
                "1.123-45-6789",
                "123-45-6789.5",
                "10 123 45 6789",
                "123 45 6789 10",
                "415-555-2671",
                "2024-01-15",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["-", " ", "1", "123-", "123-45-", "123-45-6789 ", "%20"]);
    }

    proptest! {
        #[test]
        fn any_number_is_found_wherever_it_stands_free(
            (area, group, serial) in (1u32..666, 1u32..100, 1u32..10_000),
            separator in prop_oneof![Just("-"), Just(" ")],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{area:03}{separator}{group:02}{separator}{serial:04}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
