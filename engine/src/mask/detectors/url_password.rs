//! Passwords in URLs, `scheme://user:PASSWORD@host` (RFC 3986, 3.2.1): only the password. The URL may be percent-encoded
//! as a whole, as the value of a parameter.
//!
//! A password that was not encoded as it should be may hold an `@`: it goes up to the last one of the authority.

use super::borders::{report_at, starts_with_ignoring_case};
use super::{class, Entry, Find, Form, Needs, Report};
use memchr::{memchr, memchr2_iter, memrchr};
use std::ops::Range;

pub(super) const ENTRY: Entry = Entry {
    name: "url_password",
    needs: Needs {
        all_of: 0,
        any_of: class::COLON | class::PERCENT,
        digits: 0,
        length: 7,
        literals: &["://", "%3a%2f%2f"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[password]",
    form: Form::Text,
};

const ENCODED_SLASHES: &[u8] = b"%3A%2F%2F";

/// An authority ends before the next anchor: each byte is read once.
fn find(text: &[u8], found: Report<'_>) {
    report_at(memchr2_iter(b':', b'%', text), |anchor| password(text, anchor), found);
}

fn password(text: &[u8], anchor: usize) -> Option<Range<usize>> {
    let rest = &text[anchor..];
    let has_scheme = text[..anchor].last().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let range = if !has_scheme {
        return None;
    } else if rest.starts_with(b"://") {
        plain_password(&rest[3..], 3)?
    } else if starts_with_ignoring_case(rest, ENCODED_SLASHES) {
        encoded_password(&rest[ENCODED_SLASHES.len()..], ENCODED_SLASHES.len())?
    } else {
        return None;
    };
    (!range.is_empty()).then_some(anchor + range.start..anchor + range.end)
}

fn plain_password(rest: &[u8], offset: usize) -> Option<Range<usize>> {
    let authority = &rest[..rest.iter().position(|&byte| ends_authority(byte)).unwrap_or(rest.len())];
    let at = memrchr(b'@', authority)?;
    let colon = memchr(b':', &authority[..at])?;
    Some(offset + colon + 1..offset + at)
}

/// Within an encoded URL an encoded delimiter is one, and what was encoded in the password is so twice.
fn encoded_password(rest: &[u8], offset: usize) -> Option<Range<usize>> {
    let mut start = None;
    let mut end = None;
    let mut position = 0;
    while let Some(&byte) = rest.get(position) {
        let (delimiter, length) = match byte {
            b'%' => match rest.get(position + 1..position + 3).and_then(hex_byte) {
                Some(decoded) => (decoded, 3),
                None => (0, 1),
            },
            // Parts the parameters.
            b'&' => break,
            plain => (plain, 1),
        };
        match delimiter {
            b':' if start.is_none() && end.is_none() => start = Some(position + length),
            b'@' => end = Some(position),
            delimiter if ends_authority(delimiter) => break,
            _ => {}
        }
        position += length;
    }
    let (start, end) = (start?, end?);
    (start <= end).then_some(offset + start..offset + end)
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let high = char::from(digits[0]).to_digit(16)?;
    let low = char::from(digits[1]).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn ends_authority(byte: u8) -> bool {
    byte <= b' ' && byte != 0 || b"/?#\"'`<>\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("postgres://bob:s3cret@db:5432/app", "postgres://bob:#@db:5432/app"),
                ("redis://:s3cret@cache/0", "redis://:#@cache/0"),
                ("https://bob:p@ss:w@host/x?y=@z", "https://bob:#@host/x?y=@z"),
                ("https://bob:p%40ss%3Aw@host", "https://bob:#@host"),
                ("see amqp://a:b@h1 and amqp://c:d@h2.", "see amqp://a:#@h1 and amqp://c:#@h2."),
                ("mongodb://u:p@h1,h2/db", "mongodb://u:#@h1,h2/db"),
                ("jdbc:mysql://u:p@h/db", "jdbc:mysql://u:#@h/db"),
                (r#"{"url":"http://u:p@h","mail":"a@b"}"#, r##"{"url":"http://u:#@h","mail":"a@b"}"##),
                (r"http://u:p@h\nx@y", r"http://u:#@h\nx@y"),
                ("?u=https%3A%2F%2Fbob%3As3cret%40host%2Fx&m=a%40b", "?u=https%3A%2F%2Fbob%3A#%40host%2Fx&m=a%40b"),
                ("https%3a%2f%2fbob%3as%2540t%40host", "https%3a%2f%2fbob%3a#%40host"),
                ("https%3A%2F%2Fbob:s3cret@host", "https%3A%2F%2Fbob:#@host"),
                ("s3://k:пароль@h", "s3://k:#@h"),
            ],
        );
    }

    #[test]
    fn urls_without_a_password_stay() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "://",
                "https://example.com/a@b",
                "https://example.com:8080/@bob",
                "https://bob@example.com",
                "https://bob:@example.com",
                "https://example.com:8080?x=a@b",
                "https://example.com:8080 bob@example.com",
                "https://[2001:db8::1]:8080/",
                "://a:b@c",
                "https%3A%2F%2Fhost%3A80%2F%40bob",
                "https%3A%2F%2Fhost%3A80&m=a%40b",
                "a:b@c",
                "%zz",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &[":", "a:", "a://", "@", "a://b:", "a://@:", "a%3A%2F%2F", "%", "a://:@", "a%3a%2f%2f%3a"],
        );
    }

    proptest! {
        #[test]
        fn any_password_is_found_wherever_the_url_stands(
            (scheme, user, password, host) in ("[a-z][a-z0-9+]{0,4}[a-z0-9]", "[a-z0-9._]{0,8}", "[A-Za-z0-9!$&*:@%=.-]{1,20}", "[a-z0-9.]{1,12}"),
            (before, after) in ("([a-z ]*[=(,])?", "([\" /?].*)?"),
        ) {
            let text = format!("{before}{scheme}://{user}:{password}@{host}{after}");
            let expected = format!("{before}{scheme}://{user}:#@{host}");
            prop_assert!(mask(&ENTRY, &text).starts_with(&expected), "{}", text);
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
