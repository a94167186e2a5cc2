//! What one pass over a text tells all detectors; most texts need no second one.

/// Kinds of characters that detectors ask for, a bit each.
pub(in crate::mask) mod class {
    pub(in crate::mask) const AT: u16 = 1;
    pub(in crate::mask) const PERCENT: u16 = 1 << 1;
    pub(in crate::mask) const QUOTE: u16 = 1 << 2;
    pub(in crate::mask) const COLON: u16 = 1 << 3;
    pub(in crate::mask) const DOT: u16 = 1 << 4;
    pub(in crate::mask) const HYPHEN: u16 = 1 << 5;
    pub(in crate::mask) const EQUALS: u16 = 1 << 6;
    pub(in crate::mask) const UNDERSCORE: u16 = 1 << 7;
    pub(in crate::mask) const SPACE: u16 = 1 << 8;
    pub(in crate::mask) const SLASH: u16 = 1 << 9;
    pub(in crate::mask) const PLUS: u16 = 1 << 10;
    pub(in crate::mask) const UPPER: u16 = 1 << 11;
    pub(in crate::mask) const LOWER: u16 = 1 << 12;
    /// `'`, `(` or `>`: marks of structures that are neither JSON nor pairs.
    pub(in crate::mask) const MARK: u16 = 1 << 13;
    pub(in crate::mask) const BACKSLASH: u16 = 1 << 14;
    pub(super) const NOT_ASCII: u16 = 1 << 15;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mask) struct Census {
    pub(in crate::mask) classes: u16,
    pub(in crate::mask) digits: usize,
    pub(in crate::mask) length: usize,
}

/// Bytes that are looked at together. The loops over them have no branch, so that the compiler makes vectors of them.
const LANES: usize = 16;
type Lanes = [u8; LANES];
/// So that the digits counted in a lane fit a byte.
const MAX_CHUNKS: usize = 255;

impl Census {
    #[inline]
    pub(in crate::mask) fn of(text: &[u8]) -> Census {
        let mut count = Count::default();
        let (chunks, rest) = text.as_chunks::<LANES>();
        for some in chunks.chunks(MAX_CHUNKS) {
            some.iter().for_each(|chunk| count.add(chunk));
            count.sum_up();
        }
        if !rest.is_empty() {
            count.add(&padded(text, rest.len()));
            count.sum_up();
        }
        Census { classes: count.classes(), digits: count.digits, length: text.len() }
    }

    pub(in crate::mask) fn is_ascii(&self) -> bool {
        self.classes & class::NOT_ASCII == 0
    }

    #[inline]
    pub(in crate::mask) fn has(&self, any_of: u16) -> bool {
        self.classes & any_of != 0
    }
}

/// The last `rest` bytes of a text, fewer than [`LANES`], and zeros, which are of no class. Loads what overlaps instead of
/// copying byte by byte.
#[inline]
fn padded(text: &[u8], rest: usize) -> Lanes {
    let word = if let Some(last) = text.last_chunk::<LANES>() {
        u128::from_le_bytes(*last) >> (8 * (LANES - rest))
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        let above = u64::from_le_bytes(*last).unbounded_shr(8 * (LANES - rest) as u32);
        u128::from(u64::from_le_bytes(*first)) | u128::from(above) << 64
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        u128::from(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (rest - 4)))
    } else {
        u128::from(text.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte)))
    };
    word.to_le_bytes()
}

#[derive(Default)]
struct Count {
    /// The lower and the upper byte of the classes seen in each lane.
    lower: Lanes,
    upper: Lanes,
    digits_by_lane: Lanes,
    digits: usize,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, chunk: &Lanes) {
        const fn low(class: u16) -> u8 {
            class as u8
        }
        const fn high(class: u16) -> u8 {
            (class >> 8) as u8
        }
        for (lane, &byte) in chunk.iter().enumerate() {
            let is = |wanted: u8, class: u8| if byte == wanted { class } else { 0 };
            let within =
                |first: u8, last: u8, class: u8| if byte.wrapping_sub(first) <= last - first { class } else { 0 };
            self.lower[lane] |= is(b'@', low(class::AT))
                | is(b'%', low(class::PERCENT))
                | is(b'"', low(class::QUOTE))
                | is(b':', low(class::COLON))
                | is(b'.', low(class::DOT))
                | is(b'-', low(class::HYPHEN))
                | is(b'=', low(class::EQUALS))
                | is(b'_', low(class::UNDERSCORE));
            self.upper[lane] |= is(b' ', high(class::SPACE))
                | is(b'/', high(class::SLASH))
                | is(b'+', high(class::PLUS))
                | within(b'A', b'Z', high(class::UPPER))
                | within(b'a', b'z', high(class::LOWER))
                | is(b'\'', high(class::MARK))
                | is(b'(', high(class::MARK))
                | is(b'>', high(class::MARK))
                | is(b'\\', high(class::BACKSLASH))
                | (byte & high(class::NOT_ASCII));
            self.digits_by_lane[lane] += within(b'0', b'9', 1);
        }
    }

    #[inline(always)]
    fn sum_up(&mut self) {
        self.digits += self.digits_by_lane.iter().map(|&digits| usize::from(digits)).sum::<usize>();
        self.digits_by_lane = Lanes::default();
    }

    #[inline(always)]
    fn classes(&self) -> u16 {
        let united = |lanes: Lanes| {
            let word = u128::from_le_bytes(lanes);
            let word = word as u64 | (word >> 64) as u64;
            let word = word | word >> 32;
            let word = word | word >> 16;
            (word | word >> 8) as u8
        };
        u16::from_le_bytes([united(self.lower), united(self.upper)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Is = fn(u8) -> bool;
    const ALL: [(u16, Is); 16] = [
        (class::AT, |byte| byte == b'@'),
        (class::PERCENT, |byte| byte == b'%'),
        (class::QUOTE, |byte| byte == b'"'),
        (class::COLON, |byte| byte == b':'),
        (class::DOT, |byte| byte == b'.'),
        (class::HYPHEN, |byte| byte == b'-'),
        (class::EQUALS, |byte| byte == b'='),
        (class::UNDERSCORE, |byte| byte == b'_'),
        (class::SPACE, |byte| byte == b' '),
        (class::SLASH, |byte| byte == b'/'),
        (class::PLUS, |byte| byte == b'+'),
        (class::UPPER, |byte| byte.is_ascii_uppercase()),
        (class::LOWER, |byte| byte.is_ascii_lowercase()),
        (class::MARK, |byte| b"'(>".contains(&byte)),
        (class::BACKSLASH, |byte| byte == b'\\'),
        (class::NOT_ASCII, |byte| !byte.is_ascii()),
    ];

    fn one_by_one(text: &[u8]) -> Census {
        let classes = ALL.iter().filter(|(_, is)| text.iter().any(|&byte| is(byte))).map(|(class, _)| class).sum();
        Census { classes, digits: text.iter().filter(|byte| byte.is_ascii_digit()).count(), length: text.len() }
    }

    #[test]
    fn the_census_counts_over_chunks() {
        let text = format!("{}@{}%\"", "7".repeat(300 * LANES), "x".repeat(300));
        assert_eq!(Census::of(text.as_bytes()), one_by_one(text.as_bytes()));
    }

    proptest! {
        #[test]
        fn the_census_is_that_of_the_bytes_one_by_one(text in vec(prop_oneof![any::<u8>(), Just(b'@'), b'0'..=b':', b'A'..=b'z'], 0..70)) {
            prop_assert_eq!(Census::of(&text), one_by_one(&text));
        }

        #[test]
        fn a_single_byte_is_seen_wherever_it_stands(length in 1usize..50, at in 0usize..50, byte: u8) {
            let mut text = vec![b'x'; length];
            text[at % length] = byte;
            prop_assert_eq!(Census::of(&text), one_by_one(&text));
        }
    }
}
