//! What stands in the place of a found value.

use std::net::IpAddr;

use super::detectors::{self, Form};
use super::pseudonym::{address, PseudonymKey};
use crate::policy::MaskAction;

/// In the place of the value of a sensitive key.
pub(super) const REDACTED: &[u8] = b"[redacted]";
/// In the place of a value that could not be searched.
pub(super) const REMOVED: &[u8] = b"[removed]";

/// Whether a text is what masking puts in the place of a value.
pub(super) fn is_replacement(text: &[u8]) -> bool {
    text == REDACTED || text == REMOVED || detectors::is_replacement(text)
}

/// Characters that `partial` shows.
const SHOWN: usize = 4;

/// How one finding is replaced.
pub(super) struct Replacement<'r> {
    pub(super) action: MaskAction,
    /// The word that `redact` leaves.
    pub(super) word: &'r [u8],
    pub(super) form: Form,
    pub(super) key: Option<&'r PseudonymKey>,
}

impl Replacement<'_> {
    /// Appends what stands in the place of `value`. What an action cannot do with a value is redacted.
    pub(super) fn put(&self, value: &[u8], out: &mut Vec<u8>) {
        let done = match (self.action, self.key) {
            (MaskAction::Remove, _) => true,
            (MaskAction::Partial, _) => put_partial(value, self.form, out),
            (MaskAction::Pseudonymise, Some(key)) => {
                key.put_pseudonym(value, self.form, out);
                true
            }
            (MaskAction::FormatPreserving, Some(key)) => match self.form {
                Form::Address => key.put_other_address(value, out),
                Form::Digits => {
                    key.put_other_digits(value, out);
                    true
                }
                Form::Text | Form::Email | Form::Code => false,
            },
            (MaskAction::Redact | MaskAction::DropItem, _) => false,
            // Without its key nobody gets here: the tenant's requests are refused.
            (MaskAction::Pseudonymise | MaskAction::FormatPreserving, None) => false,
        };
        if !done {
            out.extend_from_slice(self.word);
        }
    }
}

/// The end of a value; of an e-mail address its domain, of an internet address its network. False, and nothing, if too much of
/// the value would be left.
fn put_partial(value: &[u8], form: Form, out: &mut Vec<u8>) -> bool {
    match form {
        Form::Email => {
            let text = String::from_utf8_lossy(value);
            let domain = ["@", "%40"].iter().filter_map(|sign| text.rfind(sign)).max();
            let Some(domain) = domain else { return false };
            out.extend_from_slice(b"****");
            out.extend_from_slice(&text.as_bytes()[domain..]);
        }
        Form::Address => {
            let network = match address(value) {
                Some(IpAddr::V4(address)) => format!("{}/24", std::net::Ipv4Addr::from(address.to_bits() & !0xff)),
                Some(IpAddr::V6(address)) => format!("{}/48", std::net::Ipv6Addr::from(address.to_bits() >> 80 << 80)),
                None => return false,
            };
            out.extend_from_slice(network.as_bytes());
        }
        Form::Digits | Form::Code | Form::Text => {
            let counts = |byte: &&u8| byte.is_ascii_digit() || form != Form::Digits && byte.is_ascii_alphabetic();
            // Nine digits of a social security number are known by their last four.
            let shortest = if form == Form::Digits { 9 } else { 3 * SHOWN };
            let characters: Vec<u8> = value.iter().filter(counts).copied().collect();
            if characters.len() < shortest {
                return false;
            }
            out.extend_from_slice(b"****");
            out.extend_from_slice(&characters[characters.len() - SHOWN..]);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_shows_the_end_and_never_most_of_a_value() {
        for (form, value, expected) in [
            (Form::Digits, "4111 1111 1111 1234", "****1234"),
            (Form::Digits, "078-05-1120", "****1120"),
            (Form::Digits, "1234", "[x]"),
            (Form::Code, "DE89370400440532013000", "****3000"),
            (Form::Text, "hunter2", "[x]"),
            (Form::Text, "correct horse \"battery", "****tery"),
            (Form::Email, "bob@example.com", "****@example.com"),
            (Form::Email, "bob%40example.com", "****%40example.com"),
            (Form::Address, "10.42.7.19", "10.42.7.0/24"),
            (Form::Address, "2001:db8:1:2::3", "2001:db8:1::/48"),
            (Form::Address, "nonsense", "[x]"),
        ] {
            let mut out = Vec::new();
            Replacement { action: MaskAction::Partial, word: b"[x]", form, key: None }.put(value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{value}");
        }
    }

    #[test]
    fn what_an_action_cannot_do_is_redacted() {
        let key = PseudonymKey::new(1, &[1; 32]).unwrap();
        for (action, form, key) in [
            (MaskAction::Pseudonymise, Form::Text, None),
            (MaskAction::FormatPreserving, Form::Text, Some(&key)),
            (MaskAction::FormatPreserving, Form::Address, Some(&key)),
            (MaskAction::DropItem, Form::Text, None),
        ] {
            let mut out = Vec::new();
            Replacement { action, word: b"[x]", form, key }.put(b"secret", &mut out);
            assert_eq!(out, b"[x]", "{action:?}");
        }
    }
}
