//! Detectors: what a secret looks like. Each is one file and one line in the [`REGISTRY`] (and one in `policy::Detector`
//! and `MaskCounts`, so that it can be configured and counted).

mod credit_card;
mod email;

use super::MaskCounts;
use crate::policy::Detector;
use std::ops::Range;

/// Takes the matches.
pub(super) type Report<'r> = &'r mut dyn FnMut(Range<usize>);

/// What a detector is made of.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) detector: Detector,
    /// Whether `find` has to look at all.
    pub(super) may_match: fn(&Census) -> bool,
    /// Reports every match in a text, in ascending order of start; linear. A text need not be UTF-8.
    pub(super) find: fn(&[u8], Report<'_>),
    /// Whether the digits of a number are a match.
    pub(super) is_match_number: Option<fn(u64) -> bool>,
    pub(super) replacement: &'static [u8],
    pub(super) count: fn(&mut MaskCounts) -> &mut u64,
}

static REGISTRY: [Entry; 2] = [email::ENTRY, credit_card::ENTRY];

/// The entry of a detector.
pub(super) fn entry(detector: Detector) -> &'static Entry {
    match detector {
        Detector::Email => &REGISTRY[0],
        Detector::CreditCard => &REGISTRY[1],
    }
}

/// What one pass over a text tells all detectors; most texts need no second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) at_sign: bool,
    pub(super) percent: bool,
    pub(super) quote: bool,
    pub(super) ascii: bool,
    pub(super) digits: usize,
}

/// Eight bytes are looked at together, as lanes of a word: left to itself, the compiler makes much more of it.
const LANES: usize = 8;
const ONES: u64 = every(1);
const HIGH: u64 = every(0x80);
/// So that the digits counted in a lane, and those of all lanes, fit a byte.
const MAX_WORDS: usize = 31;

impl Census {
    #[inline]
    pub(super) fn of(text: &[u8]) -> Census {
        let mut count = Count::default();
        let (words, rest) = text.as_chunks::<LANES>();
        for some in words.chunks(MAX_WORDS) {
            for word in some {
                count.add(u64::from_le_bytes(*word));
            }
            count.sum_up();
        }
        if !rest.is_empty() {
            count.add(padded(text, rest.len()));
            count.sum_up();
        }
        Census {
            at_sign: count.at_sign & HIGH != 0,
            percent: count.percent & HIGH != 0,
            quote: count.quote & HIGH != 0,
            ascii: count.all & HIGH == 0,
            digits: count.digits,
        }
    }
}

/// The last `rest` bytes of a text, fewer than [`LANES`], and zeros, which no census counts. Loads what overlaps instead of
/// copying byte by byte.
#[inline]
fn padded(text: &[u8], rest: usize) -> u64 {
    if let Some(last) = text.last_chunk::<LANES>() {
        return u64::from_le_bytes(*last) >> (8 * (LANES - rest));
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (rest - 4));
    }
    text.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// A word of equal bytes.
const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; LANES])
}

/// What was seen, in the highest bit of any lane; of digits, how many in each lane.
#[derive(Default)]
struct Count {
    at_sign: u64,
    percent: u64,
    quote: u64,
    all: u64,
    digits_by_lane: u64,
    digits: usize,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, word: u64) {
        // Of the lanes with the highest bit set, the lowest one is zero for sure.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        self.at_sign |= zero(word ^ every(b'@'));
        self.percent |= zero(word ^ every(b'%'));
        self.quote |= zero(word ^ every(b'"'));
        self.all |= word;
        // The highest bit tells whether the lower seven are at least this much.
        let at_least = |least: u8| (word & !HIGH) + every(0x80 - least);
        let digits = at_least(b'0') & !at_least(b'9' + 1) & !word & HIGH;
        self.digits_by_lane += digits >> 7;
    }

    #[inline(always)]
    fn sum_up(&mut self) {
        self.digits += (self.digits_by_lane.wrapping_mul(ONES) >> 56) as usize;
        self.digits_by_lane = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn every_detector_finds_its_entry() {
        for wanted in [Detector::Email, Detector::CreditCard] {
            assert_eq!(entry(wanted).detector, wanted);
        }
    }

    #[test]
    fn the_census_counts_over_blocks() {
        let text = format!("{}@{}%\"", "7".repeat(300), "x".repeat(300));
        let all = Census { at_sign: true, percent: true, quote: true, ascii: true, digits: 300 };
        assert_eq!(Census::of(text.as_bytes()), all);
    }

    proptest! {
        #[test]
        fn the_census_is_that_of_the_bytes_one_by_one(text in vec(prop_oneof![any::<u8>(), Just(b'@'), b'0'..=b':'], 0..70)) {
            let census = Census {
                at_sign: text.contains(&b'@'),
                percent: text.contains(&b'%'),
                quote: text.contains(&b'"'),
                ascii: text.is_ascii(),
                digits: text.iter().filter(|byte| byte.is_ascii_digit()).count(),
            };
            prop_assert_eq!(Census::of(&text), census);
        }
    }
}
