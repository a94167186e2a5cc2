//! Pseudonyms: a keyed hash in place of a value, the same for the same value wherever it stands.
//!
//! `h2:5f0c…` is the first 12 bytes of HMAC-SHA-256 (RFC 2104) under version 2 of the tenant's key, in hexadecimal digits. An
//! unkeyed hash of a card or phone number could be reversed by trying them all; without the key this one can't.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use zeroize::Zeroizing;

use super::detectors::Form;

/// Bytes of the hash that a pseudonym shows: two of ten billion values meet with a chance of one in a billion.
const SHOWN_BYTES: usize = 12;
/// A key must not be easier to guess than the hash.
const MIN_KEY_BYTES: usize = 16;

/// One version of a tenant's key, ready to hash with. The state is wiped when it is dropped.
pub struct PseudonymKey {
    version: u32,
    hash: Hmac<Sha256>,
    /// Of addresses: for a pseudo-random function that is quick enough to be asked once a bit.
    address_key: Zeroizing<[u8; 16]>,
}

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PseudonymKey {{ version: {} }}", self.version)
    }
}

impl PseudonymKey {
    /// `None` if the key is too short.
    pub fn new(version: u32, key: &[u8]) -> Option<PseudonymKey> {
        if key.len() < MIN_KEY_BYTES {
            return None;
        }
        // A key of any length is one of HMAC's.
        let hash = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
        let derived = Zeroizing::new(keyed(&hash, b"address", b""));
        let address_key = Zeroizing::new(*derived.first_chunk()?);
        Some(PseudonymKey { version, hash, address_key })
    }

    /// Appends the pseudonym of a value.
    pub(super) fn put_pseudonym(&self, value: &[u8], form: Form, out: &mut Vec<u8>) {
        let hash = keyed(&self.hash, b"", &normalised(value, form));
        out.push(b'h');
        out.extend_from_slice(self.version.to_string().as_bytes());
        out.push(b':');
        for byte in &hash[..SHOWN_BYTES] {
            out.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
        }
    }

    /// Appends the value with other digits, everything else as it is. The first digit stays; where the digits passed the
    /// Luhn check, so do the others.
    pub(super) fn put_other_digits(&self, value: &[u8], out: &mut Vec<u8>) {
        let digits: Vec<u8> = value.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
        let Some(&first) = digits.first() else { return out.extend_from_slice(value) };
        let mut others = vec![first];
        let mut round = 0u32;
        while others.len() < digits.len() {
            let hash = keyed(&self.hash, &[b"digits", round.to_le_bytes().as_slice()].concat(), &digits);
            // Below 250 each digit is as likely as the others.
            let fair = hash.iter().filter(|&&byte| byte < 250).map(|byte| byte % 10);
            others.extend(fair.take(digits.len() - others.len()));
            round += 1;
        }
        if luhn_sum(&digits).is_multiple_of(10) {
            if let Some(last) = others.last_mut() {
                *last = 0;
            }
            let check = (10 - luhn_sum(&others) % 10) % 10;
            if let Some(last) = others.last_mut() {
                *last = check as u8;
            }
        }
        let mut others = others.into_iter();
        out.extend(value.iter().map(|&byte| match byte.is_ascii_digit() {
            true => others.next().map_or(byte, |digit| b'0' + digit),
            false => byte,
        }));
    }

    /// Appends another address of the same kind; false, and nothing, if the value is none. Two addresses share as many leading
    /// bits as their pseudonyms do, so networks stay networks.
    ///
    /// Source: Xu, Fan, Ammar, Moon, "Prefix-Preserving IP Address Anonymization" (2002).
    pub(super) fn put_other_address(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(address) = address(value) else { return false };
        let other = match address {
            IpAddr::V4(address) => {
                IpAddr::V4(((self.other_bits(u128::from(address.to_bits()) << 96, 32) >> 96) as u32).into())
            }
            IpAddr::V6(address) => IpAddr::V6(self.other_bits(address.to_bits(), 128).into()),
        };
        // Writing to a vector cannot fail.
        write!(out, "{other}").is_ok()
    }

    /// The first `length` bits, each flipped or not by what stands before it.
    fn other_bits(&self, address: u128, length: u32) -> u128 {
        let mut flips = 0;
        for bit in 0..length {
            let before = if bit == 0 { 0 } else { address >> (128 - bit) << (128 - bit) };
            let mut hasher = SipHasher24::new_with_key(&self.address_key);
            hasher.write_u8(length as u8);
            hasher.write_u8(bit as u8);
            hasher.write(&before.to_be_bytes());
            flips |= u128::from(hasher.finish() & 1) << (127 - bit);
        }
        address ^ flips
    }
}

fn keyed(hash: &Hmac<Sha256>, purpose: &[u8], value: &[u8]) -> [u8; 32] {
    let mut hash = hash.clone();
    if !purpose.is_empty() {
        // No value that is hashed alone begins with such a byte: it would not be text.
        hash.update(&[0xff]);
        hash.update(purpose);
    }
    hash.update(value);
    hash.finalize().into_bytes().into()
}

/// One form for all ways to write a value.
fn normalised(value: &[u8], form: Form) -> Cow<'_, [u8]> {
    match form {
        Form::Text => Cow::Borrowed(value),
        Form::Email => {
            let text = String::from_utf8_lossy(value).to_lowercase();
            Cow::Owned(text.replace("%2540", "@").replace("%40", "@").into_bytes())
        }
        Form::Digits => value.iter().copied().filter(u8::is_ascii_digit).collect(),
        Form::Code => value.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect(),
        Form::Address => {
            address(value).map_or(Cow::Borrowed(value), |address| Cow::Owned(address.to_string().into_bytes()))
        }
    }
}

/// An address without its zone.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('%').next()?.parse().ok()
}

fn luhn_sum(digits: &[u8]) -> u32 {
    let weighted = digits.iter().rev().enumerate().map(|(index, &digit)| match digit * (1 + index as u8 % 2) {
        doubled @ 10.. => u32::from(doubled - 9),
        once => u32::from(once),
    });
    weighted.sum()
}

/// The newest key of each tenant by name.
#[derive(Debug, Default)]
pub struct PseudonymKeys(HashMap<String, HashMap<String, PseudonymKey>>);

impl PseudonymKeys {
    /// Adds a version of a tenant's key; an older one than is there is left out. Err if it is too short.
    pub fn add(&mut self, name: &str, tenant: &str, version: u32, key: &[u8]) -> Result<(), String> {
        let too_short = || format!("pseudonym key {name} of tenant {tenant} has fewer than {MIN_KEY_BYTES} bytes");
        let key = PseudonymKey::new(version, key).ok_or_else(too_short)?;
        let of_tenant = self.0.entry(tenant.to_owned()).or_default();
        if of_tenant.get(name).is_none_or(|known| known.version < version) {
            of_tenant.insert(name.to_owned(), key);
        }
        Ok(())
    }

    pub fn get(&self, name: &str, tenant: &str) -> Option<&PseudonymKey> {
        self.0.get(tenant)?.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> PseudonymKey {
        PseudonymKey::new(3, &[7; 32]).unwrap()
    }

    fn pseudonym(key: &PseudonymKey, value: &str, form: Form) -> String {
        let mut out = Vec::new();
        key.put_pseudonym(value.as_bytes(), form, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn other_address(value: &str) -> IpAddr {
        let mut out = Vec::new();
        assert!(key().put_other_address(value.as_bytes(), &mut out));
        String::from_utf8(out).unwrap().parse().unwrap()
    }

    #[test]
    fn the_states_that_a_key_is_mixed_into_are_wiped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        is_wiped::<Sha256>();
    }

    /// HMAC-SHA-256 by Python's `hmac`: `hmac.digest(bytes([7]) * 32, b"bob@example.com", "sha256").hex()[:24]`.
    #[test]
    fn a_pseudonym_is_a_truncated_hmac() {
        assert_eq!(pseudonym(&key(), "bob@example.com", Form::Text), "h3:d8c0c77537d81a8d9f536fd8");
        assert!(PseudonymKey::new(1, &[0; 15]).is_none());
        assert_eq!(format!("{:?}", key()), "PseudonymKey { version: 3 }");
    }

    #[test]
    fn one_thing_has_one_pseudonym_however_it_is_written() {
        for (form, same) in [
            (Form::Email, ["Bob@Example.com", "bob%40example.com"]),
            (Form::Digits, ["4111 1111 1111 1111", "4111111111111111"]),
            (Form::Code, ["DE89 3704 0044 0532 0130 00", "de89370400440532013000"]),
            (Form::Address, ["2001:DB8:0::1", "2001:db8::1%eth0"]),
        ] {
            assert_eq!(pseudonym(&key(), same[0], form), pseudonym(&key(), same[1], form), "{same:?}");
        }
        let other = PseudonymKey::new(3, &[8; 32]).unwrap();
        assert_ne!(pseudonym(&key(), "bob", Form::Text), pseudonym(&other, "bob", Form::Text));
    }

    #[test]
    fn the_newest_version_is_used() {
        let mut keys = PseudonymKeys::default();
        for version in [2, 3, 1] {
            keys.add("main", "acme", version, &[version as u8; 32]).unwrap();
        }
        assert_eq!(keys.get("main", "acme").map(|key| key.version), Some(3));
        assert!(keys.get("main", "globex").is_none() && keys.get("other", "acme").is_none());
        assert!(keys.add("main", "acme", 4, b"short").unwrap_err().contains("fewer than 16 bytes"));
    }

    proptest! {
        #[test]
        fn addresses_keep_their_networks(left: u32, shared in 0u32..=32, right: u32) {
            let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
            let right = left & mask | right & !mask;
            let same_bits = (left ^ right).leading_zeros();
            let other = |bits: u32| match other_address(&std::net::Ipv4Addr::from(bits).to_string()) {
                IpAddr::V4(address) => address.to_bits(),
                IpAddr::V6(address) => panic!("{address}"),
            };
            prop_assert_eq!((other(left) ^ other(right)).leading_zeros(), same_bits);
        }

        #[test]
        fn other_digits_keep_form_and_check_digit(digits in "[1-9][0-9]{11,18}", separator in prop_oneof![Just(""), Just(" "), Just("-")]) {
            let mut valid: Vec<u8> = digits.bytes().map(|byte| byte - b'0').collect();
            *valid.last_mut().unwrap() = 0;
            *valid.last_mut().unwrap() = ((10 - luhn_sum(&valid) % 10) % 10) as u8;
            let text: Vec<String> = valid.chunks(4).map(|group| group.iter().map(u8::to_string).collect()).collect();
            let text = text.join(separator);
            let mut out = Vec::new();
            key().put_other_digits(text.as_bytes(), &mut out);
            let shape = |text: &[u8]| text.iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte }).collect::<Vec<_>>();
            prop_assert_eq!(shape(&out), shape(text.as_bytes()));
            prop_assert_eq!(out[0], text.as_bytes()[0]);
            let others: Vec<u8> = out.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
            prop_assert!(luhn_sum(&others).is_multiple_of(10));
        }
    }
}
