//! The value on the right of a sign.

use super::bytes::{
    backslashes_at, backslashes_before, begins_pair, is_blank, is_quote, is_word, line_break_end, skip_blanks,
};
use super::headers;
use crate::mask::action::is_replacement;
use memchr::{memchr_iter, memmem};
use std::ops::Range;

/// How far brackets inside a bare value and the tag of a `$tag$` string are looked for.
const MAX_AHEAD: usize = 128;

pub(super) struct Value {
    /// Without quotes.
    pub(super) content: Range<usize>,
    /// Behind the closing quote.
    pub(super) end: usize,
    pub(super) unterminated: bool,
}

impl Value {
    pub(super) fn bare(content: Range<usize>) -> Value {
        Value { end: content.end, content, unterminated: false }
    }

    /// Whether there is something to mask: not what a masking stage put there, nor a placeholder of a statement.
    pub(super) fn is_secret(&self, text: &[u8]) -> bool {
        match &text[self.content.clone()] {
            [] | b"?" | b"%s" => false,
            word if is_replacement(word) => false,
            [b'$', digits @ ..] => digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit),
            _ => true,
        }
    }
}

/// In which kind of text a bare value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Parameters of a URL: `&`, `;` and `#` end them wherever they stand.
    Url,
    /// Behind another pair and a semicolon: blanks may be part of the value.
    ConnectionString,
}

/// The value that begins at `from`, blanks aside.
pub(super) fn at(text: &[u8], from: usize, kind: Kind) -> Value {
    let from = skip_blanks(text, from);
    joined(text, from)
        .or_else(|| dollar_quoted(text, from))
        .or_else(|| bracketed(text, from))
        .unwrap_or_else(|| Value::bare(from..bare_end(text, from, kind)))
}

/// A string in quotes, with those that are joined to it (`'a' || 'b'`, `"a" + "b"`) and a word that follows it at once
/// (`'a'b` of a shell).
fn joined(text: &[u8], from: usize) -> Option<Value> {
    let mut value = quoted(text, from)?;
    while !value.unterminated {
        let sign = skip_blanks(text, value.end);
        let next = match text[sign..] {
            [b'|', b'|', ..] => skip_blanks(text, sign + 2),
            [b'+' | b'.', ..] => skip_blanks(text, sign + 1),
            _ => break,
        };
        let Some(more) = quoted(text, next) else { break };
        value = Value { content: value.content.start..more.content.end, ..more };
    }
    if is_word(text.get(value.end)) {
        value = Value::bare(value.content.start..token_end(text, value.end, Kind::Plain));
    }
    Some(value)
}

/// A string in quotes, perhaps behind backslashes and a prefix of its language (`b'x'`, `N'x'`).
pub(super) fn quoted(text: &[u8], from: usize) -> Option<Value> {
    let prefix = match text.get(from..)? {
        [b'b' | b'B' | b'r' | b'R' | b'u' | b'U' | b'f', b'\'' | b'"', ..] => 1,
        [b'n' | b'N' | b'e' | b'E' | b'x' | b'X', b'\'', ..] => 1,
        [b'U' | b'u', b'&', b'\'', ..] => 2,
        _ => 0,
    };
    let from = from + prefix;
    let level = backslashes_at(text, from);
    let open = from + level;
    let quote = *text.get(open).filter(|&&byte| is_quote(byte))?;
    let (content_end, end, terminated) = string_end(text, open + 1, quote, level);
    if prefix > 0 && !terminated && quote == b'"' {
        // Rather a word of one letter at the end of a string.
        return None;
    }
    Some(Value { content: open + 1..content_end, end, unterminated: !terminated })
}

/// Where the content of a string ends, its closing quote, and whether there is one.
pub(super) fn string_end(text: &[u8], from: usize, quote: u8, level: usize) -> (usize, usize, bool) {
    let mut doubled = None;
    for offset in memchr_iter(quote, &text[from..]) {
        let at = from + offset;
        if doubled == Some(at) {
            continue;
        }
        let backslashes = backslashes_before(text, from, at);
        if closes(backslashes, level) {
            // `'it''s'`
            if level == 0 && text.get(at + 1) == Some(&quote) {
                doubled = Some(at + 1);
                continue;
            }
            return (at - level, at + 1, true);
        }
        // A string around this one is over first.
        let mut outer = level;
        while outer > 0 {
            outer /= 2;
            if closes(backslashes, outer) {
                return (at - backslashes, at - backslashes, false);
            }
        }
    }
    (text.len(), text.len(), false)
}

/// Whether a quote behind so many backslashes closes a string of this level: beyond the level's own, they are pairs
/// (of pairs, …) that escape each other.
fn closes(backslashes: usize, level: usize) -> bool {
    backslashes % (2 * (level + 1)) == level
}

/// `$$x$$`, `$tag$x$tag$` of PostgreSQL. Hashes of passwords look alike (`$argon2id$…`) but do not repeat their tag.
pub(super) fn dollar_quoted(text: &[u8], from: usize) -> Option<Value> {
    let rest = text.get(from..)?.strip_prefix(b"$")?;
    let tag = rest.iter().take(64).take_while(|&byte| is_word(Some(byte))).count();
    if rest.get(tag) != Some(&b'$') {
        return None;
    }
    let fence = &text[from..from + tag + 2];
    let start = from + fence.len();
    let ahead = if tag == 0 { text.len() } else { text.len().min(start + MAX_AHEAD) };
    match memmem::find(&text[start..ahead], fence) {
        Some(length) => {
            Some(Value { content: start..start + length, end: start + length + fence.len(), unterminated: false })
        }
        None if tag == 0 => Some(Value { content: start..text.len(), end: text.len(), unterminated: true }),
        None => None,
    }
}

/// A list or map: the whole of it is the value.
pub(super) fn bracketed(text: &[u8], from: usize) -> Option<Value> {
    if !matches!(text.get(from)?, b'[' | b'{' | b'(') {
        return None;
    }
    let Some(end) = brackets_end(text, from) else {
        return Some(Value { content: from..text.len(), end: text.len(), unterminated: true });
    };
    // `[a]b` goes on.
    let goes_on = is_word(text.get(end)).then(|| bare_end(text, end, Kind::Plain));
    Some(Value::bare(from..goes_on.unwrap_or(end)))
}

/// Behind the bracket that closes the one at `from`.
fn brackets_end(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            // Not the apostrophe of a word.
            b'"' | b'\'' if !is_word(text[from..at].last()) => {
                let level = backslashes_before(text, from, at);
                let (_, end, terminated) = string_end(text, at + 1, byte, level);
                if terminated {
                    at = end;
                    continue;
                }
                return None;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where a value without quotes ends. Signs that may be part of it (a password has any) end it only if the text goes on
/// as if they did.
pub(super) fn bare_end(text: &[u8], from: usize, kind: Kind) -> usize {
    let end = token_end(text, from, kind);
    if !text.get(end).is_some_and(|&byte| is_blank(byte)) {
        return end;
    }
    if headers::is_scheme(&text[from..end]) {
        let credentials = skip_blanks(text, end);
        if !begins_pair(text, credentials) {
            return token_end(text, credentials, kind).max(end);
        }
    }
    if kind == Kind::Url {
        end
    } else {
        connection_string_end(text, end, kind).unwrap_or(end)
    }
}

fn token_end(text: &[u8], from: usize, kind: Kind) -> usize {
    let url = kind == Kind::Url;
    // `$argon2id$v=19$m=65536,t=3,p=4$…`: its commas part nothing.
    let is_hash = text.get(from) == Some(&b'$');
    let mut at = from;
    let mut unbalanced_until = from;
    while let Some(&byte) = text.get(at) {
        let next = text.get(at + 1);
        let ends = match byte {
            0..=b' ' | 0x7f => true,
            b'&' => url || text[at..].starts_with(b"&amp;") || begins_pair(text, at + 1),
            b'#' => url,
            b';' => url || parts(text, at + 1),
            b',' => !is_hash && (is_end(next) || !url && parts(text, at + 1)),
            b'|' => parts(text, at + 1),
            b'(' | b'[' | b'{' if at >= unbalanced_until => {
                let ahead = text.len().min(at + MAX_AHEAD);
                if let Some(end) = brackets_end(&text[..ahead], at) {
                    at = end;
                    continue;
                }
                unbalanced_until = ahead;
                false
            }
            b')' | b']' | b'}' => {
                is_end(next) || next.is_some_and(|&byte| !is_word(Some(&byte)) && byte.is_ascii_punctuation())
            }
            b'"' | b'\'' | b'`' => !is_word(next),
            b'<' => next == Some(&b'/') || at > from && is_tag(text, at),
            b'>' => url || !is_word(next),
            b'\\' => {
                let behind = at + backslashes_at(text, at);
                if escape_ends(text, at, behind) {
                    return at;
                }
                at = behind;
                continue;
            }
            _ => false,
        };
        if ends {
            break;
        }
        at += 1;
    }
    at
}

fn is_end(next: Option<&u8>) -> bool {
    next.is_none_or(u8::is_ascii_whitespace)
}

/// Whether the separator in front of `at` parts a value from what follows.
fn parts(text: &[u8], at: usize) -> bool {
    let behind = at + backslashes_at(text, at);
    is_end(text.get(at)) || text.get(behind).is_some_and(|&byte| is_quote(byte)) || begins_pair(text, at)
}

/// Whether a tag of a few bytes begins at `at`.
fn is_tag(text: &[u8], at: usize) -> bool {
    const MAX_TAG: usize = 32;
    let tag = &text[at + 1..text.len().min(at + MAX_TAG)];
    tag.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'!') && tag.contains(&b'>')
}

/// Whether backslashes and what is behind them end a value: a closing quote, a line break, an escaped `&`. A line break
/// that is followed by a word may as well be part of a password (`a\nick`).
fn escape_ends(text: &[u8], at: usize, behind: usize) -> bool {
    match text.get(behind) {
        None => false,
        Some(&byte) if is_quote(byte) => !is_word(text.get(behind + 1)),
        Some(b'n' | b'r' | b't') => match line_break_end(text, at).unwrap_or(behind + 1) {
            next if !is_word(text.get(next)) => true,
            next => begins_pair(text, next),
        },
        Some(b'u') => {
            let escapes: [&[u8]; 5] = [b"u0026", b"u003c", b"u003e", b"u0022", b"u0027"];
            escapes.iter().any(|escape| text[behind..].starts_with(escape))
        }
        _ => false,
    }
}

/// Where the value of a connection string ends whose first word ends at `word_end`, if the text reads as one:
/// `Server=x;Password=a b;User=y`.
fn connection_string_end(text: &[u8], word_end: usize, kind: Kind) -> Option<usize> {
    let last_ends = |at: usize| (kind == Kind::ConnectionString).then_some(at);
    let mut is_prose = false;
    for (offset, &byte) in text[word_end..].iter().take(MAX_AHEAD).enumerate() {
        let at = word_end + offset;
        match byte {
            b';' if kind == Kind::Plain && is_prose => return None,
            b';' => return parts(text, at + 1).then_some(at),
            b'\n' | b'\r' | b'"' | b'\'' if is_prose => return None,
            b'\n' | b'\r' | b'"' | b'\'' => return last_ends(at),
            b'=' => return None,
            b':' | b',' | b'/' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'\\' => is_prose = true,
            _ => {}
        }
    }
    if is_prose {
        return None;
    }
    if text.len() - word_end <= MAX_AHEAD {
        last_ends(text.len())
    } else {
        None
    }
}
