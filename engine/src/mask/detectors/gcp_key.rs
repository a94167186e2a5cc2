//! Keys of Google Cloud: API keys (`AIza…`), OAuth access tokens (`ya29.…`) and client secrets (`GOCSPX-…`).

use super::borders::{ends_free, is_word, report_at, run_end, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr3_iter;

pub(super) const ENTRY: Entry = Entry {
    name: "gcp_key",
    needs: Needs { all_of: class::UPPER, any_of: 0, digits: 0, length: 25, literals: &["aiza", "ya29.", "gocspx-"] },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[gcp_key]",
    form: Form::Text,
};

const FEWEST_OF_ACCESS_TOKEN: usize = 20;

fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr3_iter(b'A', b'y', b'G', text), |start| Some(start..key_end(text, start)?), found);
}

fn key_end(text: &[u8], start: usize) -> Option<usize> {
    let of_key = |byte: u8| is_word(byte) || byte == b'-';
    let exactly = |prefix: &[u8], length: usize| {
        let end = start + prefix.len() + length;
        (text.get(start + prefix.len()..end)?.iter().all(|&byte| of_key(byte)) && ends_free(text, end)).then_some(end)
    };
    let rest = &text[start..];
    if !matches!(rest.get(1), Some(b'I' | b'a' | b'O')) || !starts_free(text, start) {
        return None;
    }
    if rest.starts_with(b"AIza") {
        exactly(b"AIza", 35)
    } else if rest.starts_with(b"GOCSPX-") {
        exactly(b"GOCSPX-", 28)
    } else if rest.starts_with(b"ya29.") {
        // Random characters hold a capital soon; words do not.
        let first = &text[start + 5..text.len().min(start + 5 + 2 * FEWEST_OF_ACCESS_TOKEN)];
        if !first.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let end = run_end(text, start + 5, |byte| of_key(byte) || byte == b'.');
        // A full stop behind it is none of it.
        let end = start + text[start..end].iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1);
        (end >= start + 5 + FEWEST_OF_ACCESS_TOKEN).then_some(end)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("AIzaSyA-1234567890abcdefghijklmnopqrstu", "#"),
                ("?key=AIzaSyA-1234567890abcdefghijklmnopqrstu&x", "?key=#&x"),
                ("ya29.a0AfH6SMBx1234567890.", "#."),
                ("token%3Dya29.a0AfH6SMBx.1234-567_890 x", "token%3D# x"),
                ("\"GOCSPX-abcdefghijklmnopqrstuvwxyz12\"", "\"#\""),
            ],
        );
    }

    #[test]
    fn what_is_no_key_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "AIza",
                "AIzaSyA-1234567890abcdefghijklmnopqrst",
                "AIzaSyA-1234567890abcdefghijklmnopqrstuv",
                "xAIzaSyA-1234567890abcdefghijklmnopqrstu",
                "ya29.short",
                "GOCSPX-short",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["A", "AIza", "ya29.", "ya29. ", "GOCSPX-", "ya29.-"]);
    }

    proptest! {
        #[test]
        fn any_key_is_found_wherever_it_stands_free(
            key in prop_oneof!["AIza[A-Za-z0-9_-]{35}", "ya29\\.[A-Za-z0-9_-]{20,200}", "GOCSPX-[A-Za-z0-9_-]{28}"],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{key}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
