//! The `ot` member of a W3C tracestate: `ot=th:c;rv:6e6d1a75832a2f,vendor=value`.
//!
//! Sources: w3.org/TR/trace-context (3.3), opentelemetry.io/docs/specs/otel/trace/tracestate-handling. What breaks their
//! rules is treated as absent, and left as it is.

/// The most members that a tracestate may have.
const MAX_MEMBERS: usize = 32;
/// The most characters of a member's value.
const MAX_VALUE: usize = 256;
const MAX_KEY: usize = 256;
/// A threshold or randomness has 56 bits.
const DIGITS: usize = 14;

/// What the `ot` member says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OtelState {
    /// `th`
    pub(super) threshold: Option<u64>,
    /// `rv`
    pub(super) randomness: Option<u64>,
}

/// A tracestate that keeps the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceState<'a> {
    text: &'a [u8],
    /// The value of the `ot` member.
    otel_value: Option<&'a [u8]>,
    pub(super) otel: OtelState,
}

/// `None` if the tracestate breaks the rules.
pub(super) fn parse(text: &[u8]) -> Option<TraceState<'_>> {
    let mut state = TraceState { text, otel_value: None, otel: OtelState::default() };
    for (index, member) in members(text).enumerate() {
        let equals = memchr::memchr(b'=', member)?;
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if index >= MAX_MEMBERS || !is_key(key) || !is_value(value) {
            return None;
        }
        if key == b"ot" {
            if state.otel_value.is_some() {
                return None;
            }
            state.otel = parse_otel(value)?;
            state.otel_value = Some(value);
        }
    }
    Some(state)
}

impl TraceState<'_> {
    /// The tracestate with this threshold: its `ot` member first, the others as they were.
    pub(super) fn write_with_threshold(&self, threshold: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ot=");
        let begin = out.len();
        write_field(out, begin, b"th:", |out| write_threshold(threshold, out));
        let fields = || self.otel_value.unwrap_or_default().split(|&byte| byte == b';');
        for field in fields().filter(|field| field.starts_with(b"rv:")) {
            write_field(out, begin, field, |_| {});
        }
        for field in fields().filter(|field| !field.starts_with(b"rv:") && !field.starts_with(b"th:")) {
            // The threshold and the randomness must be there; what else there was, as far as it fits.
            if !field.is_empty() && out.len() - begin + 1 + field.len() <= MAX_VALUE {
                write_field(out, begin, field, |_| {});
            }
        }
        // A new member may be one too many: the last one goes, as W3C wants it.
        for member in members(self.text).filter(|member| !member.starts_with(b"ot=")).take(MAX_MEMBERS - 1) {
            out.push(b',');
            out.extend_from_slice(member);
        }
    }
}

fn write_field(out: &mut Vec<u8>, begin: usize, text: &[u8], rest: impl FnOnce(&mut Vec<u8>)) {
    if out.len() > begin {
        out.push(b';');
    }
    out.extend_from_slice(text);
    rest(out);
}

/// Hexadecimal digits from the left, without zeros at the end.
pub(super) fn write_threshold(threshold: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    let mut rest = threshold;
    loop {
        let digit = (rest >> (4 * (DIGITS - 1)) & 0xf) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        rest = rest << 4 & ((1 << (4 * DIGITS)) - 1);
        if rest == 0 || out.len() - begin == DIGITS {
            return;
        }
    }
}

/// The members, without the spaces around them; empty ones are allowed and mean nothing.
fn members(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Lower-case letters, digits and `_ - * / @`, and first a letter or (of a tenant) a digit.
fn is_key(key: &[u8]) -> bool {
    key.len() <= MAX_KEY
        && key.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte))
}

/// Printable ASCII without comma and equals sign. (Members are trimmed already.)
fn is_value(value: &[u8]) -> bool {
    (1..=MAX_VALUE).contains(&value.len()) && value.iter().all(|&byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

fn parse_otel(value: &[u8]) -> Option<OtelState> {
    let mut state = OtelState::default();
    for field in value.split(|&byte| byte == b';').filter(|field| !field.is_empty()) {
        if let Some(digits) = field.strip_prefix(b"th:") {
            state.threshold = Some(hexadecimal_threshold(digits).filter(|_| state.threshold.is_none())?);
        } else if let Some(digits) = field.strip_prefix(b"rv:") {
            let randomness = hexadecimal(digits).filter(|_| digits.len() == DIGITS && state.randomness.is_none())?;
            state.randomness = Some(randomness);
        }
    }
    Some(state)
}

/// A threshold, whose digits count from the left.
pub(super) fn hexadecimal_threshold(digits: &[u8]) -> Option<u64> {
    hexadecimal(digits).map(|threshold| threshold << (4 * (DIGITS - digits.len())))
}

/// 1 to 14 lower-case digits.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otel(text: &str) -> Option<(Option<u64>, Option<u64>)> {
        parse(text.as_bytes()).map(|state| (state.otel.threshold, state.otel.randomness))
    }

    #[test]
    fn threshold_and_randomness_are_read() {
        for (text, expected) in [
            ("", (None, None)),
            ("vendor=x,, other@tenant=y z", (None, None)),
            ("ot=th:0", (Some(0), None)),
            ("ot=th:c", (Some(0xc0_0000_0000_0000), None)),
            ("ot=th:e6666666666668", (Some(0xe6_6666_6666_6668), None)),
            ("a=1 , ot=rv:6e6d1a75832a2f;x:y;th:8 ,b=2", (Some(1 << 55), Some(0x6e_6d1a_7583_2a2f))),
            ("ot=x:y", (None, None)),
        ] {
            assert_eq!(otel(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_no_tracestate() {
        let many = vec!["k=v"; 33].join(",");
        let long = format!("k={}", "v".repeat(257));
        for text in [
            "vendor",
            "Vendor=x",
            "=x",
            "a=",
            "a=b=c",
            "a=ü",
            "ot=th:",
            "ot=th:C",
            "ot=th:123456789abcdef",
            "ot=rv:123",
            "ot=th:1;th:2",
            "ot=th:1,ot=th:2",
            &many,
            &long,
        ] {
            assert_eq!(otel(text), None, "{text}");
        }
    }

    #[test]
    fn a_raised_threshold_comes_first_and_the_rest_stays() {
        for (text, threshold, expected) in [
            ("", 1 << 55, "ot=th:8".to_owned()),
            ("", 0xe6_6666_6666_6668, "ot=th:e6666666666668".to_owned()),
            ("", 1, "ot=th:00000000000001".to_owned()),
            ("a=1,b=2", 1 << 55, "ot=th:8,a=1,b=2".to_owned()),
            ("a=1 , ot=rv:6e6d1a75832a2f;x:y;th:4 ,b=2", 1 << 55, "ot=th:8;rv:6e6d1a75832a2f;x:y,a=1,b=2".to_owned()),
            (&vec!["k=v"; 32].join(","), 1 << 55, format!("ot=th:8,{}", vec!["k=v"; 31].join(","))),
            (&format!("ot=x:{}", "y".repeat(250)), 0xe6_6666_6666_6668, "ot=th:e6666666666668".to_owned()),
        ] {
            let mut out = Vec::new();
            parse(text.as_bytes()).unwrap().write_with_threshold(threshold, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
    }
}
