//! The key on the left of a sign.

use super::bytes::{backslashes_before, is_name, is_quote, trim_blanks};
use memchr::{memchr, memrchr};
use std::ops::Range;

/// Nobody names a secret in more words. Of a longer key, the last segment is looked at.
const MAX_KEY: usize = 128;

pub(super) struct Key {
    /// With its quotes, and with what belongs to it in front (`--`, `:`, `$`).
    pub(super) start: usize,
    pub(super) name: Range<usize>,
    pub(super) quote: Option<u8>,
    /// Whether the name may have several.
    segments: bool,
}

/// The key that ends at `end`, blanks aside. `colons`: whether it may have colons inside.
#[inline]
pub(super) fn before(text: &[u8], floor: usize, end: usize, colons: bool) -> Option<Key> {
    let end = trim_blanks(text, floor, end);
    let &last = text[floor..end].last()?;
    if is_quote(last) {
        return quoted(text, floor, end - 1);
    }
    if last == b')' {
        return argument(text, floor, end - 1);
    }
    if !(is_name(last) || last == b']') {
        return None;
    }
    let lowest = floor.max(end.saturating_sub(MAX_KEY));
    let mut start = end;
    while start > lowest && is_name(text[start - 1]) {
        start -= 1;
    }
    // Most keys are one word.
    if start < end && text[start] != b'-' && (start == lowest || !joins_segments(text[start - 1])) {
        return Some(Key { start, name: start..end, quote: None, segments: false });
    }
    let mut brackets = 0usize;
    let mut last_bracket = None;
    let mut segments = false;
    while start > lowest {
        match text[start - 1] {
            b']' => {
                brackets += 1;
                segments = true;
                last_bracket.get_or_insert(start);
            }
            b'[' if brackets == 0 => break,
            b'[' => {
                brackets -= 1;
                if brackets == 0 {
                    last_bracket = None;
                }
            }
            b':' if !colons => break,
            byte if joins_segments(byte) => segments = true,
            b'\'' | b'"' if brackets > 0 => {}
            byte if is_name(byte) => {}
            _ => break,
        }
        start -= 1;
    }
    // A bracket that was opened elsewhere: `a[1]password`, but not `[a b]password`.
    start = last_bracket.unwrap_or(start);
    let lead =
        text[start..end].iter().take_while(|&&byte| matches!(byte, b'-' | b':' | b'$' | b'@' | b'.' | b'/')).count();
    // A path in front of the key is not the key's.
    let slash = if segments { memrchr(b'/', &text[start..end]) } else { None };
    let own_start = slash.map_or(start, |slash| start + slash + 1);
    (start + lead < end).then(|| Key { start: own_start, name: start + lead..end, quote: None, segments })
}

/// The first argument of the call that ends at `close`: `LOWER(password) = 'x'`.
fn argument(text: &[u8], floor: usize, close: usize) -> Option<Key> {
    let floor = floor.max(close.saturating_sub(MAX_KEY));
    let open = floor + memrchr(b'(', &text[floor..close])?;
    let end = memchr(b',', &text[open..close]).map_or(close, |comma| open + comma);
    let is_call = is_name(*text[..open].last()?) && text[open + 1..end].last() != Some(&b')');
    if is_call {
        before(text, open + 1, end, false)
    } else {
        None
    }
}

#[inline]
fn joins_segments(byte: u8) -> bool {
    matches!(byte, b'.' | b'/' | b':' | b'$' | b'@' | b'[' | b']')
}

/// The quoted key whose closing quote is at `close`.
fn quoted(text: &[u8], floor: usize, close: usize) -> Option<Key> {
    let floor = floor.max(close.saturating_sub(MAX_KEY));
    let end = close - backslashes_before(text, floor, close);
    let open = floor + memrchr(text[close], &text[floor..end])?;
    let name = open + 1..end;
    let is_short_text = !name.is_empty() && !text[name.clone()].contains(&b'\n');
    let start = open - backslashes_before(text, floor, open);
    is_short_text.then(|| Key { start, name, quote: Some(text[close]), segments: true })
}

/// The rule of a key: of the whole of it, or of its last segment (`db.password`, `user[password]`).
#[inline]
pub(super) fn rule(text: &[u8], key: &mut Key, rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let name = &text[key.name.clone()];
    let known = if key.segments { rule_of_name(name, rule_of) } else { rule_of_segment(name, rule_of) };
    if known.is_some() {
        return known;
    }
    let letters = escape_letters(text, key.name.start, name);
    if letters == 0 {
        return None;
    }
    let rule = rule_of_name(&name[letters..], rule_of)?;
    key.name.start += letters;
    key.start = key.name.start;
    Some(rule)
}

/// How many letters of a word belong to an escape in front of it: `\npassword=x`, `\u0026password=x`.
#[inline]
pub(super) fn escape_letters(text: &[u8], start: usize, word: &[u8]) -> usize {
    if start == 0 || text[start - 1] != b'\\' {
        return 0;
    }
    match word {
        [b'n' | b'r' | b't', ..] => 1,
        [b'u', digits @ ..] if digits.len() > 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => 5,
        _ => 0,
    }
}

pub(super) fn rule_of_name(name: &[u8], rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    rule_of_segment(name, rule_of).or_else(|| last_segment(name).and_then(|name| rule_of_segment(name, rule_of)))
}

/// Numbers are no keys: `12:30:45`.
#[inline]
fn rule_of_segment(name: &[u8], rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let is_number = !name.iter().any(|&byte| byte >= b'A' && byte != b'_');
    if !is_number {
        rule_of(name)
    } else {
        None
    }
}

fn last_segment(name: &[u8]) -> Option<&[u8]> {
    let mut rest = name;
    while let Some(inner) = rest.strip_suffix(b"]") {
        let open = memrchr(b'[', inner)?;
        let index = inner[open + 1..].trim_ascii();
        let index = match index {
            [b'\'' | b'"', word @ .., b'\'' | b'"'] => word,
            word => word,
        };
        if !index.iter().all(u8::is_ascii_digit) {
            return Some(index);
        }
        // `password[]`, `password[0]`
        rest = &rest[..open];
    }
    let segment = rest.iter().rposition(|&byte| joins_segments(byte));
    let segment = &rest[segment.map_or(0, |at| at + 1)..];
    (!segment.is_empty() && segment.len() < name.len()).then_some(segment)
}
