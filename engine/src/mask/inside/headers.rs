//! Headers whose values hold blanks, commas and equals signs: credentials and cookies.

use super::bytes::{
    backslashes_at, backslashes_before, begins_pair, is_blank, is_quote, is_word, line_break_end, skip_blanks,
    trim_blanks,
};
use super::value::{self, Value};

/// Whether the key names such a header, also as an attribute or a variable (`HTTP_COOKIE`).
pub(super) fn holds_blanks(name: &[u8]) -> bool {
    let ends = |word: &[u8]| name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word);
    ends(b"authorization") || ends(b"cookie")
}

/// Whether the word is a scheme that credentials follow.
pub(super) fn is_scheme(word: &[u8]) -> bool {
    let schemes: [&[u8]; 10] =
        [b"bearer", b"basic", b"token", b"negotiate", b"ntlm", b"apikey", b"api-key", b"dpop", b"key", b"sharedkey"];
    schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(word)) || has_parameters(word)
}

/// Whether the scheme is followed by parameters, with commas between.
fn has_parameters(word: &[u8]) -> bool {
    let schemes: [&[u8]; 6] = [b"digest", b"oauth", b"hawk", b"signature", b"aws4-hmac-sha256", b"scram-sha-256"];
    schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(word))
}

/// The value of such a header: the rest of its line. Behind an equals sign (`{cookie=a=b; c=d, accept=*/*}`) it ends
/// where the next pair begins, and in brackets where they close.
pub(super) fn line(text: &[u8], key_start: usize, from: usize, colon: bool) -> Value {
    let from = skip_blanks(text, from);
    if let Some(value) = value::quoted(text, from).or_else(|| value::bracketed(text, from)) {
        return value;
    }
    let opened = text[..key_start].last().copied();
    let enclosing = opened.filter(|&byte| is_quote(byte));
    let level = if enclosing.is_some() { backslashes_before(text, 0, key_start - 1) } else { 0 };
    let in_brackets = !colon || matches!(opened, Some(b'{' | b'[' | b'('));
    let scheme_end = from + text[from..].iter().take_while(|&&byte| is_word(Some(&byte)) || byte == b'-').count();
    let has_parameters = has_parameters(&text[from..scheme_end]);
    let mut depth = 0usize;
    let mut at = from;
    let mut unterminated = true;
    while let Some(&byte) = text.get(at) {
        let behind = at + backslashes_at(text, at);
        let ends = match byte {
            b'\n' | b'\r' | 0 => true,
            b'"' | b'\'' | b'`' | b'\\' if text.get(behind).is_some_and(|&byte| is_quote(byte)) => {
                let quote = text[behind];
                if enclosing == Some(quote) && behind - at == level {
                    unterminated = false;
                    true
                } else if at > from && text[at - 1] == b'=' {
                    // `username="Mufasa"`
                    match value::string_end(text, behind + 1, quote, behind - at) {
                        (_, end, true) => {
                            at = end;
                            continue;
                        }
                        (end, _, false) if quote == b'"' => {
                            at = end;
                            continue;
                        }
                        _ => false,
                    }
                } else if quote == b'"' {
                    true
                } else {
                    at = behind;
                    closes_word(text.get(behind + 1))
                }
            }
            b'\\' if line_break_end(text, at).is_some() => true,
            b'\\' => {
                at = behind;
                continue;
            }
            b',' if !colon && !has_parameters => begins_pair(text, at + 1),
            b' ' | b'\t' if !colon && at > scheme_end => {
                !matches!(text[at - 1], b';' | b',') && begins_pair(text, at + 1)
            }
            b'{' | b'[' | b'(' => {
                depth += 1;
                false
            }
            b'}' | b']' | b')' if depth > 0 => {
                depth -= 1;
                false
            }
            b'}' | b']' | b')' => in_brackets,
            _ => false,
        };
        if ends {
            break;
        }
        at += 1;
    }
    let reached_end = at >= text.len();
    let content = from..trim_blanks(text, from, at);
    Value { end: content.end, content, unterminated: enclosing.is_some() && reached_end && unterminated }
}

/// Whether an apostrophe before this byte ends a text rather than standing in a word.
fn closes_word(next: Option<&u8>) -> bool {
    next.is_none_or(|&byte| is_blank(byte) || matches!(byte, b',' | b')' | b']' | b'}' | b'\n' | b'\r' | b'\\'))
}
