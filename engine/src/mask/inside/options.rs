//! `--key value` of command lines. (`--key=value` is a pair.)

use super::bytes::{backslashes_at, is_blank, is_name, is_quote, skip_blanks};
use super::value::{self, Kind};
use super::{key, Member};
use memchr::memchr_iter;

pub(super) fn find(text: &[u8], rule_of: &impl Fn(&[u8]) -> Option<usize>, found: &mut Vec<Member>) {
    let mut past = 0;
    for start in memchr_iter(b'-', text) {
        // Not a rule of dashes, nor a comment of SQL.
        let begins_option = matches!(text[start..], [_, b'-', letter, ..] if letter.is_ascii_alphabetic());
        if start < past || !begins_option || text[..start].ends_with(b"-") {
            continue;
        }
        let name = start + 2;
        let end = name + text[name..].iter().take_while(|&&byte| is_name(byte) || byte == b'.').count();
        past = end;
        let Some(from) = value_start(text, end) else { continue };
        let Some(rule) = key::rule_of_name(&text[name..end], rule_of) else { continue };
        let value = value::at(text, from, Kind::Plain);
        if value.is_secret(text) {
            past = value.end;
            found.push(Member {
                value: value.content,
                whole: start..value.end,
                rule,
                unterminated: value.unterminated,
            });
        }
    }
}

/// Behind blanks, or in a list of arguments: `"--password", "x"`. Another option is no value.
fn value_start(text: &[u8], name_end: usize) -> Option<usize> {
    let mut at = name_end + backslashes_at(text, name_end);
    if text.get(at).is_some_and(|&byte| is_quote(byte)) {
        at = skip_blanks(text, at + 1);
        if text.get(at) == Some(&b',') {
            at += 1;
        }
    } else if at > name_end || !text.get(at).is_some_and(|&byte| is_blank(byte)) {
        return None;
    }
    let from = skip_blanks(text, at);
    let quote = from + backslashes_at(text, from);
    let first = if text.get(quote).is_some_and(|&byte| is_quote(byte)) { quote + 1 } else { from };
    (from > name_end && text.get(first).is_some_and(|&byte| byte != b'-')).then_some(from)
}
