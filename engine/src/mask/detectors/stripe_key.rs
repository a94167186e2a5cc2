//! Keys of Stripe: secret and restricted keys, and signing secrets of webhooks. Publishable keys (`pk_`) are public.

use super::borders::{report_at, run_end, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr_iter;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "stripe_key",
    needs: Needs {
        all_of: class::UNDERSCORE | class::LOWER,
        any_of: 0,
        digits: 0,
        length: 24,
        literals: &["sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[stripe_key]",
    form: Form::Text,
};

const KEY_PREFIXES: [&[u8]; 4] = [b"sk_live", b"sk_test", b"rk_live", b"rk_test"];
const FEWEST_OF_KEY: usize = 16;
const WEBHOOK_PREFIX: &[u8] = b"whsec";
const FEWEST_OF_WEBHOOK: usize = 24;

fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr_iter(b'_', text), |underscore| key(text, underscore), found);
}

/// The key whose prefix ends with this underscore.
fn key(text: &[u8], underscore: usize) -> Option<Range<usize>> {
    let before = &text[..underscore];
    let body = underscore + 1;
    if let Some(prefix) = KEY_PREFIXES.iter().find(|prefix| before.ends_with(prefix)) {
        let start = underscore - prefix.len();
        let end = run_end(text, body, |byte| byte.is_ascii_alphanumeric());
        return (end - body >= FEWEST_OF_KEY && starts_free(text, start)).then_some(start..end);
    }
    if before.ends_with(WEBHOOK_PREFIX) {
        let start = underscore - WEBHOOK_PREFIX.len();
        let end = run_end(text, body, |byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        return (end - body >= FEWEST_OF_WEBHOOK && starts_free(text, start)).then_some(start..end);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found() {
        // Put together here, so that no scanner of sources takes them for real.
        for (prefix, body) in [
            ("sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"),
            ("sk_test_", "4eC39HqLyjWDarjt"),
            ("rk_live_", "51Habcdefghijklmnop"),
            ("whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=="),
        ] {
            assert_found(
                &ENTRY,
                &[
                    (&format!("{prefix}{body}"), "#"),
                    (&format!("key={prefix}{body}."), "key=#."),
                    (&format!("a\\n{prefix}{body}, x"), "a\\n#, x"),
                ],
            );
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "sk_live_",
                "sk_test_short",
                "pk_live_4eC39HqLyjWDarjtT1zdp7dc",
                "task_live_4eC39HqLyjWDarjtT1zdp7dc",
                "whsec_short",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["_", "sk_live_", "whsec_", "whsec_ ", "sk_live_a "]);
    }

    proptest! {
        #[test]
        fn any_key_is_found_wherever_it_stands_free(
            key in prop_oneof!["[sr]k_(live|test)_[A-Za-z0-9]{16,99}", "whsec_[A-Za-z0-9+/]{24,44}={0,2}"],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{key}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
