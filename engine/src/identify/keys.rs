//! API keys, known by their SHA-256 only. The presented key is hashed and looked up by the hash, so the time that a look-up
//! takes tells nothing about the key; the final comparison is constant-time besides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::tokens::{Hash, Signals};
use crate::otlp::Signal;
use crate::policy::Tenant;

/// Where in a header's value the credential stands.
#[derive(Debug)]
pub(super) enum Scheme {
    /// The header's value is the key.
    Bare,
    /// `Basic`, RFC 7617: the password is the key, the user name is the tenant or the key's id.
    Basic,
    /// Any other scheme (RFC 9110 §11.1, compared without case) in front of the key.
    Named(String),
}

impl Scheme {
    pub(super) fn parse(scheme: Option<&str>) -> Scheme {
        match scheme {
            None | Some("") => Scheme::Bare,
            Some(scheme) if scheme.eq_ignore_ascii_case("basic") => Scheme::Basic,
            Some(scheme) => Scheme::Named(scheme.to_owned()),
        }
    }

    /// What stands behind the scheme; nothing of `Basic`, which is encoded.
    pub(super) fn strip<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Scheme::Bare => Some(value),
            Scheme::Named(scheme) => strip_scheme(value, scheme),
            Scheme::Basic => None,
        }
    }
}

/// The SHA-256 of what stands in a header, computed once for the providers that look there one after the other.
#[derive(Default)]
pub(super) struct Hashed<'v>(Option<(&'v [u8], Hash)>);

impl<'v> Hashed<'v> {
    pub(super) fn of(&mut self, credential: &'v [u8]) -> Hash {
        match self.0 {
            // By place, not by content: comparing would cost what is to be saved.
            Some((known, hash)) if std::ptr::eq(known, credential) => hash,
            _ => {
                let hash = Sha256::digest(credential).into();
                self.0 = Some((credential, hash));
                hash
            }
        }
    }
}

pub(super) struct KnownKey {
    sha256: [u8; 32],
    key_id: String,
    tenant_id: String,
    pub(super) tenant: usize,
    pub(super) signals: Signals,
    /// Unix seconds.
    expires_at: Option<f64>,
    used: AtomicBool,
    reported: AtomicBool,
}

impl KnownKey {
    pub(super) fn has_expired(&self, unix_now: impl FnOnce() -> f64) -> bool {
        self.expires_at.is_some_and(|at| at <= unix_now())
    }

    pub(super) fn has_been_used(&self) {
        // Read first: a line that nobody writes stays in every thread's cache.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

/// The keys of one policy generation.
#[derive(Default)]
pub(super) struct Keys(HashMap<[u8; 32], KnownKey>);

impl Keys {
    /// The error names the key by tenant and id, and says what is wrong without showing it.
    pub(super) fn compile(tenants: &[Tenant]) -> Result<Keys, String> {
        let mut keys: HashMap<[u8; 32], KnownKey> = HashMap::new();
        for (index, tenant) in tenants.iter().enumerate() {
            for key in &tenant.api_keys {
                let sha256 = parse_sha256(&key.sha256).ok_or_else(|| {
                    format!("tenant {}: key {}: sha256 is not 64 hexadecimal digits", tenant.id, key.id)
                })?;
                let known = KnownKey {
                    sha256,
                    key_id: key.id.clone(),
                    tenant_id: tenant.id.clone(),
                    tenant: index,
                    signals: key.signals.as_ref().map_or(Signals::ALL, |names| Signals::named(names)),
                    expires_at: key.expires_at,
                    used: AtomicBool::new(false),
                    reported: AtomicBool::new(false),
                };
                if let Some(other) = keys.insert(sha256, known) {
                    return Err(format!(
                        "tenant {}: key {} has the same hash as key {} of tenant {}",
                        tenant.id, key.id, other.key_id, other.tenant_id
                    ));
                }
            }
        }
        Ok(Keys(keys))
    }

    pub(super) fn look_up<'v>(&self, scheme: &Scheme, value: &'v [u8], hashed: &mut Hashed<'v>) -> Option<&KnownKey> {
        if let Scheme::Basic = scheme {
            let decoded = base64::engine::general_purpose::STANDARD.decode(strip_scheme(value, "basic")?).ok()?;
            let colon = memchr::memchr(b':', &decoded)?;
            let key = self.find(&Sha256::digest(&decoded[colon + 1..]).into())?;
            let user = &decoded[..colon];
            return (user == key.tenant_id.as_bytes() || user == key.key_id.as_bytes()).then_some(key);
        }
        self.find(&hashed.of(scheme.strip(value)?))
    }

    fn find(&self, hash: &Hash) -> Option<&KnownKey> {
        let known = self.0.get(hash)?;
        bool::from(known.sha256.ct_eq(hash)).then_some(known)
    }

    /// Tenant and id of each key that was used for the first time since the last call.
    pub(super) fn newly_used(&self) -> Vec<(String, String)> {
        let is_new = |key: &&KnownKey| key.used.load(Ordering::Relaxed) && !key.reported.swap(true, Ordering::Relaxed);
        self.0.values().filter(is_new).map(|key| (key.tenant_id.clone(), key.key_id.clone())).collect()
    }
}

impl Signals {
    /// Names that are no signal's are none.
    pub fn named(names: &[String]) -> Signals {
        Signals::of(Signal::ALL.into_iter().filter(|signal| names.iter().any(|name| name == signal.name())))
    }
}

fn strip_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    head.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
}

fn parse_sha256(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0u8; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(hash)
}
