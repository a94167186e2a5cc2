//! Tokens that nothing but chance can have made, next to a word that tells what they are: `api_key=…`, `"password": "…"`.
//!
//! A token is told by its entropy (Shannon's, of its own characters) and by having at least two of upper case, lower case
//! and digits; paths, dates and what is made of words are none. In prose, where only blanks part it from the word, it must
//! have letters and digits.

use super::borders::{is_word, run_end};
use super::words::are_words;
use super::{Entry, Find, Form, Needs, Report};
use aho_corasick::AhoCorasick;
use std::sync::LazyLock;

/// `client_secret` and the like hold one of them.
const WORDS: [&str; 13] = [
    "secret",
    "token",
    "passwd",
    "password",
    "pwd",
    "passphrase",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "private_key",
    "credential",
    "auth",
];

pub(super) const ENTRY: Entry = Entry {
    name: "secret_token",
    needs: Needs { all_of: 0, any_of: 0, digits: 0, length: 16, literals: &WORDS },
    find: Find::Anywhere(find),
    is_match_number: None,
    replacement: b"[secret]",
    form: Form::Text,
};

const SHORTEST: usize = 12;
/// From this length on chance has had room to show.
const LONG: usize = 21;
const ENTROPY_OF_SHORT: f64 = 3.0;
const ENTROPY_OF_LONG: f64 = 3.3;
/// How far the rest of an identifier, and what parts it from the token, is followed.
const REST_OF_NAME: usize = 32;
const BETWEEN: usize = 16;

/// From each word to the right; a token is looked at once.
fn find(text: &[u8], found: Report<'_>) {
    static SEARCH: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS).ok());
    let Some(search) = SEARCH.as_ref() else { return };
    let mut looked_at = 0;
    for word in search.find_iter(text) {
        if word.start() < looked_at || is_author(text, word.start()) {
            continue;
        }
        let Some((start, parted)) = token_start(text, word.end()) else { continue };
        if start < looked_at {
            continue;
        }
        let end = token_end(text, start);
        if is_secret(&text[start..end], parted) {
            found(start..end);
            looked_at = end;
        } else {
            // Words within it may still announce another one: `token=auth` and more.
            looked_at = start;
            if end - start >= SHORTEST {
                looked_at = end;
            }
        }
    }
}

/// `author`, but not `authorization`.
fn is_author(text: &[u8], word: usize) -> bool {
    let rest = &text[word..];
    let is = |name: &[u8]| super::borders::starts_with_ignoring_case(rest, name);
    is(b"author") && !is(b"authori")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parted {
    BySign,
    ByBlanks,
}

/// Where the token begins that is announced by a word that ends at `word_end`.
fn token_start(text: &[u8], word_end: usize) -> Option<(usize, Parted)> {
    let window = &text[..text.len().min(word_end + REST_OF_NAME)];
    let name_end = run_end(window, word_end, |byte| is_word(byte) || byte == b'-');
    let mut parted = Parted::ByBlanks;
    let mut position = name_end;
    while position < text.len().min(name_end + BETWEEN) {
        position += match text[position..] {
            [b' ' | b'\t' | b'\\', ..] => 1,
            [b'i', b's', b' ' | b':' | b'=', ..] if position > name_end => 2,
            [b'=' | b':' | b'>' | b'"' | b'\'' | b'(' | b'[' | b'{' | b'`', ..] => {
                parted = Parted::BySign;
                1
            }
            [b'%', b'2', b'0', ..] => 3,
            [b'%', b'3', b'D' | b'd' | b'A' | b'a', ..] | [b'%', b'2', b'2', ..] => {
                parted = Parted::BySign;
                3
            }
            _ => break,
        };
    }
    (position > name_end).then_some((position, parted))
}

/// The padding of base64 ends a token, a full stop is none of it.
fn token_end(text: &[u8], start: usize) -> usize {
    let end = run_end(text, start, |byte| byte.is_ascii_alphanumeric() || b"_+/.~-".contains(&byte));
    match text.get(end) {
        Some(b'=') => run_end(&text[..text.len().min(end + 2)], end, |byte| byte == b'='),
        _ => start + text[start..end].iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1),
    }
}

fn is_secret(token: &[u8], parted: Parted) -> bool {
    if token.len() < SHORTEST {
        return false;
    }
    let has = |of: fn(&u8) -> bool| token.iter().any(of);
    let (upper, lower, digit) = (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit));
    let mixed = match parted {
        Parted::BySign => usize::from(upper) + usize::from(lower) + usize::from(digit) >= 2,
        Parted::ByBlanks => digit && (upper || lower) && !has(|&byte| byte == b'.'),
    };
    let least = if token.len() < LONG { ENTROPY_OF_SHORT } else { ENTROPY_OF_LONG };
    mixed && !is_path(token) && !is_date(token) && !are_words(token) && entropy(token) >= least
}

/// `/var/lib/app2`, `./a1/b2`, `~/.config`.
fn is_path(token: &[u8]) -> bool {
    matches!(token, [b'/', ..] | [b'.', b'/', ..] | [b'~', b'/', ..])
}

/// `2024-01-15T10` and what follows a date.
fn is_date(token: &[u8]) -> bool {
    token.len() >= 10
        && token[..10].iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Bits a character. Of a long token its beginning tells.
fn entropy(token: &[u8]) -> f64 {
    const ENOUGH: usize = 256;
    let token = &token[..token.len().min(ENOUGH)];
    let mut counts = [0u16; 128];
    token.iter().for_each(|&byte| counts[usize::from(byte & 0x7f)] += 1);
    let length = token.len() as f64;
    let bits = |count: &u16| {
        let share = f64::from(*count) / length;
        -share * share.log2()
    };
    counts.iter().filter(|&&count| count > 0).map(bits).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_found, assert_linear, assert_stays, mask, may_match};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_found() {
        assert_found(
            &ENTRY,
            &[
                ("api_key=a8Kd03jfLq9xZ", "api_key=#"),
                ("password: hunter2hunter3x", "password: #"),
                (r#"{"client_secret": "Zm9vYmFyYmF6cXV4Cg=="}"#, r##"{"client_secret": "#"}"##),
                (r#"{\"apiKey\":\"a8Kd03jfLq9xZ\"}"#, r##"{\"apiKey\":\"#\"}"##),
                ("session_token=550e8400-e29b-41d4-a716-446655440000", "session_token=#"),
                ("the password is a8Kd03jfLq9xZ.", "the password is #."),
                ("token 4bf92f3577b34da6a3ce929d0e0e4736", "token #"),
                ("?access_token=a8Kd03jfLq9xZ&x=1", "?access_token=#&x=1"),
                ("%3Fauth%3Da8Kd03jfLq9xZ", "%3Fauth%3D#"),
                ("DB_PASSWORD='a8Kd03jfLq9xZ'", "DB_PASSWORD='#'"),
                ("X-Auth-Token: a8Kd03jfLq9xZ", "X-Auth-Token: #"),
                ("token(a8Kd03jfLq9xZ)", "token(#)"),
                ("pwd=a8Kd03jfLq9xZ, pwd=a8Kd03jfLq9xY", "pwd=#, pwd=#"),
            ],
        );
    }

    #[test]
    fn what_is_made_of_words_stays() {
        assert_stays(
            &ENTRY,
            &[
                "",
                "token",
                "token=",
                "token=short1",
                "token=aaaaaaaaaaaaaaaa1",
                "token=kebab-case-words",
                "token_type=com.acme.auth.TokenProvider",
                "auth: getUserInformation",
                "auth=api-v2.internal.example.com",
                "pwd=/home/bob/app2/Data3x",
                "token_expiry=2024-01-15T10:00:00Z",
                "token count 123456789012",
                "author=a8Kd03jfLq9xZ",
                "auth_url=https://example.com/a8Kd03jfLq9xZ",
                "a8Kd03jfLq9xZ",
                "password must have 8 characters",
                "auth service/v1.2.3-beta",
            ],
        );
    }

    #[test]
    fn it_is_linear() {
        assert_linear(
            &ENTRY,
            &[
                "a",
                "=",
                "auth",
                "token=",
                "token ",
                "auth=auth_",
                "auth:",
                "token%3D",
                "authauthauth=aB1",
                "password is ",
            ],
        );
    }

    proptest! {
        #[test]
        fn any_random_token_is_found_next_to_a_word(
            name in "([a-z]+_)?(secret|token|password|API_KEY|credential)(_[a-z]{1,8})?",
            sign in prop_oneof![Just("="), Just(": "), Just("\":\""), Just("%3D")],
            token in "[A-Z][a-z][0-9]([A-Z][0-9][a-z]){8,12}",
            after in "([,;)] ?[a-z]*)?",
        ) {
            prop_assume!(entropy(token.as_bytes()) >= ENTROPY_OF_LONG);
            let text = format!("{name}{sign}{token}{after}");
            prop_assert_eq!(mask(&ENTRY, &text), format!("{name}{sign}#{after}"));
            prop_assert!(may_match(&ENTRY.needs, text.as_bytes()));
        }
    }
}
