//! Keys of Azure: those of connection strings (the value only), signatures of shared access URLs (the value only), and
//! client secrets of Entra ID, which have `7Q~` or `8Q~` at a fixed place.

use super::borders::{ends_free, ends_with_ignoring_case, is_word, report_at, run_end, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::{memchr2_iter, memmem};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "azure_key",
    needs: Needs {
        all_of: 0,
        any_of: class::EQUALS | class::UPPER,
        digits: 0,
        length: 37,
        literals: &["accountkey=", "sharedaccesskey=", "sharedsecretkey=", "sig=", "7q~", "8q~"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[azure_key]",
    form: Form::Text,
};

const KEY_NAMES: [&[u8]; 3] = [b"accountkey", b"sharedaccesskey", b"sharedsecretkey"];
const SHORTEST_KEY: usize = 40;
/// An HMAC-SHA256 in base64, with or without escapes.
const SIGNATURE_LENGTHS: std::ops::RangeInclusive<usize> = 43..=60;
/// How far from the signature the other parameters of its URL may be.
const REACH: usize = 512;

fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr2_iter(b'=', b'~', text), |anchor| secret(text, anchor), found);
}

fn secret(text: &[u8], anchor: usize) -> Option<Range<usize>> {
    let before = &text[..anchor];
    if text[anchor] == b'~' {
        return client_secret(text, anchor);
    }
    if KEY_NAMES.iter().any(|name| ends_with_ignoring_case(before, name)) {
        let end = value_end(text, anchor + 1, b"+/=");
        return (end - anchor > SHORTEST_KEY).then_some(anchor + 1..end);
    }
    if before.ends_with(b"sig") && !before[..anchor - 3].last().is_some_and(|&byte| is_word(byte)) {
        return signature(text, anchor + 1);
    }
    None
}

fn signature(text: &[u8], start: usize) -> Option<Range<usize>> {
    let window = &text[..text.len().min(start + SIGNATURE_LENGTHS.end() + 2)];
    let value = value_end(window, start, b"+/-_");
    let end = run_end(window, value, |byte| byte == b'=');
    if !SIGNATURE_LENGTHS.contains(&(end - start)) {
        return None;
    }
    let of_url = |byte: u8| byte > b' ' && !b"\"'<>".contains(&byte);
    let url = run_start(text, start.saturating_sub(REACH), start, of_url)
        ..run_end(&text[..text.len().min(end + REACH)], end, of_url);
    let has = |name: &[u8]| {
        memmem::find_iter(&text[url.clone()], name)
            .any(|at| at > 0 && b"?&;".contains(&text[url.start + at - 1]) || at == 0)
    };
    (has(b"se=") || has(b"sv=")).then_some(start..end)
}

/// The end of letters, digits, such signs and what base64 has percent-encoded (`+`, `/`, `=`). Another escape is of the text
/// around it.
fn value_end(text: &[u8], start: usize, signs: &[u8]) -> usize {
    let plain_end = |from| run_end(text, from, |byte| byte.is_ascii_alphanumeric() || signs.contains(&byte));
    let mut end = plain_end(start);
    while let [b'%', b'2', b'B' | b'F' | b'b' | b'f', ..] | [b'%', b'3', b'D' | b'd', ..] = text[end..] {
        end = plain_end(end + 3);
    }
    end
}

/// `xxx8Q~` and 31 to 34 characters.
fn client_secret(text: &[u8], tilde: usize) -> Option<Range<usize>> {
    const BEFORE: usize = 5;
    let of_secret = |byte: u8| is_word(byte) || b"~.-".contains(&byte);
    let start = tilde.checked_sub(BEFORE)?;
    let is_secret = matches!(text[start + 3..tilde], [b'7' | b'8', b'Q'])
        && text[start..start + 3].iter().all(|&byte| of_secret(byte))
        && starts_free(text, start);
    if !is_secret {
        return None;
    }
    let run = run_end(&text[..text.len().min(tilde + 1 + 36)], tilde + 1, of_secret);
    // A full stop behind it is none of it.
    let end = tilde + text[tilde..run].iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1);
    (matches!(end - tilde - 1, 31..=34) && ends_free(text, end)).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found() {
        let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq==";
        let signature = "Z%2FRHIX5Xcg0Mq2rqI3OlWTjEg2tYkboXr1P9ZUXDtkk%3D";
        for (text, expected) in [
            ("AccountName=a;AccountKey={k};EndpointSuffix=x", "AccountName=a;AccountKey=#;EndpointSuffix=x"),
            ("SharedAccessKeyName=x;SharedAccessKey={k}", "SharedAccessKeyName=x;SharedAccessKey=#"),
            ("sharedsecretkey={k}", "sharedsecretkey=#"),
            (
                "https://a.blob.core.windows.net/c?sv=2022-11-02&sig={s}",
                "https://a.blob.core.windows.net/c?sv=2022-11-02&sig=#",
            ),
            ("/c?sig={s}&se=2024 x", "/c?sig=#&se=2024 x"),
            ("u%3D/c?se=1&sig={s}%26y", "u%3D/c?se=1&sig=#%26y"),
            ("x%3DAccountKey={k}%26y", "x%3DAccountKey=#%26y"),
            ("secret abc8Q~abcdefghijklmnopqrstuvwxyz01234567.", "secret #."),
            ("\"a.c7Q~abcdefghijklmnopqrstuvwxyz012345\"", "\"#\""),
        ] {
            assert_found(&ENTRY, &[(&text.replace("{k}", key).replace("{s}", signature), expected)]);
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "AccountKey=",
                "AccountKey=short",
                "/c?sig=Z%2FRHIX5Xcg0Mq2rqI3OlWTjEg2tYkboXr1P9ZUXDtkk%3D",
                "/c?sv=1&sig=short",
                "abc9Q~abcdefghijklmnopqrstuvwxyz01234567",
                "abc8Q~abcdefghijklmnopqrstuvwxyz",
                "abc8Q~abcdefghijklmnopqrstuvwxyz0123456789",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        let signature = format!("?sig={}&", "a".repeat(44));
        assert_linear(&ENTRY, &["=", "~", "8Q~", "aaa8Q~", "sig=", "AccountKey=", &signature]);
    }

    proptest! {
        #[test]
        fn any_key_is_found_wherever_it_stands(
            (name, key) in prop_oneof![
                (Just("AccountKey="), "[A-Za-z0-9+/]{40,90}={0,2}"),
                (Just("SharedAccessKey="), "[A-Za-z0-9+/]{43}="),
                (Just("?se=1&sig="), "[A-Za-z0-9]{43}%3D"),
                (Just(""), "[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_.-]{33}[a-z]"),
            ],
            (before, after) in ("([a-z ]*[;(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{name}{key}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}{name}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
