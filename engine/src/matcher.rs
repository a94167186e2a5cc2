//! Regexes of a configuration: RE2-like, anchored at both ends, `.` matches newlines.

use regex::{Regex, RegexBuilder};

/// What a tenant's regex may cost to hold, compiled.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A regex, or what is quicker and the same.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// The default `(.*)`: anything, all of it the first group.
    Anything,
    /// Letters only.
    Literal(String),
    Regex(Regex),
}

impl Matcher {
    /// The error says what is wrong with the regex.
    pub(crate) fn compile(pattern: &str) -> Result<Matcher, String> {
        if pattern == "(.*)" {
            return Ok(Matcher::Anything);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/' | b':' | b';' | b',');
        if pattern.bytes().all(plain) {
            return Ok(Matcher::Literal(pattern.to_owned()));
        }
        RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .build()
            .map(Matcher::Regex)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => format!("it is larger than {limit} bytes when compiled"),
                // The library draws the pattern with a mark under the place; the last line says what is wrong.
                other => other.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
            })
    }

    pub(crate) fn is_match(&self, value: &str) -> bool {
        match self {
            Matcher::Anything => true,
            Matcher::Literal(literal) => literal == value,
            Matcher::Regex(regex) => regex.is_match(value),
        }
    }
}
