//! Sensitive keys in percent-encoding: `?next=%2Flogin%3Fpassword%3Dx`, `pass%77ord=x`.

use super::{members, Layers, Member};
use memchr::memchr_iter;

/// The byte that an escape stands for, if one begins at `at`.
pub(in crate::mask) fn escaped_byte(text: &[u8], at: usize) -> Option<u8> {
    match text.get(at..at + 3)? {
        &[b'%', high, low] => Some(hexadecimal(high)? << 4 | hexadecimal(low)?),
        _ => None,
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends the members of each stretch of a text that holds escapes, decoded once.
pub(super) fn find(text: &[u8], layers: Layers, rule_of: &impl Fn(&[u8]) -> Option<usize>, found: &mut Vec<Member>) {
    let inner = Layers { percent: layers.percent + 1, ..layers };
    let mut past = 0;
    for at in memchr_iter(b'%', text) {
        if at < past || escaped_byte(text, at).is_none() {
            continue;
        }
        let start = at - text[past..at].iter().rev().take_while(|&&byte| is_encoded(byte)).count();
        past = at + text[at..].iter().take_while(|&&byte| is_encoded(byte)).count();
        let (decoded, places) = decode(text, start, past);
        for member in members(&decoded, inner, rule_of) {
            found.push(Member {
                value: places[member.value.start]..places[member.value.end],
                whole: places[member.whole.start]..places[member.whole.end],
                ..member
            });
        }
    }
}

/// Whether the byte may be part of a URL: quotes, blanks and what else encloses URLs is not.
fn is_encoded(byte: u8) -> bool {
    byte > b' ' && !matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\' | 0x7f)
}

/// The decoded bytes, and where each came from; one place more for the end.
fn decode(text: &[u8], start: usize, end: usize) -> (Vec<u8>, Vec<usize>) {
    let mut decoded = Vec::with_capacity(end - start);
    let mut places = Vec::with_capacity(end - start + 1);
    let mut at = start;
    while at < end {
        places.push(at);
        match escaped_byte(&text[..end], at) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    places.push(end);
    (decoded, places)
}
