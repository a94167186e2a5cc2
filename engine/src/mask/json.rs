//! Sensitive members of JSON inside a text: `{"user": "bob", "password": "hunter2"}` as a log body.
//!
//! Not a parser: JSON in telemetry is often one part of a line, cut off, or a string inside other JSON. The scan looks
//! for a quoted sensitive key, a colon and a value, at any place and depth, without recursion; the text around it need
//! not be valid JSON. Quotes may stand behind backslashes: JSON in a string of JSON. A value whose end is missing reaches
//! to the end of the text. Linear.

use super::inside::Member;
use memchr::memchr_iter;
use std::ops::Range;

/// Reports each sensitive member, in order and without overlap, and, if its value stands bare, behind how many backslashes a
/// text in its place must be quoted.
pub(super) fn find(
    text: &[u8],
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    report: &mut dyn FnMut(Member, Option<usize>),
) {
    // Once: there may be many blanks before it.
    let is_json = begins_as_json(text);
    let mut open: Option<Quote> = None;
    let mut past = 0;
    let mut cut_end = 0;
    for at in memchr_iter(b'"', text) {
        if at < past {
            continue;
        }
        let close = Quote { at, backslashes: backslashes_before(text, past, at) };
        // Each quote may close a key and open another one, so that quotes outside of the JSON don't put it out of step.
        let Some(opened) = open.replace(close) else { continue };
        let Some(value) = value_start(text, opened, close) else { continue };
        let Some(rule) = rule_of_member(&text[opened.at + 1..close.start()], rule_of) else { continue };
        let Some(value) = value_at(text, value, close.backslashes, is_json) else { continue };
        let quoted = (!value.is_string).then_some(close.backslashes);
        let whole = member_with_comma(text, opened.start()..value.end, &mut cut_end);
        report(Member { value: value.inner, whole, rule, unterminated: value.is_cut }, quoted);
        past = value.end;
        open = None;
    }
}

/// If `range` is, or is in, a bare number that is the value of a JSON member or stands in a JSON array: all of the number, and
/// behind how many backslashes a text in its place must be quoted. Else the range as it is.
pub(super) fn whole_bare_value(text: &[u8], range: Range<usize>) -> (Range<usize>, Option<usize>) {
    /// How far a number goes on around the match: matches may follow each other closely.
    const MAX_NUMBER: usize = 32;
    /// How many blanks may stand before the JSON: they are skipped for each match.
    const MAX_BLANKS: usize = 1024;
    let of_number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if !text[range.clone()].iter().all(|byte| of_number(&byte)) {
        return (range, None);
    }
    let start = range.start - text[..range.start].iter().rev().take(MAX_NUMBER).take_while(of_number).count();
    let end = range.end + text[range.end..].iter().take(MAX_NUMBER).take_while(of_number).count();
    if !is_number(&text[start..end]) {
        return (range, None);
    }
    let quoted = match (text[..start].trim_ascii_end().last(), text[end..].trim_ascii_start().first()) {
        (Some(b':'), None | Some(b',' | b'}')) => backslashes_of_key(text, start),
        (Some(b'[' | b','), Some(b',' | b']')) if begins_as_json(&text[..text.len().min(MAX_BLANKS)]) => {
            Some(backslashes_in_array(&text[..start]))
        }
        _ => None,
    };
    if quoted.is_some() {
        (start..end, quoted)
    } else {
        (range, None)
    }
}

/// A number of JSON, not a telephone's, an address or a version.
fn is_number(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let signs_stand_behind_e = unsigned.windows(2).all(|pair| !b"+-".contains(&pair[1]) || b"eE".contains(&pair[0]));
    let points = unsigned.iter().filter(|&&byte| byte == b'.').count();
    unsigned.first().is_some_and(u8::is_ascii_digit) && signs_stand_behind_e && points < 2
}

fn backslashes_of_key(text: &[u8], value: usize) -> Option<usize> {
    let key = text[..value].trim_ascii_end().strip_suffix(b":")?.trim_ascii_end().strip_suffix(b"\"")?;
    let backslashes = backslashes_before(text, 0, key.len());
    is_level(backslashes).then_some(backslashes)
}

fn begins_as_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'[' | b'{'))
}

/// Of quotes in an array that goes on at the end of `before`: as many as the last quote has, if that closes a string. If it
/// opens one, the array stands in that string.
fn backslashes_in_array(before: &[u8]) -> usize {
    const MAX_BEHIND: usize = 1024;
    let floor = before.len().saturating_sub(MAX_BEHIND);
    let Some(quote) = memchr::memrchr(b'"', &before[floor..]).map(|offset| floor + offset) else { return 0 };
    let backslashes = backslashes_before(before, floor, quote);
    if !is_level(backslashes) {
        return 0;
    }
    match before[quote + 1..].trim_ascii_start().first() {
        Some(b',' | b':' | b']' | b'}') => backslashes,
        _ => 2 * backslashes + 1,
    }
}

#[derive(Clone, Copy)]
struct Quote {
    at: usize,
    backslashes: usize,
}

impl Quote {
    /// Where its backslashes begin.
    fn start(self) -> usize {
        self.at - self.backslashes
    }
}

struct Value {
    /// The content of a string; else the whole value.
    inner: Range<usize>,
    is_string: bool,
    /// Its end is missing.
    is_cut: bool,
    /// Behind the value, closing quote included.
    end: usize,
}

fn backslashes_before(text: &[u8], floor: usize, at: usize) -> usize {
    text[floor..at].iter().rev().take_while(|&&byte| byte == b'\\').count()
}

/// Each level of JSON in a string doubles the backslashes and adds one for the quote: 0, 1, 3, 7.
fn is_level(backslashes: usize) -> bool {
    (backslashes + 1).is_power_of_two()
}

fn skip_space(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where a value would begin, if the quotes enclose a key.
fn value_start(text: &[u8], open: Quote, close: Quote) -> Option<usize> {
    if open.backslashes != close.backslashes || !is_level(close.backslashes) {
        return None;
    }
    let colon = skip_space(text, close.at + 1);
    (text.get(colon) == Some(&b':')).then(|| skip_space(text, colon + 1))
}

fn rule_of_member(key: &[u8], rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    /// Longer keys with escapes are not decoded; nobody names a secret in so many words.
    const MAX_ESCAPED: usize = 512;
    let rule = rule_of(key);
    if rule.is_some() || !key.contains(&b'\\') || key.len() > MAX_ESCAPED {
        return rule;
    }
    // Once per level of JSON in a string.
    let mut key = String::from_utf8_lossy(key).into_owned();
    while key.contains('\\') {
        key = serde_json::from_str(&format!("\"{key}\"")).ok()?;
    }
    rule_of(key.as_bytes())
}

fn value_at(text: &[u8], from: usize, level: usize, is_json: bool) -> Option<Value> {
    let bare = |end: usize, is_cut: bool| Some(Value { inner: from..end, is_string: false, is_cut, end });
    match text.get(from)? {
        b'"' | b'\\' => {
            let backslashes = text[from..].iter().take_while(|&&byte| byte == b'\\').count();
            let quote = from + backslashes;
            if backslashes != level || text.get(quote) != Some(&b'"') {
                return None;
            }
            let (content_end, end) = string_end(text, quote + 1, level);
            Some(Value { inner: quote + 1..content_end, is_string: true, is_cut: content_end == end, end })
        }
        b'{' | b'[' => {
            let end = brackets_end(text, from, level);
            bare(end, !matches!(text[end - 1], b'}' | b']'))
        }
        b'-' | b'0'..=b'9' => {
            let number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
            bare(from + text[from..].iter().take_while(number).count(), false)
        }
        _ => {
            // No JSON has another value; what looks like JSON may have: `None`, `'x'`, `x`.
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b",}])\"\\".contains(byte);
            let length = text[from..].iter().position(ends).unwrap_or(text.len() - from);
            let next = text.get(skip_space(text, from + length));
            let in_json = is_json || matches!(next, Some(b',' | b'}' | b']'));
            (length > 0 && in_json).then(|| bare(from + length, false))?
        }
    }
}

/// Where the content of a string ends, and its closing quote.
fn string_end(text: &[u8], from: usize, level: usize) -> (usize, usize) {
    for offset in memchr_iter(b'"', &text[from..]) {
        let at = from + offset;
        let backslashes = backslashes_before(text, from, at);
        if closes(backslashes, level) {
            return (at - level, at + 1);
        }
        // A string around this one is over first.
        let mut outer = level;
        while outer > 0 {
            outer /= 2;
            if closes(backslashes, outer) {
                return (at - backslashes, at - backslashes);
            }
        }
    }
    (text.len(), text.len())
}

/// Whether a quote behind so many backslashes closes a string of this level: beyond the level's own, they are pairs
/// (of pairs, …) that escape each other.
fn closes(backslashes: usize, level: usize) -> bool {
    backslashes % (2 * (level + 1)) == level
}

/// Behind the bracket that closes the one at `from`.
fn brackets_end(text: &[u8], from: usize, level: usize) -> usize {
    let mut depth = 0usize;
    let mut position = from;
    while let Some(&byte) = text.get(position) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return position + 1;
                }
            }
            b'"' => {
                let backslashes = backslashes_before(text, from, position);
                if backslashes < level {
                    return position - backslashes;
                }
                position = string_end(text, position + 1, level).1;
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    text.len()
}

/// The member and the comma that parts it from the others. `cut_end` is where the last cut ended.
fn member_with_comma(text: &[u8], member: Range<usize>, cut_end: &mut usize) -> Range<usize> {
    let before = text[..member.start].trim_ascii_end();
    let cut = if before.last() == Some(&b',') && before.len() > *cut_end {
        before.len() - 1..member.end
    } else {
        match skip_space(text, member.end) {
            comma if text.get(comma) == Some(&b',') => member.start..comma + 1,
            _ => member,
        }
    };
    *cut_end = cut.end;
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `removes`: the whole member goes, else `#` takes its value's place.
    fn mask(text: &str, removes: bool) -> String {
        let sensitive = |key: &[u8]| {
            let key = key.to_ascii_lowercase();
            (key == b"password" || memchr::memmem::find(&key, b"token").is_some()).then_some(0)
        };
        let mut out = String::new();
        let mut copied = 0;
        find(text.as_bytes(), &sensitive, &mut |member, quoted| {
            let range = if removes { member.whole } else { member.value };
            out.push_str(&text[copied..range.start]);
            if !removes {
                let quote = quoted.map_or(String::new(), |backslashes| format!("{}\"", "\\".repeat(backslashes)));
                out.push_str(&format!("{quote}#{quote}"));
            }
            copied = range.end;
        });
        out.push_str(&text[copied..]);
        out
    }

    #[test]
    fn values_of_sensitive_members_are_replaced() {
        for (text, expected) in [
            (r#"{"password":"hunter2"}"#, r##"{"password":"#"}"##),
            (r#"{"user":"bob","Password" : "hunter2", "x":1}"#, r##"{"user":"bob","Password" : "#", "x":1}"##),
            (r#"{"password":1234}"#, r##"{"password":"#"}"##),
            (r#"{"password":-1.5e3,"a":1}"#, r##"{"password":"#","a":1}"##),
            (r#"{"password":true}"#, r##"{"password":"#"}"##),
            (r#"{"password":null}"#, r##"{"password":"#"}"##),
            (r#"{"password":["a",{"b":"]"}],"c":1}"#, r##"{"password":"#","c":1}"##),
            (r#"{"password":{"password":"x"},"c":"password"}"#, r##"{"password":"#","c":"password"}"##),
            (r#"[{"a":{"api_tokens":"x"}},{"token":"y"}]"#, r##"[{"a":{"api_tokens":"#"}},{"token":"#"}]"##),
            (r#"{"password":"a\"b\\"}"#, r##"{"password":"#"}"##),
            (r#"{"pass\u0077ord":"x"}"#, r##"{"pass\u0077ord":"#"}"##),
            (r#"{"password":""}"#, r##"{"password":"#"}"##),
            // part of a line, behind a stray quote, cut off
            (r#"5" pipe, got {"password":"x"} from bob"#, r##"5" pipe, got {"password":"#"} from bob"##),
            (r#"{"password":"hunt"#, r##"{"password":"#"##),
            (r#"{"password":["hunt", "er"#, r##"{"password":"#""##),
            // a string of JSON, twice, and one that ends early
            (r#"{"m":"{\"password\":\"x\\\"y\",\"n\":1}"}"#, r##"{"m":"{\"password\":\"#\",\"n\":1}"}"##),
            (r#"{"m":"{\"password\":12}"}"#, r##"{"m":"{\"password\":\"#\"}"}"##),
            (r#""{\"m\":\"{\\\"token\\\":\\\"x\\\"}\"}""#, r##""{\"m\":\"{\\\"token\\\":\\\"#\\\"}\"}""##),
            (r#"{"m":"{\"password\":\"x","n":"y"}"#, r##"{"m":"{\"password\":\"#","n":"y"}"##),
        ] {
            assert_eq!(mask(text, false), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_member_stays() {
        for text in [
            "",
            "\"",
            "\"password\"",
            "\"password\":",
            r#"the "password": field"#,
            r#"select "password"::text"#,
            r#"{"a":"password","b":"token"}"#,
            r#"password: "x""#,
            "{}",
            "[[[[",
        ] {
            assert_eq!(mask(text, false), text);
            assert_eq!(mask(text, true), text);
        }
    }

    #[test]
    fn removed_members_leave_valid_json() {
        for (text, expected) in [
            (r#"{"password":"x"}"#, "{}"),
            (r#"{"password":"x","a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"password":"x"}"#, r#"{"a":1}"#),
            (r#"{"a":1,"password":"x","b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"password":"x","token":[1,2],"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"password":"x" , "token":"y"}"#, r#"{"a":1 }"#),
            (r#"{"password":"x","token":"y"}"#, "{}"),
            (r#"{"m":"{\"password\":\"x\",\"a\":1}"}"#, r#"{"m":"{\"a\":1}"}"#),
        ] {
            assert_eq!(mask(text, true), expected, "{text}");
            serde_json::from_str::<serde_json::Value>(expected).unwrap();
        }
    }

    #[test]
    fn bare_numbers_are_told_by_what_stands_around_them() {
        for (text, number, expected) in [
            (r#"{"n":41}"#, "41", Some(0)),
            (r#"{"n": 41 ,"m":1}"#, "41", Some(0)),
            (r#"{"n":-41.0}"#, "-41.0", Some(0)),
            (r#"[41]"#, "41", Some(0)),
            (r#"{"n":[1, 41, 2]}"#, "41", Some(0)),
            (r#"{"m":"{\"n\":[1,41]}"}"#, "41", Some(1)),
            (r#""{\"n\":41}""#, "41", Some(1)),
            (r#"{"n":"41"}"#, "41", None),
            (r#"{"n":"of [41]"}"#, "41", Some(1)),
            (r#"["x,",41]"#, "41", Some(0)),
            ("[1-41-555]", "41", None),
            ("[+41]", "41", None),
            ("[1.41.5]", "41", None),
            ("[1e-41]", "1e-41", Some(0)),
            ("seats [41]", "41", None),
            ("n: 41", "41", None),
            ("41", "41", None),
        ] {
            let at = text.find("41").unwrap();
            let (range, quoted) = whole_bare_value(text.as_bytes(), at..at + 2);
            assert_eq!((&text[range], quoted), (number, expected), "{text}");
        }
    }
}
