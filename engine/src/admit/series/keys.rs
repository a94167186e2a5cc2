//! The keyed hash behind every fingerprint.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip::SipHasher13;

use super::table::Fingerprint;

/// A secret of one tenant's state: without it nobody can choose labels that collide, or that crowd one shard.
///
/// 64 bits are enough: among five million series the chance that any two meet is about one in a million.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HashKey([u8; 16]);

impl HashKey {
    pub(super) fn random() -> HashKey {
        let mut key = [0; 16];
        for half in key.chunks_exact_mut(8) {
            // The standard library seeds it from the operating system.
            half.copy_from_slice(&RandomState::new().hash_one(0u8).to_le_bytes());
        }
        HashKey(key)
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) fn fingerprint(&self, content: &[u8]) -> Fingerprint {
        Fingerprint::new(self.hash(content))
    }

    pub(super) fn hash(&self, content: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(content);
        hasher.finish()
    }
}
