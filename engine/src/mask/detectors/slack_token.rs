//! Tokens of Slack (`xoxb-…` and its kin, `xapp-…`), and what is secret in the URL of a webhook.

use super::borders::{report_at, run_end, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr2_iter;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "slack_token",
    needs: Needs {
        all_of: 0,
        any_of: class::HYPHEN | class::SLASH,
        digits: 0,
        length: 25,
        literals: &[
            "xoxb-",
            "xoxp-",
            "xoxa-",
            "xoxr-",
            "xoxs-",
            "xoxo-",
            "xoxe-",
            "xoxe.xox",
            "xapp-",
            "hooks.slack.com/services/",
        ],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[slack_token]",
    form: Form::Text,
};

const FEWEST_OF_TOKEN: usize = 20;
const WEBHOOK: &[u8] = b"hooks.slack.com/services";

fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr2_iter(b'x', b'/', text), |anchor| secret(text, anchor), found);
}

fn secret(text: &[u8], anchor: usize) -> Option<Range<usize>> {
    if text[anchor] == b'/' {
        return text[..anchor].ends_with(WEBHOOK).then(|| webhook_end(text, anchor + 1).map(|end| anchor + 1..end))?;
    }
    let prefix = match text[anchor..] {
        [b'x', b'o', b'x', b'b' | b'p' | b'a' | b'r' | b's' | b'o' | b'e', b'-', ..] => 5,
        [b'x', b'o', b'x', b'e', b'.', b'x', b'o', b'x', _, b'-', ..] => 10,
        [b'x', b'a', b'p', b'p', b'-', ..] => 5,
        _ => return None,
    };
    if !starts_free(text, anchor) {
        return None;
    }
    let body = anchor + prefix;
    let end = run_end(text, body, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (end - body >= FEWEST_OF_TOKEN).then_some(anchor..end)
}

/// The end of `T…/B…/…`.
fn webhook_end(text: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    for initial in [b'T', b'B'] {
        let end = run_end(text, position, |byte| byte.is_ascii_alphanumeric());
        if text.get(position) != Some(&initial) || text.get(end) != Some(&b'/') {
            return None;
        }
        position = end + 1;
    }
    let end = run_end(text, position, |byte| byte.is_ascii_alphanumeric());
    (end > position).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_found() {
        // Put together here, so that no scanner of sources takes them for real.
        for (prefix, body) in [
            ("xoxb-", "123456789012-abcdefABCDEF"),
            ("xoxe.xoxp-", "1-abcdefghijklmnopqrst"),
            ("xapp-", "1-A0123456789-abcdefghijk"),
        ] {
            assert_found(
                &ENTRY,
                &[
                    (&format!("{prefix}{body}"), "#"),
                    (&format!("t={prefix}{body}."), "t=#."),
                    (&format!("%20{prefix}{body} x"), "%20# x"),
                ],
            );
        }
        let webhook = "https://hooks.slack.com/services/";
        assert_found(&ENTRY, &[(&format!("{webhook}T0000/B0000/abcdXYZ?x"), &format!("{webhook}#?x"))]);
    }

    #[test]
    fn what_is_no_token_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "xoxb-",
                "xoxb-short",
                "xoxz-123456789012-abcdefABCDEF",
                "axoxb-123456789012-abcdefABCDEF",
                "https://hooks.slack.com/services/",
                "https://hooks.slack.com/services/T0/x",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &["x", "/", "xoxb-", "xoxe.", "xoxb- ", "hooks.slack.com/services/", "hooks.slack.com/services/T/B/"],
        );
    }

    proptest! {
        #[test]
        fn any_token_is_found_wherever_it_stands_free(
            token in prop_oneof!["xox[bparsoe]-[A-Za-z0-9-]{20,60}", "xoxe\\.xox[bp]-[A-Za-z0-9-]{20,60}", "xapp-[A-Za-z0-9-]{20,60}"],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{token}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
