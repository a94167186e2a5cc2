//! E-mail addresses: a practical RFC 5321 and 6531 (letters of any script), also with the `@` percent-encoded (`%40`).
//!
//! Found from the `@` outwards: first the domain, which needs a dot and a label behind it that begins with two letters;
//! then the local part to the left. In doubt the match is the longer one. Of the characters that RFC 5321 allows in
//! a local part, `/ = ? & { | } and the backquote are left out: in telemetry they part a URL or a structure.

use super::borders::run_end;
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr2_iter;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "email",
    needs: Needs { all_of: class::DOT, any_of: class::AT | class::PERCENT, digits: 0, length: 6, literals: &[] },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[email]",
    form: Form::Email,
};

/// Each byte is looked at twice at most: once to the right of a sign, once to the left, never past the last match.
fn find(text: &[u8], found: Report<'_>) {
    let mut last: Option<Range<usize>> = None;
    for at in memchr2_iter(b'@', b'%', text) {
        let Some(domain) = behind_sign(text, at).and_then(|from| domain(text, from)) else { continue };
        let floor = last.as_ref().map_or(0, |last| last.end);
        let start = local_part(text, floor, at);
        match &mut last {
            // `a@b.org@c.org`: the second sign has the first address as its local part.
            Some(last) if start == at && at == floor => last.end = domain.end,
            _ if start == at => {}
            _ => {
                if let Some(complete) = last.replace(start..domain.end) {
                    found(complete);
                }
            }
        }
    }
    if let Some(complete) = last {
        found(complete);
    }
}

/// Where the domain begins, if an at sign stands here: plain, percent-encoded, or percent-encoded twice.
fn behind_sign(text: &[u8], at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest[0] == b'@' {
        return Some(at + 1);
    }
    [b"%40".as_slice(), b"%2540"].iter().find(|sign| rest.starts_with(sign)).map(|sign| at + sign.len())
}

fn domain(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut position = from;
    let mut end = from;
    let mut labels_done = 0;
    let mut label = 0;
    let mut leading_letters = 0;
    let mut valid = false;
    while let Some(char) = Char::at(text, position) {
        match char.kind {
            Kind::Letter | Kind::Digit => {
                if char.kind == Kind::Letter && leading_letters == label {
                    // One character of another script is a word: `.com` in Chinese is two of them, three bytes each.
                    leading_letters += 1;
                    valid |= labels_done > 0 && leading_letters >= 2;
                }
                label += 1;
                end = position + char.length;
                if label >= 2 {
                    // Whether it begins with two letters is known; the rest of the word tells no more.
                    end = run_end(text, end, |byte| byte.is_ascii_alphanumeric());
                    position = end;
                    continue;
                }
            }
            Kind::Underscore => {
                label += 1;
                end = position + char.length;
            }
            Kind::Hyphen if label > 0 => label += 1,
            Kind::Dot if label > 0 => {
                labels_done += 1;
                label = 0;
                leading_letters = 0;
            }
            _ => break,
        }
        position += char.length;
    }
    valid.then_some(from..end)
}

/// Where the local part before `at` begins; `at` itself if there is none. Not before `floor`.
fn local_part(text: &[u8], floor: usize, at: usize) -> usize {
    if at > floor && text[at - 1] == b'"' {
        return quoted_local_part(text, floor, at).unwrap_or(at);
    }
    let mut start = at;
    // The leftmost character that may begin a local part: quotes and signs around an address are not part of it.
    let mut begin = at;
    while let Some(char) = Char::before(text, floor, start) {
        let may_begin = match char.kind {
            Kind::Letter | Kind::Digit | Kind::Underscore | Kind::Percent => true,
            Kind::Dot | Kind::Hyphen | Kind::Sign => false,
            Kind::Other => break,
        };
        start -= char.length;
        if may_begin {
            begin = start;
        }
    }
    // In JSON the local part of "\nbob@example.com" would seem to be `nbob`. A lone backslash must not stay behind, or the
    // text were no JSON any more; nor may a letter of the address, which it would be if the text is none.
    if begin < at {
        begin -= text[floor..begin].iter().rev().take_while(|&&byte| byte == b'\\').count();
    }
    begin
}

/// `"john doe"@example.com`, with words only between the quotes: a quote before `@` mostly opens a text, as in `["@example.com"]`.
fn quoted_local_part(text: &[u8], floor: usize, at: usize) -> Option<usize> {
    /// RFC 5321, 4.5.3.1.1, and the quotes.
    const MAX_QUOTED: usize = 66;
    let close = at - 1;
    let window = floor.max(at.saturating_sub(MAX_QUOTED));
    let open = window + memchr::memrchr(b'"', &text[window..close])?;
    let words = &text[open + 1..close];
    let is_words = words.first()?.is_ascii_alphanumeric()
        && words.last()?.is_ascii_alphanumeric()
        && words.iter().all(|byte| byte.is_ascii_alphanumeric() || b" ._+-".contains(byte));
    is_words.then_some(open)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of any script. So is a byte that is not UTF-8: rather mask too much.
    Letter,
    Digit,
    Underscore,
    Percent,
    Dot,
    Hyphen,
    /// Any other that may stand inside of a local part.
    Sign,
    /// What is no part of an address.
    Other,
}

/// Of ASCII.
static KINDS: [Kind; 128] = {
    let mut kinds = [Kind::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            b'0'..=b'9' => Kind::Digit,
            b'_' => Kind::Underscore,
            b'%' => Kind::Percent,
            b'.' => Kind::Dot,
            b'-' => Kind::Hyphen,
            b'+' | b'\'' | b'!' | b'#' | b'$' | b'*' | b'~' | b'^' => Kind::Sign,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
};

#[derive(Clone, Copy)]
struct Char {
    kind: Kind,
    length: usize,
}

impl Char {
    #[inline]
    fn at(text: &[u8], at: usize) -> Option<Char> {
        let &first = text.get(at)?;
        if let Some(&kind) = KINDS.get(usize::from(first)) {
            return Some(Char { kind, length: 1 });
        }
        let length = match first {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        Some(Char::wide(text.get(at..at + length).unwrap_or_default()))
    }

    /// The character that ends at `end`, not reaching before `floor`.
    #[inline]
    fn before(text: &[u8], floor: usize, end: usize) -> Option<Char> {
        let &last = text[floor..end].last()?;
        if let Some(&kind) = KINDS.get(usize::from(last)) {
            return Some(Char { kind, length: 1 });
        }
        let from = floor.max(end.saturating_sub(4));
        let start = (from..end).rev().find(|&start| text[start] & 0xc0 != 0x80).unwrap_or(end - 1);
        Some(Char::wide(&text[start..end]))
    }

    fn wide(bytes: &[u8]) -> Char {
        match std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
            Some(char) if char.is_alphanumeric() => Char { kind: Kind::Letter, length: bytes.len() },
            Some(_) => Char { kind: Kind::Other, length: bytes.len() },
            None => Char { kind: Kind::Letter, length: 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut copied = 0;
        find(text, &mut |range| {
            out.extend_from_slice(&text[copied..range.start]);
            out.push(b'#');
            copied = range.end;
        });
        out.extend_from_slice(&text[copied..]);
        out
    }

    #[test]
    fn addresses_are_found_whole() {
        for (text, expected) in [
            ("bob@example.com", "#"),
            ("to bob.smith+tag@mail.example.co.uk, now", "to #, now"),
            ("<bob@example.com>", "<#>"),
            ("mailto:bob@example.com?subject=x", "mailto:#?subject=x"),
            ("/u?email=bob@example.com&x=1", "/u?email=#&x=1"),
            ("/u?email=bob%40example.com&x=1", "/u?email=#&x=1"),
            ("/u?to=%2Fmail%3Fbob%2540example.com", "/u?to=#"),
            ("'bob@example.com'", "'#'"),
            ("O'Brien@example.com.", "#."),
            ("mail bob@example.com...", "mail #..."),
            ("bob@example.com:8080", "#:8080"),
            ("a@b.co c@d.org", "# #"),
            ("a@b.co,c@d.org", "#,#"),
            ("a@b.org@c.org", "#"),
            ("bob@example.com1234", "#"),
            ("bob@sub_domain.example.com", "#"),
            ("bob@xn--bcher-kva.example", "#"),
            ("\"john doe\"@example.com", "#"),
            ("jürgen@exämple.de", "#"),
            ("メール：taro@example.jp、電話", "メール：#、電話"),
            ("“bob@example.com”", "“#”"),
            ("用户@例子.广告", "#"),
            (r#"{"text":"line\nbob@example.com"}"#, r##"{"text":"line#"}"##),
            (r#"{"text":"a\\bob@example.com"}"#, r##"{"text":"a#"}"##),
            ("redis://user:p@ss@host.com/0", "redis://user:p@#/0"),
        ] {
            assert_eq!(String::from_utf8(mask(text.as_bytes())).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_stays() {
        for text in [
            "",
            "@",
            "@@@",
            "a@",
            "@example.com",
            "[\"bob\", \"@example.com\"]",
            "bob@localhost",
            "bob@10.0.0.1",
            "com.acme.Thing@1a2b3c4d",
            "react@18.0.0-rc.1",
            "image@sha256:0123456789abcdef",
            "bob@.com",
            "bob@example.",
            "bob@example.c",
            "bob @example.com",
            "100%",
            "100%40",
            "fw529a3039@dt=abc",
        ] {
            assert_eq!(mask(text.as_bytes()), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_searched_too() {
        assert_eq!(mask(b"\x00\x01bob@example.com\x00"), b"\x00\x01#\x00");
        assert_eq!(mask(b"\x00j\xfcrgen@example.com\x00\xff"), b"\x00#\x00\xff");
        assert_eq!(mask(b"bob@example.com\xe4\xb8"), b"#");
    }
}
