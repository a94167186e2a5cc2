//! Private keys in PEM armour (RFC 7468; also OpenSSH's, PGP's, and SSH.com's with four dashes), from BEGIN to END.
//!
//! The line ends between may be real, escaped, or blanks: they are not looked at. A key without its end reaches to the end
//! of the text: a log line is often cut, and what is left of a key is a secret still.

use super::borders::run_end;
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::memmem;

pub(super) const ENTRY: Entry = Entry {
    name: "private_key",
    needs: Needs {
        all_of: class::HYPHEN | class::UPPER | class::SPACE,
        any_of: 0,
        digits: 0,
        length: 25,
        literals: &["private key"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[private_key]",
    form: Form::Text,
};

const LABEL: &[u8] = b"PRIVATE KEY";
/// `PGP PRIVATE KEY BLOCK` and more.
const LONGEST_LABEL: usize = 64;
const FEWEST_DASHES: usize = 4;

fn find(text: &[u8], found: Report<'_>) {
    let mut position = 0;
    while let Some(offset) = memmem::find(&text[position..], LABEL) {
        let label = position + offset;
        let (Some(start), Some(armour_end)) = (armour_start(text, label, b"BEGIN "), armour_end(text, label)) else {
            position = label + LABEL.len();
            continue;
        };
        let start = start.max(position);
        position = key_end(text, armour_end);
        found(start..position);
    }
}

/// The end of the END line of a key whose BEGIN line ends at `from`; that of the text if there is none.
fn key_end(text: &[u8], from: usize) -> usize {
    memmem::find_iter(&text[from..], LABEL)
        .map(|offset| from + offset)
        .filter(|&label| armour_start(text, label, b"END ").is_some())
        .find_map(|label| armour_end(text, label))
        .unwrap_or(text.len())
}

/// Where the dashes of `-----BEGIN RSA PRIVATE KEY` begin.
fn armour_start(text: &[u8], label: usize, verb: &[u8]) -> Option<usize> {
    let window = label.saturating_sub(LONGEST_LABEL);
    let verb_start = window + memmem::rfind(&text[window..label], verb)?;
    let kind = &text[verb_start + verb.len()..label];
    if !kind.iter().all(|byte| byte.is_ascii_alphanumeric() || b" -_".contains(byte)) {
        return None;
    }
    let before = text[..verb_start].strip_suffix(b" ").unwrap_or(&text[..verb_start]);
    let dashes = before.iter().rev().take(LONGEST_LABEL).take_while(|&&byte| byte == b'-').count();
    (dashes >= FEWEST_DASHES).then_some(before.len() - dashes)
}

/// Where the dashes behind the label end.
fn armour_end(text: &[u8], label: usize) -> Option<usize> {
    let window = &text[..text.len().min(label + LONGEST_LABEL)];
    let dashes = run_end(window, label, |byte| byte.is_ascii_uppercase() || byte == b' ');
    let end = run_end(window, dashes, |byte| byte == b'-');
    (end - dashes >= FEWEST_DASHES).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_found_to_their_end() {
        assert_found(
            &ENTRY,
            &[
                ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "#"),
                ("k=-----BEGIN RSA PRIVATE KEY-----\r\nMIIE\r\n-----END RSA PRIVATE KEY-----\r\nx", "k=#\r\nx"),
                (r#"{"key":"-----BEGIN EC PRIVATE KEY-----\nMI\n-----END EC PRIVATE KEY-----\n"}"#, r##"{"key":"#\n"}"##),
                (r"-----BEGIN PRIVATE KEY-----\\nMI\\n-----END PRIVATE KEY-----\\n", r"#\\n"),
                ("-----BEGIN OPENSSH PRIVATE KEY----- b3Bl -----END OPENSSH PRIVATE KEY----- x", "# x"),
                ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK-----", "#"),
                ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2\n---- END SSH2 ENCRYPTED PRIVATE KEY ----", "#"),
                ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII", "#"),
                ("a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIV", "a #"),
                (
                    "-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----\n-----BEGIN PRIVATE KEY-----\nB\n-----END PRIVATE KEY-----",
                    "#\n#",
                ),
                (
                    "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nB",
                    "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n#",
                ),
            ],
        );
    }

    #[test]
    fn what_is_no_private_key_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----",
                "-----BEGIN CERTIFICATE-----",
                "PRIVATE KEY",
                "BEGIN PRIVATE KEY",
                "-----BEGIN PRIVATE KEY",
                "-----END PRIVATE KEY-----",
                "no PRIVATE KEY-----",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &[
                "-",
                "-----BEGIN ",
                "PRIVATE KEY",
                "-----BEGIN PRIVATE KEY",
                "-----BEGIN PRIVATE KEY-----",
                "PRIVATE KEY-----",
                "-----END PRIVATE KEY-----",
            ],
        );
    }

    proptest! {
        #[test]
        fn any_key_is_found_wherever_it_stands(
            label in "([A-Z0-9]{2,9} ){0,2}",
            line_end in prop_oneof![Just("\n"), Just("\\n"), Just("\\\\n"), Just(" ")],
            body in "[A-Za-z0-9+/=]{0,200}",
            (before, after) in ("[a-z =\"]*", "[a-z,\"}]*"),
        ) {
            let text = format!(
                "{before}-----BEGIN {label}PRIVATE KEY-----{line_end}{body}{line_end}-----END {label}PRIVATE KEY-----{after}"
            );
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
