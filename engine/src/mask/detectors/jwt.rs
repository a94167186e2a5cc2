//! JSON web tokens, signed (RFC 7515: three parts) or encrypted (RFC 7516: five), in compact form.
//!
//! The first part decodes to a JSON object with `"alg"`; so it begins with `eyJ`. That is proof enough: what is before it
//! may be a word. Payload and signature may be empty.

use super::borders::{report_at, run_end, run_start};
use super::{class, Entry, Find, Form, Needs, Report};
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use memchr::memmem;

pub(super) const ENTRY: Entry = Entry {
    name: "jwt",
    needs: Needs {
        all_of: class::DOT | class::UPPER | class::LOWER,
        any_of: 0,
        digits: 0,
        length: 18,
        literals: &["eyj"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[jwt]",
    form: Form::Text,
};

const SHORTEST_HEADER: usize = 16;
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn find(text: &[u8], found: Report<'_>) {
    report_at(memmem::find_iter(text, b"eyJ"), |start| Some(start..token_end(text, start)?), found);
}

fn token_end(text: &[u8], start: usize) -> Option<usize> {
    if !may_begin(text, start) {
        return None;
    }
    let header = &text[start..run_end(text, start, is_base64url)];
    if header.len() < SHORTEST_HEADER || text.get(start + header.len()) != Some(&b'.') {
        return None;
    }
    let header_end = start + header.len();
    let header = BASE64URL.decode(header).ok()?;
    let holds = |member: &[u8]| memmem::find(&header, member).is_some();
    if !header.ends_with(b"}") || !holds(b"\"alg\"") {
        return None;
    }
    let encrypted = if holds(b"\"enc\"") { parts_end(text, header_end, 4) } else { None };
    encrypted.or_else(|| parts_end(text, header_end, 2))
}

/// Each place where a header begins costs a look at all of it: in a run of base64 these are few.
fn may_begin(text: &[u8], start: usize) -> bool {
    const REACH: usize = 64;
    let run = run_start(text, start.saturating_sub(REACH), start, is_base64url);
    let within_long_run = start - run >= REACH;
    !within_long_run && memmem::find(&text[run..start], b"eyJ").is_none()
}

/// The end of so many parts, each behind a dot.
fn parts_end(text: &[u8], from: usize, parts: usize) -> Option<usize> {
    (0..parts).try_fold(from, |end, _| (text.get(end) == Some(&b'.')).then(|| run_end(text, end + 1, is_base64url)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    const ENCRYPTED: &str = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0";

    #[test]
    fn tokens_are_found() {
        for (text, expected) in [
            ("{h}.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "#"),
            ("{h}.eyJzdWIiOiIxIn0.", "#"),
            ("{h}..c2lnbmF0dXJl", "#"),
            ("Bearer {h}.eyJzdWIiOiIxIn0.c2ln", "Bearer #"),
            ("token {h}.e30.c2ln. Then", "token #. Then"),
            ("?jwt={h}.e30.c2ln&x=1", "?jwt=#&x=1"),
            ("Bearer%20{h}.e30.c2ln", "Bearer%20#"),
            ("sess_{h}.e30.c2ln", "sess_#"),
            (r"a\n{h}.e30.c2ln", r"a\n#"),
            ("{h}.e30.c2ln,{h}.e30.c2ln", "#,#"),
            ("{e}..aXY.Y2lwaGVy.dGFn", "#"),
            ("{e}.a2V5.aXY.Y2lwaGVy.dGFn", "#"),
            ("{e}.a2V5.aXY", "#"),
        ] {
            assert_found(&ENTRY, &[(&text.replace("{h}", HEADER).replace("{e}", ENCRYPTED), expected)]);
        }
    }

    #[test]
    fn what_is_no_token_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "eyJ",
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.x",
                "eyJzdWIiOiIxMjM0NTY3ODkwIn0.e30.c2ln",
                "eyJabcdefghijklmnop.abc.def",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        let valid = format!("{HEADER}.");
        assert_linear(&ENTRY, &["eyJ", "eyJ.", "_eyJhIjoi", "eyJhbGciOiJIUzI1NiIs.", "x", &valid, HEADER]);
    }

    proptest! {
        #[test]
        fn any_token_is_found_wherever_it_stands(
            payload in "[A-Za-z0-9_-]{1,40}",
            signature in "[A-Za-z0-9_-]{0,40}",
            algorithm in "[A-Z0-9]{2,6}",
            (before, after) in ("([a-z ]*[=(,])?", "([,;)] ?[a-z]*)?"),
        ) {
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{algorithm}\"}}"));
            let text = format!("{before}{header}.{payload}.{signature}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
