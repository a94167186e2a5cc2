//! International bank account numbers (ISO 13616): country, two check digits, and as many characters as the country has;
//! the check of ISO 7064 (mod 97 is 1). In one run, upper or lower case, or in upper-case groups of four parted by spaces.

use super::borders::{ends_free, starts_free};
use super::{class, Entry, Find, Form, Needs, Report, Run};

pub(super) const ENTRY: Entry = Entry {
    name: "iban",
    needs: Needs { all_of: 0, any_of: class::UPPER | class::LOWER, digits: FEWEST_DIGITS, length: 15, literals: &[] },
    find: Find::AtDigits(find),
    is_match_number: None,
    replacement: b"[iban]",
    form: Form::Code,
};

/// Check digits and the five of Malta's branch; other countries have more, but for a few whose account numbers might be all
/// letters by the registry, and are not.
const FEWEST_DIGITS: usize = 7;
const LONGEST: usize = 33;

/// Countries and the length of their numbers: SWIFT's IBAN registry (release 99).
#[rustfmt::skip]
const COUNTRIES: [(&[u8; 2], u8); 89] = [
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BG", 22),
    (b"BH", 22), (b"BI", 27), (b"BR", 29), (b"BY", 28), (b"CH", 21), (b"CR", 22), (b"CY", 28), (b"CZ", 24),
    (b"DE", 22), (b"DJ", 27), (b"DK", 18), (b"DO", 28), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18),
    (b"FK", 18), (b"FO", 18), (b"FR", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GR", 27),
    (b"GT", 28), (b"HN", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IS", 26),
    (b"IT", 27), (b"JO", 30), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20),
    (b"LU", 20), (b"LV", 21), (b"LY", 25), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MK", 19), (b"MN", 20),
    (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"NI", 28), (b"NL", 18), (b"NO", 15), (b"OM", 23), (b"PK", 24),
    (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33), (b"SA", 24),
    (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SO", 23), (b"ST", 25),
    (b"SV", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22), (b"VG", 24), (b"XK", 20),
    (b"YE", 30),
];

/// From each pair of check digits to both sides, no further than the longest number: linear.
fn find(text: &[u8], runs: &[Run], found: Report<'_>) {
    let mut position = 0;
    for &[check_digits, _] in runs {
        // A run of digits has its country in front of it, if anywhere.
        let Some(start) = check_digits.checked_sub(2).filter(|&start| start >= position) else { continue };
        if !text[start].is_ascii_alphabetic() {
            continue;
        }
        if let Some(end) = iban_end(text, start) {
            found(start..end);
            position = end;
        }
    }
}

fn iban_end(text: &[u8], start: usize) -> Option<usize> {
    let &[first, second, check, digit] = text.get(start..start + 4)? else { return None };
    let begins = first.is_ascii_alphabetic() && check.is_ascii_digit() && digit.is_ascii_digit();
    if !begins || !starts_free(text, start) {
        return None;
    }
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let length = COUNTRIES.iter().find(|(code, _)| **code == country)?.1;
    let upper = first.is_ascii_uppercase();
    let grouped = text.get(start + 4) == Some(&b' ');
    if grouped && !upper {
        return None;
    }
    let mut number = [0; LONGEST];
    let number = &mut number[..usize::from(length)];
    let mut position = start;
    for (index, place) in number.iter_mut().enumerate() {
        if grouped && index > 0 && index % 4 == 0 {
            text.get(position).filter(|&&byte| byte == b' ')?;
            position += 1;
        }
        let &byte = text.get(position)?;
        let of_number = byte.is_ascii_digit() || byte.is_ascii_alphabetic() && byte.is_ascii_uppercase() == upper;
        *place = of_number.then_some(byte)?;
        position += 1;
    }
    let digits = number.iter().filter(|byte| byte.is_ascii_digit()).count();
    (ends_free(text, position) && digits >= FEWEST_DIGITS && remainder(number) == 1).then_some(position)
}

/// With the first four characters moved to the end and letters counted from ten.
fn remainder(number: &[u8]) -> u32 {
    number[4..].iter().chain(&number[..4]).fold(0, |rest, &byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    })
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
                ("DE89370400440532013000", "#"),
                ("de89370400440532013000", "#"),
                ("DE89 3704 0044 0532 0130 00", "#"),
                ("GB29NWBK60161331926819", "#"),
                ("GB29 NWBK 6016 1331 9268 19.", "#."),
                ("FR1420041010050500013M02606", "#"),
                ("NO9386011117947", "#"),
                ("MT84MALT011000012345MTLCAST001S", "#"),
                ("BE68 5390 0754 7034, CH9300762011623852957", "#, #"),
                ("iban=NL91ABNA0417164300&x", "iban=#&x"),
                ("iban%3DNL91ABNA0417164300", "iban%3D#"),
                (r"a\nNL91ABNA0417164300", r"a\n#"),
                ("DE89 3704 0044 0532 0130 00 EUR", "# EUR"),
            ],
        );
    }

    #[test]
    fn what_is_no_number_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "DE",
                "DE88370400440532013000",
                "DE8937040044053201300",
                "DE893704004405320130001",
                "XX89370400440532013000",
                "xDE89370400440532013000",
                "DE89 37040044 0532 0130 00",
                "DE89  3704 0044 0532 0130 00",
                "de89 3704 0044 0532 0130 00",
                "De89370400440532013000",
                "GB29nwbk60161331926819",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["1", "DE", "DE89", "DE89 ", "DE893704004405320130", "DE89370400440532013000 "]);
    }

    proptest! {
        #[test]
        fn any_number_is_found_wherever_it_stands_free(
            country in 0..COUNTRIES.len(),
            body in "[0-9]{6}[0-9A-Z]{27}",
            (grouped, lower) in any::<(bool, bool)>(),
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let (code, length) = COUNTRIES[country];
            let mut number = format!("{}00{}", std::str::from_utf8(code).unwrap(), &body[..usize::from(length) - 4]);
            let check = format!("{:02}", 98 - remainder(number.as_bytes()));
            number.replace_range(2..4, &check);
            if grouped {
                number = number.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap()).collect::<Vec<_>>().join(" ");
            } else if lower {
                number = number.to_lowercase();
            }
            let text = format!("{before}{number}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
