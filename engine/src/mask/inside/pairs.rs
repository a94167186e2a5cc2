//! `key=value`, `key: value`, `key => value`.

use super::bytes::{begins_pair, is_blank, is_word, line_break_end, skip_blanks, trim_blanks};
use super::headers;
use super::key::{self, Key};
use super::percent;
use super::value::{self, Kind, Value};
use super::{Layers, Member};
use memchr::{memchr3_iter, memrchr};

struct Sign {
    start: usize,
    end: usize,
    colon: bool,
}

/// Appends a member for each pair with a sensitive key. Says whether the text holds percent-encoding.
pub(super) fn find(
    text: &[u8],
    layers: Layers,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    found: &mut Vec<Member>,
) -> bool {
    let mut has_percent = false;
    let mut past = 0;
    for at in memchr3_iter(b'=', b':', b'%', text) {
        if text[at] == b'%' {
            has_percent = has_percent || percent::escaped_byte(text, at).is_some();
            continue;
        }
        if at < past {
            continue;
        }
        let Some(sign) = sign_at(text, past, at) else { continue };
        let Some(mut key) = key::before(text, past, sign.start, !sign.colon) else { continue };
        // Other strings than those of JSON are left to this part.
        let first = skip_blanks(text, sign.end);
        let is_json = sign.colon && key.quote == Some(b'"') && text.get(first) != Some(&b'\'');
        if is_json && !layers.hides_json() {
            continue;
        }
        let Some(rule) = key::rule(text, &mut key, rule_of) else { continue };
        let value = value_of(text, &key, &sign, layers);
        if !value.is_secret(text) {
            continue;
        }
        past = value.end;
        found.push(Member {
            value: value.content,
            whole: key.start..value.end,
            rule,
            unterminated: value.unterminated,
        });
    }
    has_percent
}

/// The sign that ends with the byte at `at`: none within `::`, nor the first of `==`.
fn sign_at(text: &[u8], past: usize, at: usize) -> Option<Sign> {
    let next = text.get(at + 1);
    if text[at] == b':' {
        let is_part = matches!(next, Some(b':' | b'=')) || text[..at].last() == Some(&b':');
        // `a :b`: a word that begins with a colon.
        let is_prefix = text[..at].last().is_some_and(|&byte| is_blank(byte)) && is_word(next);
        return (!is_part && !is_prefix).then_some(Sign { start: at, end: at + 1, colon: true });
    }
    if next == Some(&b'=') {
        return None;
    }
    let mut start = at;
    while start > past
        && at - start < 2
        && matches!(text[start - 1], b'=' | b'!' | b'<' | b'>' | b':' | b'+' | b'?' | b'~' | b'*' | b'|' | b'^')
    {
        start -= 1;
    }
    let end = if matches!(next, Some(b'>' | b'~')) { at + 2 } else { at + 1 };
    Some(Sign { start, end, colon: false })
}

fn value_of(text: &[u8], key: &Key, sign: &Sign, layers: Layers) -> Value {
    let is_parameter = !sign.colon && matches!(text[..key.start].last(), Some(b'?' | b'&'));
    if key.quote.is_none() && !is_parameter && headers::holds_blanks(&text[key.name.clone()]) {
        return headers::line(text, key.start, sign.end, sign.colon);
    }
    if sign.colon {
        if let Some(block) = yaml_block(text, sign.end) {
            return block;
        }
    } else if is_empty(text, sign) {
        return Value::bare(sign.end..sign.end);
    }
    value::at(text, sign.end, kind_at(text, key, layers))
}

/// `password= user=bob`
fn is_empty(text: &[u8], sign: &Sign) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(|&byte| is_blank(byte));
    blank(text.get(sign.end)) && !blank(text[..sign.start].last()) && begins_pair(text, sign.end)
}

/// A text of several lines: those behind `key: |` that are indented.
fn yaml_block(text: &[u8], from: usize) -> Option<Value> {
    let mut at = skip_blanks(text, from);
    if !matches!(text.get(at)?, b'|' | b'>') {
        return None;
    }
    at += 1;
    at += text[at..].iter().take(2).take_while(|byte| matches!(byte, b'+' | b'-' | b'0'..=b'9')).count();
    let start = line_break_end(text, skip_blanks(text, at)).filter(|&start| text[start - 1] == b'\n')?;
    let mut end = start;
    for line in text[start..].split_inclusive(|&byte| byte == b'\n') {
        if !is_blank(line[0]) && !line.trim_ascii().is_empty() {
            break;
        }
        end += line.len();
    }
    let content = start + text[start..end].len() - text[start..end].trim_ascii_start().len();
    let length = text[content..end].trim_ascii_end().len();
    Some(Value::bare(content..content + length))
}

fn kind_at(text: &[u8], key: &Key, layers: Layers) -> Kind {
    /// The pair in front of a connection string's password is not longer.
    const MAX_PAIR: usize = 128;
    let before = trim_blanks(text, 0, key.start);
    match text[..before].last() {
        Some(b'?' | b'&' | b'#') if before == key.start => Kind::Url,
        Some(b';') => {
            let pair = &text[before.saturating_sub(MAX_PAIR)..before - 1];
            let pair = &pair[memrchr(b';', pair).map_or(0, |at| at + 1)..];
            if pair.contains(&b'=') {
                Kind::ConnectionString
            } else {
                Kind::Url
            }
        }
        _ if layers.percent > 0 => Kind::Url,
        _ => Kind::Plain,
    }
}
