//! Card numbers: 13 to 19 digits of an issuer that pass the Luhn check (ISO/IEC 7812-1), in one run or in groups parted
//! by single spaces or hyphens.
//!
//! To be told from other numbers, a card number must stand free (no letter or digit beside it) and not be the fraction
//! of a decimal; its groups have at least three digits, the first four, unless equal groups make up all there is. Where
//! several readings of a row of groups are valid they are all covered.

use super::{Entry, Find, Form, Needs, Report, Run};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "credit_card",
    needs: Needs { all_of: 0, any_of: 0, digits: MIN_DIGITS, length: MIN_DIGITS, literals: &[] },
    find: Find::AtDigits(find),
    is_match_number: Some(is_card_number),
    replacement: b"[credit_card]",
    form: Form::Digits,
};

const MIN_DIGITS: usize = 13;
const MAX_DIGITS: usize = 19;

/// From each group of digits looks at 19 digits at most: linear.
fn find(text: &[u8], runs: &[Run], found: Report<'_>) {
    let mut last: Option<Range<usize>> = None;
    for &[group, run_end] in runs {
        let run = run_end - group;
        if run < MIN_DIGITS && !row_goes_on(text, run_end) {
            continue;
        }
        let Some((start, end)) = free_start(text, group, run).and_then(|start| Some((start, card_end(text, start)?)))
        else {
            continue;
        };
        match &mut last {
            Some(last) if start < last.end => last.end = last.end.max(end),
            _ => {
                if let Some(complete) = last.replace(start..end) {
                    found(complete);
                }
            }
        }
    }
    if let Some(complete) = last {
        found(complete);
    }
}

/// Where in the run of digits at `group` a card number may start.
fn free_start(text: &[u8], group: usize, run: usize) -> Option<usize> {
    let before = |back: usize| group.checked_sub(back).map(|at| text[at]);
    match before(1) {
        // `%20411…`: two digits belong to the escape.
        Some(b'%') => return (run > 2).then_some(group + 2),
        // `0.4111…` is a fraction.
        Some(b'.') if run >= MIN_DIGITS && before(2).is_some_and(|byte| byte.is_ascii_digit()) => return None,
        Some(letter) if letter.is_ascii_alphabetic() => {
            // `\n` in JSON, `%3D` in a URL: the letter belongs to the escape.
            let json_escape = before(2) == Some(b'\\') && b"nrtbf".contains(&letter);
            let url_escape = before(3) == Some(b'%')
                && letter.is_ascii_hexdigit()
                && before(2).is_some_and(|byte| byte.is_ascii_hexdigit());
            if !json_escape && !url_escape {
                return None;
            }
        }
        _ => {}
    }
    Some(group)
}

/// The end of the longest card number that starts here.
fn card_end(text: &[u8], start: usize) -> Option<usize> {
    let starts_row = !(start >= 2 && is_separator(text[start - 1]) && text[start - 2].is_ascii_digit());
    if !is_of_issuer(text, start) {
        return None;
    }
    let mut luhn = Luhn::default();
    let mut groups = Groups::default();
    let mut longest = None;
    let mut position = start;
    loop {
        let group = position;
        for &byte in &text[group..] {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            if luhn.digits == MAX_DIGITS {
                return longest;
            }
            luhn.push(digit);
            position += 1;
        }
        groups.push(position - group);
        let goes_on = row_goes_on(text, position);
        let free = !text.get(position).is_some_and(u8::is_ascii_alphanumeric);
        if free && luhn.is_card() && (groups.usual() || starts_row && !goes_on && groups.equal()) {
            longest = Some(position);
        }
        // Groups that neither reading allows need not be followed.
        if !goes_on || !(groups.usual() || starts_row && groups.equal()) {
            return longest;
        }
        position += 1;
    }
}

/// Whether the group that ends here is parted from another one.
#[inline]
fn row_goes_on(text: &[u8], end: usize) -> bool {
    matches!(text.get(end..end + 2), Some(&[separator, digit]) if is_separator(separator) && digit.is_ascii_digit())
}

fn is_separator(byte: u8) -> bool {
    byte == b' ' || byte == b'-'
}

/// Whether the first two digits, perhaps of two groups, are an issuer's.
fn is_of_issuer(text: &[u8], start: usize) -> bool {
    match text[start..] {
        [first, second @ b'0'..=b'9', ..] => is_issuer(first, second),
        [first, separator, second @ b'0'..=b'9', ..] if is_separator(separator) => is_issuer(first, second),
        _ => false,
    }
}

/// By the first two digits: Mir and Mastercard 22–27; Diners, JCB, American Express 30, 34–39; Visa 4; Mastercard and
/// Maestro 5; Discover, UnionPay, RuPay, Maestro 6. That keeps compact dates (`20240115…`) out.
fn is_issuer(first: u8, second: u8) -> bool {
    match first {
        b'2' => matches!(second, b'2'..=b'7'),
        b'3' => matches!(second, b'0' | b'4'..=b'9'),
        b'4'..=b'6' => true,
        _ => false,
    }
}

fn is_card_number(number: u64) -> bool {
    if number < 10u64.pow(MIN_DIGITS as u32 - 1) || number >= 10u64.pow(MAX_DIGITS as u32) {
        return false;
    }
    let mut digits = [0u8; MAX_DIGITS];
    let mut rest = number;
    let mut first = MAX_DIGITS;
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    card_end(&digits[first..], 0).is_some()
}

/// The Luhn sum, digit by digit from the left: which digits are doubled depends on how many follow.
#[derive(Default)]
struct Luhn {
    digits: usize,
    /// If the digits so far are all: the last one is not doubled.
    complete: u32,
    /// If one more follows.
    goes_on: u32,
}

impl Luhn {
    #[inline]
    fn push(&mut self, digit: u8) {
        /// The digits of twice as much, added up.
        const DOUBLED: [u32; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
        let doubled = DOUBLED[usize::from(digit)];
        (self.complete, self.goes_on) = (self.goes_on + u32::from(digit), self.complete + doubled);
        self.digits += 1;
    }

    fn is_card(&self) -> bool {
        self.digits >= MIN_DIGITS && self.complete.is_multiple_of(10)
    }
}

/// The lengths of the groups so far.
#[derive(Default)]
struct Groups {
    count: usize,
    first: usize,
    last: usize,
    short: bool,
    uneven: bool,
}

impl Groups {
    fn push(&mut self, length: usize) {
        if self.count == 0 {
            self.first = length;
            self.short = length < 4;
        } else {
            // Only the last group may be shorter than the first.
            self.uneven |= self.last != self.first || length > self.first;
            self.short |= length < 3;
        }
        self.last = length;
        self.count += 1;
    }

    /// As on a card: four or more digits first, three or more in the others.
    fn usual(&self) -> bool {
        !self.short
    }

    /// Equal groups, the last one at most as long.
    fn equal(&self) -> bool {
        !self.uneven
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::mask;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn card_numbers_are_found() {
        for (text, expected) in [
            ("4111111111111111", "#"),
            ("card=5555555555554444;", "card=#;"),
            ("4111 1111 1111 1111", "#"),
            ("4111-1111-1111-1111", "#"),
            ("4111 1111-1111 1111", "#"),
            ("378282246310005", "#"),
            ("3782 822463 10005", "#"),
            ("30569309025904", "#"),
            ("6011111111111117", "#"),
            ("3530111333300000", "#"),
            ("2223003122003222", "#"),
            ("4222222222222", "#"),
            ("6304000000000000", "#"),
            ("4000 0000 0000 0000 006", "#"),
            ("1 4111 1111 1111 1111 22", "1 # 22"),
            ("2024 4111 1111 1111 1111 999999", "2024 # 999999"),
            ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "#"),
            ("41-11-11-11-11-11-11-11", "#"),
            ("{\"n\":4111111111111111}", "{\"n\":#}"),
            ("No.4111111111111111.", "No.#."),
            ("卡4111111111111111号", "卡#号"),
            ("_4111111111111111_", "_#_"),
            (r"line\n4111111111111111", r"line\n#"),
            ("/p?c%3D4111111111111111", "/p?c%3D#"),
            ("/p?c=%204111111111111111", "/p?c=%20#"),
            ("4111111111111111 5555555555554444", "# #"),
            ("4111111111111111,5555555555554444", "#,#"),
        ] {
            assert_eq!(mask(&ENTRY, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_card_number_stays() {
        for text in [
            "4111111111111112",
            "411111111111",
            "41111111111111111111",
            "14111111111111111",
            "1111111111111117",
            "a4111111111111111",
            "4111111111111111a",
            "0.4111111111111111",
            "4111  1111  1111  1111",
            "4111.1111.1111.1111",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "a4111111111111111f",
            "1700000000000000000",
            "20240115100007",
            "2024-01-15-10-00-07",
            "12 45 67 23 89 10 34 55 78 90 12 44",
            "+49 30 1234567",
            "",
        ] {
            assert_eq!(mask(&ENTRY, text), text);
        }
    }

    #[test]
    fn numbers_are_checked_by_their_digits() {
        assert!(is_card_number(4_111_111_111_111_111));
        assert!(is_card_number(4_222_222_222_222));
        assert!(!is_card_number(4_111_111_111_111_112));
        assert!(!is_card_number(0));
        assert!(!is_card_number(u64::MAX));
        assert!(!is_card_number(1_700_000_000_000_000_000));
    }

    fn with_check_digit(mut digits: Vec<u8>) -> Vec<u8> {
        let sum: u32 = digits
            .iter()
            .rev()
            .enumerate()
            .map(|(index, &digit)| match u32::from(digit) {
                digit if index % 2 == 1 => digit,
                digit => digit * 2 / 10 + digit * 2 % 10,
            })
            .sum();
        digits.push(((10 - sum % 10) % 10) as u8);
        digits
    }

    proptest! {
        #[test]
        fn any_number_of_an_issuer_is_found_wherever_it_stands_free(
            prefix in prop_oneof![Just(22u8), Just(27), Just(34), Just(37), Just(39), 40u8..70],
            rest in proptest::collection::vec(0u8..10, 10..17),
            separator in prop_oneof![Just(""), Just(" "), Just("-")],
            (before, after) in ("[a-z(=]* ?[(=:]", "[,;)] ?[a-z]*"),
        ) {
            let digits = with_check_digit([&[prefix / 10, prefix % 10][..], &rest].concat());
            let text = digits.iter().map(|digit| char::from(b'0' + digit)).collect::<String>();
            let last = text.len() - 3;
            let card = [&text[..4], &text[4..8], &text[8..last], &text[last..]]
                .into_iter().filter(|group| group.len() >= 3).collect::<Vec<_>>();
            prop_assume!(separator.is_empty() || card.concat() == text);
            let card = if separator.is_empty() { text } else { card.join(separator) };
            prop_assert_eq!(mask(&ENTRY, &format!("{before}{card}{after}")), format!("{before}#{after}"));
        }
    }
}
