//! Values that stand beside their key without a sign between: SQL operators, markup, calls and tuples.

use super::bytes::{is_name, is_quote, is_word, skip_blanks, skip_space, trim_escaped_space};
use super::key;
use super::rows;
use super::value::{self, Kind, Value};
use super::Member;
use memchr::{memchr, memchr3_iter, memmem, memrchr};
use std::ops::Range;

/// How far a tag, a tuple's key, or the end of markup that may be none is looked for.
const MAX_NAME: usize = 128;
const MAX_AHEAD: usize = 1024;

pub(super) fn find(text: &[u8], rule_of: &impl Fn(&[u8]) -> Option<usize>, found: &mut Vec<Member>) {
    let mut past = 0;
    let mut lists_past = 0;
    for at in memchr3_iter(b'\'', b'(', b'>', text) {
        if at < past {
            continue;
        }
        let known = found.len();
        match text[at] {
            b'\'' => literal(text, past, at, rule_of, found),
            b'(' => parenthesis(text, past, at, &mut lists_past, rule_of, found),
            _ => angle(text, past, at, rule_of, found),
        }
        if found.len() > known {
            past = found[found.len() - 1].whole.end.max(at + 1);
        }
    }
}

/// What is inside of the quotes goes, so that a statement stays one.
pub(super) fn push_content(text: &[u8], value: &Value, rule: usize, found: &mut Vec<Member>) {
    if value.is_secret(text) {
        let content = value.content.clone();
        found.push(Member { value: content.clone(), whole: content, rule, unterminated: value.unterminated });
    }
}

/// `LIKE 'x'`, `<> 'x'`, `BETWEEN 'x' AND 'y'`, `IDENTIFIED BY 'x'`, `PASSWORD 'x'`.
fn literal(
    text: &[u8],
    floor: usize,
    quote: usize,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    found: &mut Vec<Member>,
) {
    let mut open = quote;
    let prefixed = open > floor && b"nNeEbBxX".contains(&text[open - 1]);
    if prefixed && !is_word(text[floor..open - 1].last()) {
        open -= 1;
    }
    let end = trim_escaped_space(text, floor, open);
    let Some(&last) = text[floor..end].last() else { return };
    if b"<>~*".contains(&last) {
        let operator = text[floor..end].iter().rev().take(3).take_while(|byte| b"<>~*!".contains(byte)).count();
        if let Some(rule) = column_rule(text, floor, end - operator, rule_of) {
            push_quoted(text, open, rule, found);
        }
        return;
    }
    if !is_name(last) {
        return;
    }
    let word = word_before(text, floor, end);
    match keyword(&text[word.clone()]) {
        Some(Keyword::Comparison) => {
            if let Some(rule) = column_rule(text, floor, word.start, rule_of) {
                push_quoted(text, open, rule, found);
            }
        }
        Some(Keyword::Between) => {
            let Some(rule) = column_rule(text, floor, word.start, rule_of) else { return };
            let Some(first) = push_quoted(text, open, rule, found) else { return };
            let and = skip_space(text, first);
            if text[and..].len() > 3 && text[and..and + 3].eq_ignore_ascii_case(b"and") {
                push_quoted(text, skip_space(text, and + 3), rule, found);
            }
        }
        Some(Keyword::By) => {
            // The statement has no column: what follows is a password.
            if let Some(rule) = rule_of(b"password") {
                push_quoted(text, open, rule, found);
            }
        }
        None if end < open => {
            let Some(rule) = key::rule_of_name(&text[word.clone()], rule_of) else { return };
            let Some(value) = value::quoted(text, open) else { return };
            if value.is_secret(text) {
                found.push(Member {
                    value: value.content,
                    whole: word.start..value.end,
                    rule,
                    unterminated: value.unterminated,
                });
            }
        }
        None => {}
    }
}

enum Keyword {
    Comparison,
    Between,
    By,
}

fn keyword(word: &[u8]) -> Option<Keyword> {
    let is = |known: &&[u8]| known.eq_ignore_ascii_case(word);
    let comparisons: [&[u8]; 7] = [b"like", b"ilike", b"rlike", b"regexp", b"glob", b"is", b"to"];
    if comparisons.iter().any(is) {
        Some(Keyword::Comparison)
    } else if is(&&b"between"[..]) {
        Some(Keyword::Between)
    } else {
        is(&&b"by"[..]).then_some(Keyword::By)
    }
}

pub(super) fn word_before(text: &[u8], floor: usize, end: usize) -> Range<usize> {
    let floor = floor.max(end.saturating_sub(MAX_NAME));
    let is_part = |byte: &&u8| is_name(**byte) || **byte == b'.';
    let start = end - text[floor..end].iter().rev().take_while(is_part).count();
    start + key::escape_letters(text, start, &text[start..end])..end
}

/// The rule of the column on the left of an operator.
fn column_rule(text: &[u8], floor: usize, operator: usize, rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let mut end = trim_escaped_space(text, floor, operator);
    for word in [&b"similar"[..], b"not"] {
        let before = word_before(text, floor, end);
        if text[before.clone()].eq_ignore_ascii_case(word) {
            end = trim_escaped_space(text, floor, before.start);
        }
    }
    let mut key = key::before(text, floor, end, false)?;
    key::rule(text, &mut key, rule_of)
}

fn push_quoted(text: &[u8], open: usize, rule: usize, found: &mut Vec<Member>) -> Option<usize> {
    let value = value::quoted(text, open)?;
    push_content(text, &value, rule, found);
    Some(value.end)
}

/// `IN ('x', 'y')`, `VALUES (1, 'x')`, `("key", "value")`, `key('value')`.
fn parenthesis(
    text: &[u8],
    floor: usize,
    open: usize,
    lists_past: &mut usize,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    found: &mut Vec<Member>,
) {
    let end = trim_escaped_space(text, floor, open);
    let word = word_before(text, floor, end);
    let is = |keyword: &[u8]| text[word.clone()].eq_ignore_ascii_case(keyword);
    if is(b"in") {
        if let Some(rule) = column_rule(text, floor, word.start, rule_of).filter(|_| open >= *lists_past) {
            *lists_past = rows::push_list(text, open + 1, rule, found);
        }
        return;
    }
    if is(b"values") || is(b"value") {
        if open >= *lists_past {
            *lists_past = rows::find(text, word.start, open, rule_of, found);
        }
        return;
    }
    // A key or a value in quotes, perhaps with a prefix.
    let first = skip_blanks(text, open + 1);
    let begins_string = |at: usize| text.get(at).is_some_and(|&byte| is_quote(byte) || byte == b'\\');
    if !begins_string(first) && !begins_string(first + 1) {
        return;
    }
    if tuple(text, open, first, rule_of, found) {
        return;
    }
    if !word.is_empty() && end == open {
        if let Some(rule) = key::rule_of_name(&text[word], rule_of) {
            push_quoted(text, first, rule, found);
        }
    }
}

fn tuple(
    text: &[u8],
    open: usize,
    first: usize,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    found: &mut Vec<Member>,
) -> bool {
    let near = &text[..text.len().min(first + MAX_NAME)];
    let Some(name) = value::quoted(near, first).filter(|name| !name.unterminated) else { return false };
    let comma = skip_blanks(text, name.end);
    if text.get(comma) != Some(&b',') {
        return false;
    }
    let Some(rule) = key::rule_of_name(&text[name.content], rule_of) else { return false };
    let value = value::at(text, comma + 1, Kind::Plain);
    if !value.is_secret(text) {
        return false;
    }
    let close = skip_blanks(text, value.end);
    let is_whole = text.get(close) == Some(&b')') && !is_word(text[..open].last());
    let whole = if is_whole { open..close + 1 } else { value.content.clone() };
    found.push(Member { value: value.content, whole, rule, unterminated: value.unterminated });
    true
}

/// `<key>value</key>`, and `key <> 1`.
fn angle(text: &[u8], floor: usize, close: usize, rule_of: &impl Fn(&[u8]) -> Option<usize>, found: &mut Vec<Member>) {
    let Some(&last) = text[floor..close].last() else { return };
    if last == b'<' {
        let from = skip_space(text, close + 1);
        if text.get(from).is_some_and(u8::is_ascii_digit) {
            if let Some(rule) = column_rule(text, floor, close - 1, rule_of) {
                push_content(text, &value::at(text, from, Kind::Plain), rule, found);
            }
        }
        return;
    }
    if !(is_name(last) || is_quote(last)) || last == b'-' {
        return;
    }
    let floor = floor.max(close.saturating_sub(MAX_NAME));
    let Some(open) = memrchr(b'<', &text[floor..close]).map(|at| floor + at) else { return };
    let is_part = |byte: &&u8| is_name(**byte) || matches!(**byte, b':' | b'.');
    let name_end = open + 1 + text[open + 1..close].iter().take_while(is_part).count();
    if name_end < close && !text[name_end].is_ascii_whitespace() {
        return;
    }
    let name = &text[open + 1..name_end];
    let Some(rule) = key::rule_of_name(name, rule_of) else { return };
    let Some((value, end)) = element(text, open, close + 1, name) else { return };
    let trimmed = text[value.content.clone()].trim_ascii();
    if !trimmed.is_empty() && value.is_secret(text) {
        found.push(Member { value: value.content, whole: open..end, rule, unterminated: value.unterminated });
    }
}

/// The content of an element and the end of it. A usage text has tags without an end: `--password=<password> --x`.
fn element(text: &[u8], open: usize, from: usize, name: &[u8]) -> Option<(Value, usize)> {
    let begins_text = is_word(text.get(from)) && !is_word(text[..open].last());
    let ahead = if begins_text { text.len() } else { text.len().min(from + MAX_AHEAD) };
    let end_tag = [b"</", name].concat();
    match memmem::find(&text[from..ahead], &end_tag) {
        Some(length) => {
            let tag = from + length;
            let end = memchr(b'>', &text[tag..]).map_or(text.len(), |at| tag + at + 1);
            Some((unwrap_cdata(text, from..tag), end))
        }
        None if begins_text => {
            Some((Value { content: from..text.len(), end: text.len(), unterminated: true }, text.len()))
        }
        None => None,
    }
}

fn unwrap_cdata(text: &[u8], content: Range<usize>) -> Value {
    const OPEN: &[u8] = b"<![CDATA[";
    const CLOSE: &[u8] = b"]]>";
    let inner = text[content.clone()].strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE));
    match inner {
        Some(inner) => Value::bare(content.start + OPEN.len()..content.start + OPEN.len() + inner.len()),
        None => Value::bare(content),
    }
}
