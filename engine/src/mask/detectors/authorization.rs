//! HTTP credentials (RFC 9110, 11.4) anywhere in a text: a scheme and what is behind it. The scheme stays.
//!
//! Prose is told apart, as in “bearer certificate” and “basic authentication”: a token is long or has a digit and is not
//! made of words; Basic decodes to `user:password` (RFC 7617); Digest has parameters (RFC 7616).

use super::borders::{ends_with_ignoring_case, run_end, starts_free};
use super::words::are_words;
use super::{class, Entry, Find, Form, Needs, Report};
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use memchr::memchr3_iter;

pub(super) const ENTRY: Entry = Entry {
    name: "authorization",
    needs: Needs {
        all_of: 0,
        any_of: class::SPACE | class::PERCENT | class::PLUS,
        digits: 0,
        length: 10,
        literals: &["bearer", "basic", "digest", "negotiate", "apikey", "token"],
    },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[authorization]",
    form: Form::Text,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// With a token behind it.
    Token,
    /// The same, but the word is one of everyday telemetry.
    PlainToken,
    Basic,
    Digest,
}

const SCHEMES: [(&[u8], Scheme); 6] = [
    (b"bearer", Scheme::Token),
    (b"negotiate", Scheme::Token),
    (b"apikey", Scheme::Token),
    (b"token", Scheme::PlainToken),
    (b"basic", Scheme::Basic),
    (b"digest", Scheme::Digest),
];

/// From what parts scheme and credentials to both sides. What was once read as credentials is not read again, as it might
/// be in `token+token+token+`.
fn find(text: &[u8], found: Report<'_>) {
    let mut position = 0;
    for anchor in memchr3_iter(b' ', b'%', b'+', text) {
        if anchor < position {
            continue;
        }
        let Some(scheme) = scheme_before(text, anchor) else { continue };
        let start = blanks_end(text, anchor);
        if start == anchor {
            continue;
        }
        position = credentials_end(text, start, scheme);
        if is_secret(&text[start..position], scheme) {
            found(start..position);
        }
    }
}

fn credentials_end(text: &[u8], start: usize, scheme: Scheme) -> usize {
    match scheme {
        Scheme::Digest => parameters_end(text, start).unwrap_or(start),
        Scheme::Basic => base64_end(text, start),
        Scheme::Token | Scheme::PlainToken => token_end(text, start),
    }
}

fn is_secret(credentials: &[u8], scheme: Scheme) -> bool {
    match scheme {
        Scheme::Digest => !credentials.is_empty(),
        Scheme::Basic => is_user_and_password(credentials),
        Scheme::Token => {
            is_token(credentials) && (credentials.iter().all(u8::is_ascii_alphanumeric) || !are_words(credentials))
        }
        Scheme::PlainToken => is_token(credentials) && !are_words(credentials),
    }
}

fn scheme_before(text: &[u8], end: usize) -> Option<Scheme> {
    let before = &text[..end];
    let (name, scheme) = SCHEMES.iter().find(|(name, _)| ends_with_ignoring_case(before, name))?;
    starts_free(text, end - name.len()).then_some(*scheme)
}

fn blanks_end(text: &[u8], from: usize) -> usize {
    let mut end = from;
    loop {
        end += match &text[end..] {
            [b' ' | b'+', ..] => 1,
            [b'%', b'2', b'0', ..] => 3,
            _ => return end,
        }
    }
}

/// Of token68 characters, some of them percent-encoded. A full stop behind it is none of it.
fn token_end(text: &[u8], start: usize) -> usize {
    let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let mut end = run_end(text, start, is_token68);
    while let [b'%', b'2', b'B' | b'F' | b'b' | b'f', ..] | [b'%', b'3', b'D' | b'd', ..] = text[end..] {
        end = run_end(text, end + 3, is_token68);
    }
    start + text[start..end].iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1)
}

/// Of base64 and its padding, which may be percent-encoded: whatever is behind that is none of it.
fn base64_end(text: &[u8], start: usize) -> usize {
    let digits_end = |from| run_end(text, from, |byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
    let mut end = digits_end(start);
    while let [b'%', b'2', b'B' | b'F' | b'b' | b'f', ..] = text[end..] {
        end = digits_end(end + 3);
    }
    for _ in 0..2 {
        end += match text[end..] {
            [b'=', ..] => 1,
            [b'%', b'3', b'D' | b'd', ..] => 3,
            _ => 0,
        };
    }
    end
}

fn is_token(token: &[u8]) -> bool {
    token.len() >= 16 || token.len() >= 8 && token.iter().any(u8::is_ascii_digit)
}

fn is_user_and_password(token: &[u8]) -> bool {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // What an escape stands for is told by the text with escapes taken off; a user's name is told before it.
    let plain = run_end(token, 0, |byte| byte != b'%' && byte != b'=');
    let Ok(decoded) = LENIENT.decode(&token[..plain]) else { return false };
    std::str::from_utf8(&decoded).is_ok_and(|text| text.contains(':') && !text.contains(char::is_control))
}

/// The end of `name=value` pairs parted by commas; values may be quoted, the quotes escaped.
fn parameters_end(text: &[u8], start: usize) -> Option<usize> {
    let mut end = None;
    let mut position = start;
    loop {
        let name = run_end(text, position, |byte| byte.is_ascii_alphabetic() || byte == b'-' || byte == b'_');
        if name == position || text.get(name) != Some(&b'=') {
            return end;
        }
        let value = value_end(text, name + 1);
        end = Some(value);
        let comma = run_end(text, value, |byte| byte == b' ');
        if text.get(comma) != Some(&b',') {
            return end;
        }
        position = run_end(text, comma + 1, |byte| byte == b' ');
    }
}

/// A quoted value whose end is missing goes to the end of the text.
fn value_end(text: &[u8], start: usize) -> usize {
    let backslashes = run_end(text, start, |byte| byte == b'\\') - start;
    let quoted = start + backslashes + 1;
    if text.get(quoted - 1) != Some(&b'"') {
        return run_end(text, start, |byte| byte > b' ' && byte != b',' && byte != b'"');
    }
    let mut behind = 0;
    for (offset, &byte) in text[quoted..].iter().enumerate() {
        match byte {
            b'\\' => behind += 1,
            b'"' if behind == backslashes => return quoted + offset + 1,
            _ => behind = 0,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer #"),
                ("bearer abc12345", "bearer #"),
                ("BEARER  mF_9.B5f-4.1JqM", "BEARER  #"),
                ("Bearer%20mF_9.B5f-4.1JqM", "Bearer%20#"),
                ("auth=Bearer+mF_9.B5f-4.1JqM&x=1", "auth=Bearer+#&x=1"),
                ("Bearer mF9B5f41JqMx.", "Bearer #."),
                ("Bearer%20mF9B5f41Jq%2BMx%3D%3D&x", "Bearer%20#&x"),
                (r#"{"a":"Bearer mF_9.B5f-4.1JqM"}"#, r##"{"a":"Bearer #"}"##),
                ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic #"),
                ("basic dXNlcjpwYXNz, x", "basic #, x"),
                ("basic dXNlcjpwYXNz~ x", "basic #~ x"),
                ("Basic dXNlcjpwYXNzdw==_", "Basic #_"),
                ("Basic dXNlcjpwYXNz=", "Basic #"),
                ("Basic%20dXNlcjpwYXNzdw%3D%3D", "Basic%20#"),
                ("Token 9944b09199c62bcf9418ad846dd0e4bb", "Token #"),
                ("ApiKey VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==", "ApiKey #"),
                ("Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa+gJDAi", "Negotiate #"),
                (r#"Digest username="Mufasa", realm="x, y", qop=auth"#, "Digest #"),
                ("Digest username=\"Mufasa\", nc=00000001\nHost: x", "Digest #\nHost: x"),
                (r#"{"a":"Digest username=\"Mufasa\", realm=\"x\"","b":1}"#, r##"{"a":"Digest #","b":1}"##),
                (r"a\nBearer mF_9.B5f-4.1JqM", r"a\nBearer #"),
                ("Bearer abc12345 Bearer abc12346", "Bearer # Bearer #"),
            ],
        );
    }

    #[test]
    fn prose_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "Bearer",
                "Bearer ",
                "bearer certificate",
                "Bearer authentication-is-required",
                "Bearer realm=\"example\"",
                "bearer token expired",
                "basic authentication",
                "Basic realm=\"x\"",
                "basic 12345678",
                "token validation-unsuccessful",
                "token bucket-limiter-2",
                "unexpected token identifier",
                "token internationalization",
                "Digest sha256:0123456789abcdef",
                "digest mismatch",
                "tokenbearer 9944b09199c62bcf9418ad846dd0e4bb",
                "negotiate TLSv1.3",
                "apikey header",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &[
                " ",
                "%",
                "%20",
                "+",
                "bearer ",
                "basic ",
                "digest a=",
                "digest a=\"",
                "token+",
                "bearer a.",
                "bearer %2B",
                "digest a=\\",
            ],
        );
    }

    proptest! {
        #[test]
        fn any_token_is_found_wherever_it_stands(
            scheme in prop_oneof![Just("Bearer"), Just("bearer"), Just("ApiKey"), Just("Negotiate")],
            blank in prop_oneof![Just(" "), Just("%20"), Just("+")],
            token in "[A-Za-z0-9._~/-]{20,60}[0-9]{6}={0,2}",
            (before, after) in ("([a-z ]*[=(:,] ?)?", "([,;)\"] ?[a-z]*)?"),
        ) {
            let text = format!("{before}{scheme}{blank}{token}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{before}{scheme}{blank}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
