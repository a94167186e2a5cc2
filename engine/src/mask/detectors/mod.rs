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

/// As many bytes as the compiler compares at once.
const LANES: usize = 16;

impl Census {
    #[inline]
    pub(super) fn of(text: &[u8]) -> Census {
        let mut count = Count::default();
        let (blocks, rest) = text.as_chunks::<LANES>();
        for block in blocks {
            count.add(block);
        }
        if !rest.is_empty() {
            count.add(&padded(text, rest.len()));
        }
        Census {
            at_sign: count.at_sign != [0; LANES],
            percent: count.percent != [0; LANES],
            quote: count.quote != [0; LANES],
            ascii: count.all.iter().fold(0, |all, byte| all | byte) < 0x80,
            digits: count.digits,
        }
    }
}

/// The last `rest` bytes of a text, fewer than [`LANES`], and zeros, which no census counts.
#[inline]
fn padded(text: &[u8], rest: usize) -> [u8; LANES] {
    if let Some(last) = text.last_chunk::<LANES>() {
        return (u128::from_le_bytes(*last) >> (8 * (LANES - rest))).to_le_bytes();
    }
    let mut block = [0; LANES];
    block[..rest].copy_from_slice(&text[text.len() - rest..]);
    block
}

/// Lane by lane: what is there is not zero.
#[derive(Default)]
struct Count {
    at_sign: [u8; LANES],
    percent: [u8; LANES],
    quote: [u8; LANES],
    all: [u8; LANES],
    digits: usize,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, block: &[u8; LANES]) {
        let mut digits = 0u8;
        for (lane, &byte) in block.iter().enumerate() {
            self.at_sign[lane] |= u8::from(byte == b'@');
            self.percent[lane] |= u8::from(byte == b'%');
            self.quote[lane] |= u8::from(byte == b'"');
            self.all[lane] |= byte;
            digits += u8::from(byte.wrapping_sub(b'0') < 10);
        }
        self.digits += usize::from(digits);
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
