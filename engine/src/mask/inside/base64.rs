//! Sensitive keys in base64: the whole token is the value, since a part of it cannot be replaced.

use super::{members, Layers, Member};
use std::ops::Range;

/// Shorter tokens hold no key and value worth the work.
const MIN_TOKEN: usize = 24;
/// The first 12 bytes tell text from anything else.
const PROBE: usize = 16;
/// At most 64 KiB are decoded of a token.
pub(in crate::mask) const MAX_DECODED: usize = 64 << 10;

pub(super) fn find(text: &[u8], layers: Layers, rule_of: &impl Fn(&[u8]) -> Option<usize>, found: &mut Vec<Member>) {
    let inner = Layers { base64: layers.base64 + 1, ..layers };
    texts(text, &mut |token, decoded| {
        let (rule, unterminated) = match members(decoded, inner, rule_of).first() {
            Some(member) => (member.rule, false),
            // Too long to look through: what reads as pairs is masked unseen, by the first rule.
            None if decoded.len() == MAX_DECODED && decoded.iter().any(|byte| matches!(byte, b'=' | b':')) => (0, true),
            None => return,
        };
        found.push(Member { value: token.clone(), whole: token, rule, unterminated });
    });
}

/// Offers each token that is text in base64, padding included, and what is decoded of it.
pub(in crate::mask) fn texts(text: &[u8], offer: &mut dyn FnMut(Range<usize>, &[u8])) {
    // Every token of that length has a byte at one of these places.
    let mut past = 0;
    let mut at = MIN_TOKEN - 1;
    while at < text.len() {
        if is_digit(text[at]) {
            let start = at - text[past..at].iter().rev().take_while(|&&byte| is_digit(byte)).count();
            past = at + text[at..].iter().take_while(|&&byte| is_digit(byte)).count();
            if past - start >= MIN_TOKEN {
                if let Some(start) = text_start(text, start, past) {
                    let padding = text[past..].iter().take(2).take_while(|&&byte| byte == b'=').count();
                    offer(start..past + padding, &decode(&text[start..past], MAX_DECODED));
                }
            }
            at = past;
        }
        at += MIN_TOKEN;
    }
}

/// Where text begins in a run of digits: at its start, or behind a slash, which may as well be one of a path.
fn text_start(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let begins_text = |&at: &usize| end - at >= MIN_TOKEN && text[at..at + PROBE].chunks_exact(4).all(is_text);
    let behind_slashes = (start + 1..end).filter(|&at| text[at - 1] == b'/');
    std::iter::once(start).chain(behind_slashes).find(begins_text)
}

fn is_text(digits: &[u8]) -> bool {
    let bits = digits.iter().fold(0, |bits, &byte| bits << 6 | u32::from(digit(byte).unwrap_or(0)));
    let [_, bytes @ ..] = bits.to_be_bytes();
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
}

#[inline]
fn is_digit(byte: u8) -> bool {
    const DIGITS: [bool; 256] = {
        let mut digits = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            digits[byte] = digit(byte as u8).is_some();
            byte += 1;
        }
        digits
    };
    DIGITS[usize::from(byte)]
}

/// Of both alphabets.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Decodes at most `max` bytes; what is left over at the end of a token that was cut off does not matter.
fn decode(token: &[u8], max: usize) -> Vec<u8> {
    let mut decoded = Vec::with_capacity((token.len() * 3 / 4).min(max));
    let mut bits = 0u32;
    let mut count = 0;
    for value in token.iter().filter_map(|&byte| digit(byte)) {
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            if decoded.len() == max {
                break;
            }
            decoded.push((bits >> count) as u8);
        }
    }
    decoded
}
