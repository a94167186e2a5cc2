//! Texts that are written in an encoding: what stands in them once it is taken off, and where each byte of that came from.
//!
//! Detectors look at the text as it is and at what is decoded of it. Percent-encoding (RFC 3986), the `+` of forms, and JSON's
//! `\u0040` (RFC 8259) are taken off a whole text; base64 (RFC 4648) is one token, of which no part could be replaced.

use memchr::{memchr, memchr_iter, memmem};
use std::ops::Range;

use super::inside::escaped_byte;

/// A decoded text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Where each byte, and the end, came from.
    places: Vec<usize>,
}

impl Decoded {
    /// The part of the source that a part of the decoded text came from.
    pub(super) fn source_of(&self, range: &Range<usize>) -> Range<usize> {
        self.places[range.start]..self.places[range.end]
    }

    /// As if it had been decoded from what `outer` was decoded from.
    pub(super) fn within(mut self, outer: &Decoded) -> Decoded {
        self.places.iter_mut().for_each(|place| *place = outer.places[*place]);
        self
    }
}

/// Takes escapes off a text, once; `None` if there are none.
pub(super) fn decode(text: &[u8]) -> Option<Decoded> {
    // In a form, a plus is a blank.
    let is_form = memchr(b'=', text).is_some() && memchr(b'+', text).is_some();
    let has_percent = memchr_iter(b'%', text).any(|at| escaped_byte(text, at).is_some());
    if !is_form && !has_percent && memmem::find(text, b"\\u").is_none() {
        return None;
    }
    let mut decoded = Decoded { bytes: Vec::with_capacity(text.len()), places: Vec::with_capacity(text.len() + 1) };
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (length, char) = match byte {
            b'%' => match escaped_byte(text, at) {
                Some(byte) => {
                    decoded.places.push(at);
                    decoded.bytes.push(byte);
                    at += 3;
                    continue;
                }
                None => (1, None),
            },
            b'\\' => unicode_escape(&text[at..]),
            _ => (1, None),
        };
        let mut utf8 = [0; 4];
        let bytes = match char {
            Some(char) => char.encode_utf8(&mut utf8).as_bytes(),
            None => &text[at..at + length],
        };
        for (index, &byte) in bytes.iter().enumerate() {
            decoded.places.push(if char.is_some() { at } else { at + index });
            decoded.bytes.push(if byte == b'+' && is_form { b' ' } else { byte });
        }
        at += length;
    }
    decoded.places.push(text.len());
    Some(decoded)
}

/// The character that backslashes, `u` and four digits stand for, and how long that is; else one backslash, or all of a run
/// of them.
fn unicode_escape(text: &[u8]) -> (usize, Option<char>) {
    let backslashes = text.iter().take_while(|&&byte| byte == b'\\').count();
    let digits = text.get(backslashes + 1..backslashes + 5).filter(|_| text[backslashes] == b'u');
    // A number may have a sign, an escape has none.
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let code = digits.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    // Half of a surrogate pair is no character; what is made of the pair is no part of a match.
    code.map_or((backslashes, None), |code| (backslashes + 5, Some(char::from_u32(code).unwrap_or('\u{fffd}'))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str) -> Option<String> {
        decode(text.as_bytes()).map(|decoded| String::from_utf8_lossy(&decoded.bytes).into_owned())
    }

    #[test]
    fn escapes_are_taken_off_once() {
        for (text, expected) in [
            ("a%40b", Some("a@b")),
            ("a%2540b", Some("a%40b")),
            ("a=b+c", Some("a=b c")),
            ("a+b", None),
            ("100%", None),
            (r"jane\u0040x", Some("jane@x")),
            (r"jane\\u0040x\n", Some(r"jane@x\n")),
            (r"f\u00fcr", Some("für")),
            (r"\ud83d\ude00", Some("\u{fffd}\u{fffd}")),
            (r"\u12", Some(r"\u12")),
            (r"\u+123", Some(r"\u+123")),
            (r"a\nb", None),
            ("%f", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_part_leads_back_to_where_it_came_from() {
        let text = r"x %41b\u0040c y";
        let decoded = decode(text.as_bytes()).unwrap();
        let found = memmem::find(&decoded.bytes, b"Ab@c").unwrap();
        assert_eq!(&text[decoded.source_of(&(found..found + 4))], r"%41b\u0040c");
        let twice = decode(b"a%2540b").unwrap();
        let inner = decode(&twice.bytes).unwrap().within(&twice);
        assert_eq!(inner.source_of(&(1..2)), 1..6);
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_leads_back_in_order(text in proptest::collection::vec(prop_oneof![Just(b'%'), Just(b'\\'), Just(b'u'), Just(b'+'), Just(b'='), b'0'..=b'9', any::<u8>()], 0..80)) {
            if let Some(decoded) = decode(&text) {
                prop_assert_eq!(decoded.places.len(), decoded.bytes.len() + 1);
                prop_assert!(decoded.places.windows(2).all(|pair| pair[0] <= pair[1]));
                prop_assert_eq!(decoded.places.last(), Some(&text.len()));
            }
        }
    }
}
