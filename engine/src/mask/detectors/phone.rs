//! Telephone numbers: international (ITU-T E.164, `+` or `00` and a country code), those of North America in their usual
//! groups, and national ones of Europe with a leading 0.
//!
//! Telemetry is full of digits, so in doubt a number is none: bare digits never are; without a `+` the groups must be
//! parted and, but for North America's, be all of a row; what follows a letter, a digit or the sign of a longer row is part
//! of that.

use super::borders::{behind_escape, ends_free, run_end, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report, Run};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "phone",
    needs: Needs {
        all_of: 0,
        any_of: class::PLUS | class::PERCENT | class::SPACE | class::HYPHEN | class::DOT,
        digits: FEWEST_DIGITS,
        length: 9,
        literals: &[],
    },
    find: Find::AtDigits(find),
    is_match_number: None,
    replacement: b"[phone]",
    form: Form::Digits,
};

const FEWEST_DIGITS: usize = 8;
const MOST_DIGITS: usize = 15;
/// Digits by twos, after a country code.
const MOST_GROUPS: usize = 9;

/// From each group of digits looks at 15 digits at most.
fn find(text: &[u8], runs: &[Run], found: Report<'_>) {
    let mut done = 0;
    for &[start, end] in runs {
        if start < done {
            continue;
        }
        let group = behind_escape(text, start);
        if let Some(range) = number(text, group, end).filter(|range| range.start >= done) {
            done = range.end;
            found(range);
        }
    }
}

fn number(text: &[u8], group: usize, end: usize) -> Option<Range<usize>> {
    if group >= end || end - group > MOST_DIGITS {
        return None;
    }
    let sign = match text[..group] {
        [.., b'+'] => Some(group - 1),
        // `%2B49…`: what seems an escape before the digits is the sign.
        [.., b'%', b'2', b'B' | b'b'] => Some(group - 3),
        _ => None,
    };
    if let Some(sign) = sign {
        if !starts_free(text, sign) || text[..sign].ends_with(b")") {
            return None;
        }
        return international_end(&Row::read(text, group)).filter(|&end| ends_free(text, end)).map(|end| sign..end);
    }
    let parenthesis = text[..group].ends_with(b"(") && text.get(end) == Some(&b')');
    let start = if parenthesis { group - 1 } else { group };
    // Most groups of digits are alone, or not the first of their row: told before the row is read.
    let is_parted = matches!(
        text[end..],
        [b' ' | b'-' | b'.', b'0'..=b'9' | b'(', ..] | [b'(' | b')', b'0'..=b'9' | b' ' | b'-', ..]
    );
    if !is_parted {
        return None;
    }
    let north_american = north_american_end(text, start);
    if north_american.is_none() && (text[group] != b'0' || parenthesis || is_in_row(text, start)) {
        return None;
    }
    if !is_free_before(text, start) {
        return None;
    }
    if let Some(end) = north_american {
        return Some(start..end);
    }
    let row = Row::read(text, group);
    if row.count < 2 || row.is_continued(text) {
        return None;
    }
    let end = if row.groups[0].text.starts_with(b"00") { behind_zeros(&row) } else { european_end(text, &row) }?;
    Some(start..end)
}

/// Neither in a word, nor behind a sign that parts a longer row, a decimal, a time.
fn is_free_before(text: &[u8], start: usize) -> bool {
    let before = |back: usize| start.checked_sub(back).map(|at| text[at]);
    let joins = match before(1) {
        Some(b'-') => before(2).is_some_and(|byte| byte.is_ascii_alphanumeric()),
        Some(b'.' | b':' | b',' | b'/') => before(2).is_some_and(|byte| byte.is_ascii_digit()),
        Some(b'+') => true,
        _ => false,
    };
    !joins && (starts_free(text, start) || starts_behind_escape(text, start))
}

/// Whether digits and a blank are before it: one number of several.
fn is_in_row(text: &[u8], start: usize) -> bool {
    matches!(text[..start], [.., b'0'..=b'9', b' '])
}

/// Whether a word, a longer row, a decimal or a time goes on behind a number.
fn is_continued(text: &[u8], end: usize) -> bool {
    match text[end..] {
        [b'-', next, ..] => next.is_ascii_alphanumeric(),
        [b'.' | b':' | b',' | b'/', next, ..] => next.is_ascii_digit(),
        [next, ..] => next.is_ascii_alphanumeric() || next == b'_',
        [] => false,
    }
}

fn starts_behind_escape(text: &[u8], start: usize) -> bool {
    let run = run_start(text, start.saturating_sub(4), start, |byte| byte.is_ascii_hexdigit());
    run < start && behind_escape(text, run) == start
}

#[derive(Clone, Copy, Default)]
struct Group<'t> {
    text: &'t [u8],
    end: usize,
    /// Between this group and the next one; 0 for a parenthesis.
    separator: u8,
}

/// Groups of digits parted by one space, hyphen or dot, one of them perhaps in parentheses.
struct Row<'t> {
    groups: [Group<'t>; MOST_GROUPS],
    count: usize,
    /// More groups follow than were read.
    cut: bool,
}

impl<'t> Row<'t> {
    fn read(text: &'t [u8], start: usize) -> Row<'t> {
        let mut row = Row { groups: [Group::default(); MOST_GROUPS], count: 0, cut: false };
        let mut position = start;
        let mut digits = 0;
        loop {
            let window = &text[..text.len().min(position + MOST_DIGITS + 1)];
            let end = run_end(window, position, |byte| byte.is_ascii_digit());
            digits += end - position;
            if digits > MOST_DIGITS || row.count == MOST_GROUPS {
                row.cut = true;
                return row;
            }
            let (separator, next) = match text[end..] {
                [sign @ (b' ' | b'-' | b'.'), b'0'..=b'9', ..] => (sign, end + 1),
                [b' ' | b'-', b'(', b'0'..=b'9', ..] => (0, end + 2),
                [b')', b' ' | b'-', b'0'..=b'9', ..] => (0, end + 2),
                [b'(' | b')', b'0'..=b'9', ..] => (0, end + 1),
                _ => (0, end),
            };
            row.groups[row.count] = Group { text: &text[position..end], end, separator };
            row.count += 1;
            if next == end {
                return row;
            }
            position = next;
        }
    }

    fn groups(&self) -> &[Group<'t>] {
        &self.groups[..self.count]
    }

    /// Whether it goes on behind the last group.
    fn is_continued(&self, text: &[u8]) -> bool {
        self.cut || self.groups().last().is_none_or(|last| is_continued(text, last.end))
    }

    /// The lengths of the groups, so that forms can be told by a pattern.
    fn lengths(&self) -> ([usize; MOST_GROUPS], usize) {
        let mut lengths = [0; MOST_GROUPS];
        lengths.iter_mut().zip(self.groups()).for_each(|(length, group)| *length = group.text.len());
        (lengths, self.count)
    }

    fn has_only(&self, separator: u8) -> bool {
        self.groups().split_last().is_some_and(|(_, rest)| rest.iter().all(|group| group.separator == separator))
    }
}

/// The end of a number that begins with the country code.
fn international_end(row: &Row<'_>) -> Option<usize> {
    let groups = row.groups();
    let code_length = country_code_length(groups.first()?.text)?;
    let exactly = matches!(groups[0].text[0], b'1' | b'7').then_some(11);
    let mut digits = [0; MOST_DIGITS];
    let mut count = 0;
    let mut end = None;
    for (index, group) in groups.iter().enumerate() {
        digits[count..count + group.text.len()].copy_from_slice(group.text);
        count += group.text.len();
        // `+1234567.8901` is a decimal, `+1.4155552671` the form of domain registries (RFC 5733).
        let decimal = index == 1 && groups[0].separator == b'.' && groups.len() == 2;
        let of_registry = groups[0].text.len() == code_length && matches!(group.text.len(), 9..=11);
        let fits = exactly.map_or(count >= FEWEST_DIGITS, |exactly| count == exactly);
        let in_use =
            groups[0].text[0] != b'1' || count < 5 || matches!((digits[1], digits[4]), (b'2'..=b'9', b'2'..=b'9'));
        // `+40.20361-075.00417` are coordinates.
        let parted_by = |sign: fn(u8) -> bool| groups[..index].iter().any(|group| sign(group.separator));
        let mixed = parted_by(|sign| sign == b'.') && parted_by(|sign| sign == b'-' || sign == b' ');
        if fits && in_use && !mixed && (!decimal || of_registry) {
            end = Some(group.end);
        }
        // What follows a complete number in one run is another thing.
        if index == 0 && end.is_some() && count > FEWEST_DIGITS {
            break;
        }
    }
    end
}

/// `00 49 30 123456`, `0049 30 123456`: the country code ends its group.
fn behind_zeros(row: &Row<'_>) -> Option<usize> {
    let groups = row.groups();
    if groups.len() < 3 {
        return None;
    }
    let code = if groups[0].text.len() == 2 { groups[1].text } else { &groups[0].text[2..] };
    let digits: usize = groups.iter().map(|group| group.text.len()).sum::<usize>() - 2;
    let complete = if code == b"1" || code == b"7" { digits == 11 } else { digits >= FEWEST_DIGITS };
    let is_code = country_code_length(code) == Some(code.len());
    let one_sign = row.has_only(b' ') || row.has_only(b'-');
    (complete && is_code && one_sign).then(|| groups[groups.len() - 1].end)
}

/// `(AAA) EEE-NNNN`, `AAA-EEE-NNNN`, `AAA.EEE.NNNN`, also behind `1-` or `1 `. These groups are so much a telephone number's
/// that other numbers may stand beside them, parted by blanks.
fn north_american_end(text: &[u8], start: usize) -> Option<usize> {
    let (number, long_distance) = match text[start..] {
        [b'1', b' ' | b'-', ..] => (start + 2, true),
        [b'1', b'(', ..] => (start + 1, true),
        _ => (start, false),
    };
    let (exchange, is_parted): (usize, fn(u8, bool) -> bool) = match text[number..] {
        [b'(', a, b, c, b')', ref rest @ ..] if is_area(&[a, b, c]) => {
            let gap = usize::from(matches!(rest.first(), Some(b' ' | b'-')));
            (number + 5 + gap, |sign, _| matches!(sign, b'-' | b' ' | b'.'))
        }
        [a, b, c, b'-', ..] if is_area(&[a, b, c]) => (number + 4, |sign, _| sign == b'-'),
        [a, b, c, b'.', ..] if is_area(&[a, b, c]) => (number + 4, |sign, _| sign == b'.'),
        [a, b, c, b' ', ..] if is_area(&[a, b, c]) => (number + 4, |sign, long_distance| long_distance && sign == b'-'),
        _ => return None,
    };
    let &[a, b, c, sign, ref line @ ..] = text.get(exchange..exchange + 8)? else { return None };
    let fits = is_area(&[a, b, c]) && is_parted(sign, long_distance) && line.iter().all(u8::is_ascii_digit);
    let end = exchange + 8;
    (fits && !is_continued(text, end)).then_some(end)
}

/// Areas and exchanges have three digits and begin with 2 to 9.
fn is_area(digits: &[u8; 3]) -> bool {
    matches!(digits, [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9'])
}

/// Of the United Kingdom, Germany, France and Italy: `020 7946 0958`, `030 1234567`, `06 12 34 56 78`, `06 1234 5678`.
fn european_end(text: &[u8], row: &Row<'_>) -> Option<usize> {
    let groups = row.groups();
    let digits: usize = groups.iter().map(|group| group.text.len()).sum();
    let (lengths, count) = row.lengths();
    let fits = match lengths[..count] {
        [3..=6, 6..=8] => matches!(digits, 9..=12),
        [2, 2, 2, 2, 2] => true,
        [2, ref rest @ ..] => {
            rest.len() >= 2 && rest.iter().all(|length| matches!(length, 3..=4)) && matches!(digits, 9..=11)
        }
        [3..=6, ref rest @ ..] => {
            rest.len() >= 2 && rest.iter().all(|length| matches!(length, 2..=4)) && matches!(digits, 10..=12)
        }
        _ => false,
    };
    let last = groups[count - 1].end;
    let row_of_numbers = matches!(text[last..], [b' ', b'0'..=b'9', ..]);
    (fits && !row_of_numbers && (row.has_only(b' ') || row.has_only(b'-'))).then_some(last)
}

/// How many of the first digits are a country code in use: ITU-T E.164, list of assigned codes.
fn country_code_length(digits: &[u8]) -> Option<usize> {
    let digit = |at: usize| digits.get(at).map(|byte| byte - b'0');
    let two = || Some(digit(0)? * 10 + digit(1)?);
    match digit(0)? {
        1 | 7 => return Some(1),
        0 => return None,
        _ => {}
    }
    let length = match two()? {
        20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98 => 2,
        _ => 3,
    };
    if length == 2 {
        return Some(2);
    }
    let three = u16::from(two()?) * 10 + u16::from(digit(2)?);
    let assigned = matches!(
        three,
        211..=213 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=383 | 385..=387 | 389
            | 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=683 | 685..=692 | 800 | 808 | 850 | 852 | 853 | 855
            | 856 | 870 | 878 | 880..=883 | 886 | 888 | 960..=968 | 970..=977 | 979 | 992..=996 | 998
    );
    assigned.then_some(3)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn international_numbers_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("+14155552671", "#"),
                ("+1 (415) 555-2671", "#"),
                ("+1 415-555-2671, x", "#, x"),
                ("+1.415.555.2671", "#"),
                ("+1.4155552671", "#"),
                ("tel:+4930123456", "tel:#"),
                ("+44 (0)20 7946 0958", "#"),
                ("+49 30 1234567.", "#."),
                ("+33 6 12 34 56 78", "#"),
                ("phone=%2B4915112345678&x", "phone=#&x"),
                ("phone%3D+4915112345678", "phone%3D#"),
                (r"a\n+4915112345678", r"a\n#"),
                ("+4915112345678 200 ok", "# 200 ok"),
                ("00 49 30 123456", "#"),
                ("0044-20-7946-0958", "#"),
                ("+4915112345678,+4915112345679", "#,#"),
            ],
        );
    }

    #[test]
    fn national_numbers_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("(415) 555-2671", "#"),
                ("(415)555-2671", "#"),
                ("415-555-2671", "#"),
                ("415.555.2671", "#"),
                ("call 1-415-555-2671.", "call #."),
                ("1 415-555-2671", "#"),
                ("1 (415) 555-2671", "#"),
                ("1 415 555-2671", "#"),
                ("user 415-555-2671 200 5ms", "user # 200 5ms"),
                ("retry 3 415-555-2671", "retry 3 #"),
                ("x+1 (415) 555-2671", "x+1 #"),
                ("06 12 34 56 78", "#"),
                ("020 7946 0958", "#"),
                ("0161-496-0000", "#"),
                ("030 1234567", "#"),
                ("see (030 1234567)", "see (#)"),
                ("see (1-415-555-2671)", "see (#)"),
                ("07700 900123", "#"),
                ("tel%3D415-555-2671", "tel%3D#"),
                ("tel=%20415-555-2671", "tel=%20#"),
            ],
        );
    }

    #[test]
    fn other_digits_stay() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "+",
                "4155552671",
                "+12345678",
                "+0123456789",
                "+1234567.8901",
                "1e+12345678",
                "a+14155552671",
                "5+14155552671",
                "f(x)+14155552671",
                "+02:00",
                "2024-01-01T10:00:00+0200",
                "2024-01-15 10:00:00",
                "01-15-2024 10:00",
                "05 01 2024 10",
                "1700000000000",
                "+1234567890123456",
                "415-555-267",
                "115-555-2671",
                "415-155-2671",
                "1.415.555.2671",
                "1 415 555 2671",
                "415 555-2671",
                "2024 06 12 34 56 78",
                "415-555-2671-99",
                "550e8400-415-555-2671",
                "web-415-555-2671",
                "415-555-2671-web",
                "123-45-6789",
                "0049123456",
                "0000 1234 5678",
                "0012 3456 7890",
                "012345 678",
                "10.0.0.1",
                "4111 1111 1111 1111",
                "+40.20361-075.00417/",
                "+14155552671x",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &["1", "+", "+1", "1 ", "1-", "(1", "(1)", "+49 ", "415-555-2671-", "06 12 34 56 78 ", "%2B49", "%20"],
        );
    }

    proptest! {
        #[test]
        fn any_number_is_found_wherever_it_stands_free(
            number in prop_oneof![
                "\\+1[2-9][0-9]{2}[2-9][0-9]{6}",
                "\\+49 [1-9][0-9]{2} [0-9]{6,8}",
                "\\([2-9][0-9]{2}\\) [2-9][0-9]{2}-[0-9]{4}",
                "[2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4}",
                "0[1-9]( [0-9]{2}){4}",
                "0[1-9]0 [0-9]{7}",
            ],
            (before, after) in ("([a-z ]*[=(,] ?)?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{number}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
