//! Keys of AWS: access key ids and other unique ids (IAM user guide, “IAM identifiers”: their prefixes), and secret access
//! keys, which look like any base64 and are known by the words before them.

use super::borders::{ends_free, run_end, starts_free, starts_with_ignoring_case};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::{memchr2, memmem};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "aws_key",
    needs: Needs {
        all_of: class::UPPER,
        any_of: 0,
        digits: 0,
        length: 20,
        literals: &["akia", "asia", "abia", "acca", "agpa", "aida", "aipa", "anpa", "anva", "aroa", "secret"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[aws_key]",
    form: Form::Text,
};

const PREFIXES: [&[u8]; 10] =
    [b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"AGPA", b"AIDA", b"AIPA", b"ANPA", b"ANVA", b"AROA"];
const ID_LENGTH: usize = 20;
const SECRET_LENGTH: usize = 40;
/// How far before a secret key the words may be that tell what it is, and how far apart from each other.
const REACH: usize = 40;

fn find(text: &[u8], found: Report<'_>) {
    let mut done = 0;
    let mut position = 0;
    while let Some(offset) = memchr2(b's', b'S', &text[position..]) {
        let word = position + offset;
        position = word + 1;
        if let Some(key) = secret_key_behind(text, word) {
            find_ids(text, done..key.start, found);
            done = key.end;
            position = key.end;
            found(key);
        }
    }
    find_ids(text, done..text.len(), found);
}

fn find_ids(text: &[u8], within: Range<usize>, found: Report<'_>) {
    let is_of_id = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7');
    let mut position = within.start;
    while let Some(offset) = memmem::find(&text[position..within.end], b"A") {
        let start = position + offset;
        let end = start + ID_LENGTH;
        position = start + 1;
        let is_id = end <= within.end
            && PREFIXES.contains(&&text[start..start + 4])
            && text[start..end].iter().all(is_of_id)
            && starts_free(text, start)
            && ends_free(text, end);
        if is_id {
            position = end;
            found(start..end);
        }
    }
}

/// A secret key, if the word at `word` announces it.
fn secret_key_behind(text: &[u8], word: usize) -> Option<Range<usize>> {
    let rest = &text[word..];
    if !starts_with_ignoring_case(rest, b"secret") {
        return None;
    }
    let names = [b"secret_access_key".as_slice(), b"secret-access-key", b"secret access key", b"secretaccesskey"];
    let before = text[word.saturating_sub(REACH)..word].to_ascii_lowercase();
    let name_length = names
        .iter()
        .find(|name| starts_with_ignoring_case(rest, name))
        .map(|name| name.len())
        .or_else(|| memmem::find(&before, b"aws").map(|_| b"secret".len()))?;
    let from = word + name_length;
    let mut position = from;
    while position <= text.len().min(from + REACH) {
        let end = run_end(&text[..text.len().min(position + SECRET_LENGTH + 1)], position, is_base64);
        if end - position == SECRET_LENGTH && is_secret(&text[position..end]) && text.get(end) != Some(&b'=') {
            return Some(position..end);
        }
        // Of a longer run the rest is passed over too.
        position = end.max(run_end(&text[..text.len().min(from + REACH + 1)], end.min(from + REACH), is_base64)) + 1;
    }
    None
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+'
}

fn is_secret(run: &[u8]) -> bool {
    let has = |of: fn(&u8) -> bool| run.iter().any(of);
    has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
        && !run.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn keys_are_found() {
        for (text, expected) in [
            ("AKIAIOSFODNN7EXAMPLE", "#"),
            ("id=ASIAIOSFODNN7EXAMPLE,", "id=#,"),
            ("id%3DAROAIOSFODNN7EXAMPLE:session", "id%3D#:session"),
            ("aws_secret_access_key={s}", "aws_secret_access_key=#"),
            ("AWS_SECRET_ACCESS_KEY: \"{s}\"", "AWS_SECRET_ACCESS_KEY: \"#\""),
            (r#"{"SecretAccessKey": "{s}"}"#, r##"{"SecretAccessKey": "#"}"##),
            (r#"{\"aws\":{\"secret\":\"{s}\"}}"#, r##"{\"aws\":{\"secret\":\"#\"}}"##),
            ("aws key AKIAIOSFODNN7EXAMPLE secret {s}", "aws key # secret #"),
            ("secret_access_key AKIAIOSFODNN7EXAMPLE {s}", "secret_access_key # #"),
        ] {
            assert_found(&ENTRY, &[(&text.replace("{s}", SECRET), expected)]);
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        for text in [
            "",
            "AKIA",
            "AKIAIOSFODNN7EXAMPL",
            "AKIAIOSFODNN7EXAMPLES",
            "AKIAIOSFODNN1EXAMPLE",
            "akiaiosfodnn7example",
            "xAKIAIOSFODNN7EXAMPLE",
            "{s}",
            "the secret {s}",
            "aws_secret_access_key={s}x",
            "aws_secret_access_key={s}=",
            "aws_secret_access_key=a1b2c3d4e5f60718293a4b5c6d7e8f9001122334",
            "aws_secret_access_key                                                {s}",
        ] {
            assert_stays(&ENTRY, &[&text.replace("{s}", SECRET)]);
        }
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["A", "s", "AKIA", "secret", "aws secret", "secretaccesskey", "awssecret ", "AKIA "]);
    }

    proptest! {
        #[test]
        fn any_key_is_found_wherever_it_stands(
            id in "A[KS]IA[A-Z2-7]{16}",
            secret in "[A-Z][a-z][0-9][A-Za-z0-9/+]{36}[g-z]",
            (before, after) in ("([a-z ]*[=(:,] ?)?", "([,;)\"] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{id}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
            let text = format!("aws_secret_access_key = \"{secret}\"{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("aws_secret_access_key = \"#\"{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
