//! Detectors: what a secret looks like. Each is one file, one line in the [`REGISTRY`], and one in
//! `gateway/config/masking.py`, so that it can be configured. What each finds is written in docs/masking.md.

mod authorization;
mod aws_key;
mod azure_key;
mod borders;
mod census;
mod credit_card;
mod digits;
mod email;
#[cfg(test)]
mod false_positives;
mod gcp_key;
mod github_token;
mod iban;
mod ipv4;
mod ipv6;
mod jwt;
mod mac;
mod passport;
mod phone;
mod private_key;
mod secret_token;
mod slack_token;
mod stripe_key;
#[cfg(test)]
mod testing;
mod url_password;
mod us_ssn;
mod uuid;
mod words;

pub(super) use self::census::{class, Census};
pub(super) use self::digits::{DigitRuns, Run};
pub(super) use self::passport::{Passports, FORM as PASSPORT_FORM, REPLACEMENT as PASSPORT_REPLACEMENT};
use std::ops::Range;

/// Takes the matches: in ascending order, without overlap.
pub(super) type Report<'r> = &'r mut dyn FnMut(Range<usize>);

/// What a detector is made of.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) needs: Needs,
    pub(super) find: Find,
    /// Whether the digits of a number are a match.
    pub(super) is_match_number: Option<fn(u64) -> bool>,
    pub(super) replacement: &'static [u8],
    pub(super) form: Form,
}

/// The function that reports every match in a text; linear. A text need not be UTF-8.
#[derive(Debug, Clone, Copy)]
pub(super) enum Find {
    Anywhere(fn(&[u8], Report<'_>)),
    /// Matches are found from a run of digits; all of the text's are given.
    AtDigits(fn(&[u8], &[Run], Report<'_>)),
}

/// What a text must hold for a match to be possible. The census tells it for all detectors at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Bits of [`class`].
    pub(super) all_of: u16,
    /// 0 asks for none.
    pub(super) any_of: u16,
    /// At least so many digits.
    pub(super) digits: usize,
    /// At least so many bytes.
    pub(super) length: usize,
    /// One of these, compared without (ASCII) case; an empty list asks for none.
    pub(super) literals: &'static [&'static str],
}

/// What a value is: how it is brought into one form before it is pseudonymised, so that the same thing written differently
/// has one pseudonym, and what of it may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Text,
    Email,
    /// Only the digits count: cards, phones.
    Digits,
    /// Letters and digits, in upper case: IBANs, passports, MACs, UUIDs.
    Code,
    /// Of the internet, version 4 or 6.
    Address,
}

static REGISTRY: [Entry; 20] = [
    email::ENTRY,
    credit_card::ENTRY,
    iban::ENTRY,
    us_ssn::ENTRY,
    phone::ENTRY,
    ipv4::ENTRY,
    ipv6::ENTRY,
    mac::ENTRY,
    jwt::ENTRY,
    authorization::ENTRY,
    private_key::ENTRY,
    aws_key::ENTRY,
    gcp_key::ENTRY,
    azure_key::ENTRY,
    github_token::ENTRY,
    slack_token::ENTRY,
    stripe_key::ENTRY,
    url_password::ENTRY,
    secret_token::ENTRY,
    uuid::ENTRY,
];

/// The entry of a detector.
pub(super) fn entry(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|entry| entry.name)
}

/// Whether a text is what stands in the place of a detector's match.
pub(super) fn is_replacement(text: &[u8]) -> bool {
    text == PASSPORT_REPLACEMENT || REGISTRY.iter().any(|entry| entry.replacement == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_replacement_is_a_word_in_brackets() {
        for entry in &REGISTRY {
            assert_eq!(self::entry(entry.name).map(|found| found.name), Some(entry.name));
            assert_eq!(REGISTRY.iter().filter(|other| other.name == entry.name).count(), 1, "{}", entry.name);
            let word = entry.replacement.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap();
            assert!(word.iter().all(|&byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
    }
}
