//! The keyed hash behind every fingerprint.
//!
//! It runs over the labels of every point, so it is a universal hash, not a cipher: NH of UMAC (RFC 4418, section 5.2) with
//! words of 64 bits, then multilinear hashing, which is strongly universal (Lemire and Kaser, "Strongly universal string
//! hashing is fast", 2014). For any two contents that were chosen without knowing the key, the chance that they meet is
//! at most 2⁻⁶³: proven, which nobody has done for XXH3 and its kind, and a third of SipHash's time. It depends on neither
//! the machine nor a library's version: fingerprints are saved with their key.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;

use super::table::Fingerprint;

/// Longer contents go the slow way: they are rare, and the secret must be as long as what is hashed with it.
const MAX_BYTES: usize = 1024;
/// Bytes of two words, which are multiplied with each other.
const PAIR: usize = 16;
const PAIRS: usize = MAX_BYTES / PAIR;

/// A secret of one tenant's state: without it nobody can choose labels that collide, or that crowd one shard.
///
/// 64 bits are enough: among five million series the chance that any two meet is about one in a million.
pub(super) struct HashKey {
    secret: [u8; 16],
    /// A pair for each 16 bytes of content.
    words: [[u64; 2]; PAIRS],
    /// For what the words made of the content, and its length.
    multipliers: [u128; 4],
}

impl HashKey {
    pub(super) fn random() -> HashKey {
        let mut secret = [0; 16];
        for half in secret.chunks_exact_mut(8) {
            // The standard library seeds it from the operating system.
            half.copy_from_slice(&RandomState::new().hash_one(0u8).to_le_bytes());
        }
        HashKey::from_bytes(secret)
    }

    pub(super) fn from_bytes(secret: [u8; 16]) -> HashKey {
        let words = std::array::from_fn(|pair| halves(expand(&secret, pair)));
        let multipliers = std::array::from_fn(|index| expand(&secret, PAIRS + index));
        HashKey { secret, words, multipliers }
    }

    pub(super) fn bytes(&self) -> &[u8; 16] {
        &self.secret
    }

    #[inline]
    pub(super) fn fingerprint(&self, content: &[u8]) -> Fingerprint {
        Fingerprint::new(self.hash(content))
    }

    #[inline]
    pub(super) fn hash(&self, content: &[u8]) -> u64 {
        if content.len() > MAX_BYTES {
            return self.hash_long(content);
        }
        let sum = self.products(content);
        let parts = [sum as u64, (sum >> 64) as u64, content.len() as u64];
        let mixed = parts.iter().zip(&self.multipliers[1..]).fold(self.multipliers[0], |mixed, (part, multiplier)| {
            mixed.wrapping_add(multiplier.wrapping_mul(u128::from(*part)))
        });
        scramble((mixed >> 64) as u64)
    }

    /// NH: the sum of the products of neighbouring words, each with a word of the key added. What is left at the end is
    /// covered by the last 16 bytes, some of them for the second time: the length is hashed as well, so nothing is confused.
    #[inline]
    fn products(&self, content: &[u8]) -> u128 {
        let (pairs, rest) = content.as_chunks::<PAIR>();
        let mut sum = 0u128;
        for (pair, key) in pairs.iter().zip(&self.words) {
            sum = sum.wrapping_add(product(pair, key));
        }
        if rest.is_empty() {
            return sum;
        }
        let last = content.last_chunk().copied().unwrap_or_else(|| {
            let mut padded = [0; PAIR];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        });
        // There is a key: less than `MAX_BYTES` are whole pairs.
        self.words.get(pairs.len()).map_or(sum, |key| sum.wrapping_add(product(&last, key)))
    }

    #[cold]
    fn hash_long(&self, content: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write(content);
        hasher.finish()
    }
}

#[inline(always)]
fn product(pair: &[u8; PAIR], key: &[u64; 2]) -> u128 {
    let [left, right] = halves(u128::from_le_bytes(*pair));
    u128::from(left.wrapping_add(key[0])) * u128::from(right.wrapping_add(key[1]))
}

/// Contents in a row have hashes in a row, which is nothing for open addressing or for a sketch. A bijection: what did not
/// meet does not meet now. Source: the finalizer of SplitMix64 (Stafford's 13th).
#[inline(always)]
fn scramble(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The lower half first.
#[inline(always)]
fn halves(both: u128) -> [u64; 2] {
    [both as u64, (both >> 64) as u64]
}

/// The `index`th 16 bytes of a key: SHA-256 over the secret and a counter.
fn expand(secret: &[u8; 16], index: usize) -> u128 {
    let digest = Sha256::new().chain_update(secret).chain_update((index as u64).to_le_bytes()).finalize();
    digest.iter().take(16).rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> HashKey {
        HashKey::from_bytes(std::array::from_fn(|index| index as u8))
    }

    #[test]
    fn a_saved_fingerprint_is_the_same_on_every_machine_and_in_every_version() {
        let content: Vec<u8> = (0..2000u32).map(|number| (number * 7) as u8).collect();
        let hashes = [0, 1, 16, 250, 1024, 1025, 2000].map(|length| key().hash(&content[..length]));
        let saved = [
            0x1c27_b494_40c9_e28c,
            0x5da0_72cd_0d86_fc8e,
            0x517f_46a7_d0f0_96b2,
            0x88eb_45b5_62f9_1fcd,
            0x06a6_0aa4_37d9_a13d,
            0x5181_748f_04dc_a1b3,
            0x7d5f_dd8b_5650_6610,
        ];
        assert_eq!(hashes, saved);
    }

    proptest! {
        /// NH and multilinear hashing as they are written down, without chunks.
        #[test]
        fn it_is_the_hash_of_the_papers(content in proptest::collection::vec(any::<u8>(), 0..=MAX_BYTES)) {
            let key = key();
            let whole = content.len() / PAIR * PAIR;
            let mut words: Vec<u8> = content[..whole].to_vec();
            if whole < content.len() {
                words.extend(&content[content.len().saturating_sub(PAIR)..]);
                words.resize(whole + PAIR, 0);
            }
            let words: Vec<u64> = words.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            let sum = words.chunks(2).zip(&key.words).fold(0u128, |sum, (pair, key)| {
                let [left, right] = [0, 1].map(|index| u128::from(pair[index].wrapping_add(key[index])));
                sum.wrapping_add(left * right)
            });
            let [m0, m1, m2, m3] = key.multipliers;
            let mixed = m0
                .wrapping_add(m1.wrapping_mul(sum & u128::from(u64::MAX)))
                .wrapping_add(m2.wrapping_mul(sum >> 64))
                .wrapping_add(m3.wrapping_mul(content.len() as u128));
            prop_assert_eq!(key.hash(&content), scramble((mixed >> 64) as u64));
        }

        #[test]
        fn contents_that_differ_a_little_meet_nowhere_and_spread_over_all_bits(
            content in proptest::collection::vec(any::<u8>(), 1..1500), secret: [u8; 16]
        ) {
            let key = HashKey::from_bytes(secret);
            let mut hashes = vec![key.hash(&content), key.hash(&content[..content.len() - 1])];
            hashes.push(key.hash(&[content.as_slice(), &[0]].concat()));
            hashes.extend((0..content.len()).map(|index| {
                let mut other = content.clone();
                other[index] ^= 1 << (index % 8);
                key.hash(&other)
            }));
            let count = hashes.len();
            hashes.sort_unstable();
            hashes.dedup();
            prop_assert_eq!(hashes.len(), count);
        }
    }

    #[test]
    fn neighbouring_labels_fill_shards_and_slots_evenly() {
        let key = HashKey::random();
        let hashes = || (0..64_000u32).map(|number| key.hash(format!("{:0300}", number).as_bytes()));
        for shift in [0, 24, 48, 58] {
            let mut filled = [0u32; 64];
            hashes().for_each(|hash| filled[(hash >> shift) as usize % 64] += 1);
            assert!(filled.iter().all(|count| (800..1200).contains(count)), "bits from {shift}: {filled:?}");
        }
    }
}
