//! Passport numbers, of the countries that a policy names. Their forms are those of many other numbers, so one is found
//! only shortly behind the word “passport” in one of five languages.
//!
//! Forms: PRADO (the Council of the EU's register of documents) and ICAO Doc 9303, part 4.

use super::borders::{behind_escape, ends_free, is_word, run_end, starts_free, starts_with_ignoring_case};
use super::{Form, Needs, Report};

pub(in crate::mask) const REPLACEMENT: &[u8] = b"[passport]";
pub(in crate::mask) const FORM: Form = Form::Code;

const WORDS: [&str; 5] = ["passport", "passeport", "reisepass", "pasaporte", "passaporto"];
/// How far behind the word a number may begin.
const REACH: usize = 30;
const SHORTEST: usize = 8;

/// A country and the forms of its numbers: `9` is a digit, `A` a letter, `G` one of Germany's, which leaves out
/// vowels and what looks like a digit, `C` one of those that begin a German number, `L` a letter but O, `N` a letter or digit but O.
const COUNTRIES: [(&str, &[&str]); 9] = [
    ("DE", &["CGGGGGGGG", "CGGGGGGGG9"]),
    ("ES", &["AAA999999"]),
    ("FR", &["99AA99999"]),
    ("GB", &["999999999"]),
    ("IN", &["A9999999"]),
    ("IT", &["AA9999999"]),
    ("JP", &["AA9999999"]),
    ("NL", &["LLNNNNNN9"]),
    ("US", &["999999999", "A99999999"]),
];

/// The forms of the countries of a policy.
#[derive(Debug)]
pub(in crate::mask) struct Passports {
    forms: Vec<&'static str>,
}

impl Passports {
    /// Compiles; countries are ISO 3166 codes of two letters. The error lists the known ones.
    pub(in crate::mask) fn compile(countries: &[String]) -> Result<Passports, String> {
        let mut forms = Vec::new();
        for country in countries {
            let Some((_, of_country)) = COUNTRIES.iter().find(|(code, _)| code.eq_ignore_ascii_case(country)) else {
                let known = COUNTRIES.map(|(code, _)| code).join(", ");
                return Err(format!("passport: the numbers of {country:?} are not known; known countries are {known}"));
            };
            forms.extend_from_slice(of_country);
        }
        Ok(Passports { forms })
    }

    pub(in crate::mask) fn needs(&self) -> Needs {
        Needs { all_of: 0, any_of: 0, digits: 1, length: "passport".len() + 1 + SHORTEST, literals: &WORDS }
    }

    /// From each word to the right, as far as a number may begin.
    pub(in crate::mask) fn find(&self, text: &[u8], found: Report<'_>) {
        let mut position = 0;
        let mut word_from = 0;
        while let Some(offset) = text[word_from..].iter().position(|byte| b"pPrR".contains(byte)) {
            let start = word_from + offset;
            word_from = start + 1;
            let Some(word) = WORDS.iter().find(|word| starts_with_ignoring_case(&text[start..], word.as_bytes()))
            else {
                continue;
            };
            let from = start + word.len();
            position = position.max(from);
            while position < text.len().min(from + REACH) {
                let end = run_end(&text[..text.len().min(position + REACH)], position, is_word);
                let number = behind_escape(text, position).min(end);
                if starts_free(text, number) && ends_free(text, end) && self.is_number(&text[number..end]) {
                    found(number..end);
                }
                position = end.max(position) + 1;
            }
        }
    }

    fn is_number(&self, run: &[u8]) -> bool {
        self.forms.iter().any(|form| {
            form.len() == run.len()
                && form.bytes().zip(run).all(|(class, byte)| fits(class, byte.to_ascii_uppercase()))
                && run.iter().any(u8::is_ascii_digit)
        })
    }
}

fn fits(class: u8, byte: u8) -> bool {
    match class {
        b'9' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_uppercase(),
        b'C' => b"CFGHJK".contains(&byte),
        b'G' => b"CFGHJKLMNPRTVWXYZ0123456789".contains(&byte),
        b'L' => byte.is_ascii_uppercase() && byte != b'O',
        _ => byte.is_ascii_alphanumeric() && byte != b'O',
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_finds_linearly, masked, may_match};
    use super::*;

    fn passports(countries: &[&str]) -> Passports {
        Passports::compile(&countries.iter().map(|code| code.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn mask(countries: &[&str], text: &str) -> String {
        let passports = passports(countries);
        String::from_utf8(masked(text.as_bytes(), &|text, found| passports.find(text, found))).unwrap()
    }

    #[test]
    fn numbers_are_found_behind_the_word() {
        for (country, text, expected) in [
            ("US", "passport: 123456789", "passport: #"),
            ("US", "Passport No. A12345678, x", "Passport No. #, x"),
            ("GB", "passport_number=925665416", "passport_number=#"),
            ("DE", "Reisepass C01X00T47", "Reisepass #"),
            ("DE", "Reisepass C01X00T478", "Reisepass #"),
            ("FR", "passeport 12AB34567", "passeport #"),
            ("ES", "pasaporte AAA123456", "pasaporte #"),
            ("IT", "passaporto YA1234567", "passaporto #"),
            ("NL", r#"{"passport":"SPECI2014"}"#, r##"{"passport":"#"}"##),
            ("JP", "passport TK1234567", "passport #"),
            ("IN", "passport%3DJ8369854", "passport%3D#"),
            ("us", "passport 123456789 passport 123456780", "passport # passport #"),
        ] {
            assert_eq!(mask(&[country], text), expected, "{text}");
            assert!(may_match(&passports(&[country]).needs(), text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_of_the_countries_stays() {
        for (country, text) in [
            ("US", "123456789"),
            ("US", "passport 12345678"),
            ("US", "passport 1234567890"),
            ("FR", "passport 123456789"),
            ("US", "passport                                  123456789"),
            ("DE", "Reisepass CFGHJKLMN"),
            ("US", ""),
        ] {
            assert_eq!(mask(&[country], text), text);
        }
    }

    #[test]
    fn an_unknown_country_is_an_error_that_lists_the_known_ones() {
        let error = Passports::compile(&["XX".to_string()]).unwrap_err();
        assert!(error.contains("\"XX\"") && error.contains("DE, ES, FR, GB, IN, IT, JP, NL, US"), "{error}");
    }

    #[test]
    fn it_is_linear() {
        let passports = passports(&["US", "DE", "NL"]);
        assert_finds_linearly(
            &|text, found| passports.find(text, found),
            &["p", "r", "passport", "passport 1", "reisepass", "1"],
        );
    }
}
