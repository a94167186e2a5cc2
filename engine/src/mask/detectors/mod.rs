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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) at_sign: bool,
    pub(super) percent: bool,
    pub(super) quote: bool,
    pub(super) digits: usize,
}

/// So that the digits of a block fit a byte, and the compiler can count in vector lanes.
const BLOCK: usize = 128;

impl Census {
    #[inline]
    pub(super) fn of(text: &[u8]) -> Census {
        let mut census = Census::default();
        for block in text.chunks(BLOCK) {
            let (mut digits, mut at_sign, mut percent, mut quote) = (0u8, 0u8, 0u8, 0u8);
            for &byte in block {
                digits += u8::from(byte.wrapping_sub(b'0') < 10);
                at_sign |= u8::from(byte == b'@');
                percent |= u8::from(byte == b'%');
                quote |= u8::from(byte == b'"');
            }
            census.digits += usize::from(digits);
            census.at_sign |= at_sign != 0;
            census.percent |= percent != 0;
            census.quote |= quote != 0;
        }
        census
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detector_finds_its_entry() {
        for wanted in [Detector::Email, Detector::CreditCard] {
            assert_eq!(entry(wanted).detector, wanted);
        }
    }

    #[test]
    fn the_census_counts_over_blocks() {
        let text = format!("{}@{}%\"", "7".repeat(300), "x".repeat(300));
        let all = Census { at_sign: true, percent: true, quote: true, digits: 300 };
        assert_eq!(Census::of(text.as_bytes()), all);
        assert_eq!(Census::of(b""), Census::default());
    }
}
