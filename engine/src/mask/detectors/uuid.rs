//! UUIDs (RFC 9562): 8-4-4-4-12 hexadecimal digits, also in braces, which stay.

use super::borders::{behind_escape, ends_free, report_at, run_start, starts_free};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memchr_iter;
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "uuid",
    needs: Needs { all_of: class::HYPHEN, any_of: 0, digits: 0, length: LENGTH, literals: &[] },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[uuid]",
    form: Form::Code,
};

const LENGTH: usize = 36;
const FIRST_GROUP: usize = 8;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr_iter(b'-', text), |hyphen| uuid(text, hyphen), found);
}

/// The UUID of which this is the first hyphen.
fn uuid(text: &[u8], hyphen: usize) -> Option<Range<usize>> {
    if text.get(hyphen + 5) != Some(&b'-') {
        return None;
    }
    let start = hyphen.checked_sub(FIRST_GROUP)?;
    let end = start + LENGTH;
    let fits = text.get(start..end)?.iter().enumerate().all(|(at, byte)| match HYPHENS.contains(&at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    });
    let is_behind_escape = || {
        let run = run_start(text, start.saturating_sub(4), start, |byte| byte.is_ascii_hexdigit());
        run < start && behind_escape(text, run) == start
    };
    (fits && ends_free(text, end) && (starts_free(text, start) || is_behind_escape())).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uuids_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("550e8400-e29b-41d4-a716-446655440000", "#"),
                ("{550E8400-E29B-41D4-A716-446655440000}", "{#}"),
                ("/orders/550e8400-e29b-41d4-a716-446655440000/items", "/orders/#/items"),
                ("id%3D550e8400-e29b-41d4-a716-446655440000", "id%3D#"),
                (r"\u003d550e8400-e29b-41d4-a716-446655440000", r"\u003d#"),
                ("pod-550e8400-e29b-41d4-a716-446655440000.log", "pod-#.log"),
            ],
        );
    }

    #[test]
    fn what_is_no_uuid_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "550e8400e29b41d4a716446655440000",
                "550e8400-e29b-41d4-a716-44665544000",
                "550e8400-e29b-41d4-a716-4466554400001",
                "0550e8400-e29b-41d4-a716-446655440000",
                "550e8400-e29b-41d4-a716-44665544000g",
                "550e8400-e29b-41d4a-716-446655440000",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(&ENTRY, &["-", "a", "aaaa-", "550e8400-e29b-41d4-a716-"]);
    }

    proptest! {
        #[test]
        fn any_uuid_is_found_wherever_it_stands_free(
            uuid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{uuid}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
