//! Tokens of GitHub: `ghp_` and its kin, and fine-grained ones (`github_pat_`).

use super::borders::{is_word, report_at, run_end, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr_iter;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "github_token",
    needs: Needs {
        all_of: class::UNDERSCORE | class::LOWER,
        any_of: 0,
        digits: 0,
        length: 40,
        literals: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[github_token]",
    form: Form::Text,
};

const FEWEST_CLASSIC: usize = 36;
const FEWEST_FINE_GRAINED: usize = 50;

/// A token that is longer than it must be is masked as far as it goes.
fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr_iter(b'_', text), |underscore| token(text, underscore), found);
}

fn token(text: &[u8], underscore: usize) -> Option<Range<usize>> {
    let body = underscore + 1;
    match &text[..underscore] {
        [.., b'g', b'h', b'p' | b'o' | b'u' | b's' | b'r'] if starts_free(text, underscore - 3) => {
            let end = run_end(text, body, |byte| byte.is_ascii_alphanumeric());
            (end - body >= FEWEST_CLASSIC).then_some(underscore - 3..end)
        }
        before if before.ends_with(b"github_pat") && starts_free(text, underscore - 10) => {
            let end = run_end(text, body, is_word);
            (end - body >= FEWEST_FINE_GRAINED).then_some(underscore - 10..end)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_found() {
        let body = "abcdefghijklmnopqrstuvwxyz0123456789";
        for (text, expected) in [
            ("ghp_{b}", "#"),
            ("token gho_{b}ABCD.", "token #."),
            ("https://x:ghs_{b}@github.com", "https://x:#@github.com"),
            ("github_pat_{b}_{b}", "#"),
            ("t%3Dghu_{b}", "t%3D#"),
        ] {
            assert_found(&ENTRY, &[(&text.replace("{b}", body), expected)]);
        }
    }

    #[test]
    fn what_is_no_token_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "ghp_",
                "ghp_abcdefghijklmnopqrstuvwxyz012345678",
                "ghx_abcdefghijklmnopqrstuvwxyz0123456789",
                "xghp_abcdefghijklmnopqrstuvwxyz0123456789",
                "github_pat_abcdefghijklmnopqrstuvwxyz",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["_", "ghp_", "github_pat_", "ghp_ ", "github_pat_ "]);
    }

    proptest! {
        #[test]
        fn any_token_is_found_wherever_it_stands_free(
            token in prop_oneof!["gh[pousr]_[A-Za-z0-9]{36,80}", "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"],
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{token}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
