//! Where the digits of a text stand: told once for all detectors that begin at digits.

/// Digits next to each other, with none beside them: the place of the first and the one behind the last.
pub(in crate::mask) type Run = [usize; 2];

/// The runs of digits of one text. Reusable: keeps its memory from text to text.
#[derive(Debug, Default)]
pub(in crate::mask) struct DigitRuns {
    /// Where runs begin and end, in turn; what is behind the last is of another text.
    edges: Vec<usize>,
}

/// Bytes that are looked at together.
const LANES: usize = 8;

impl DigitRuns {
    /// The runs of a text, in order. Eight bytes at a time, for most of a text is no digit.
    pub(in crate::mask) fn of(&mut self, text: &[u8]) -> &[Run] {
        let (words, rest) = text.as_chunks::<LANES>();
        let mut count = 0;
        let mut before = 0;
        for (index, word) in words.iter().enumerate() {
            let digits = digit_lanes(u64::from_le_bytes(*word));
            count = self.put(count, index * LANES, digits ^ (digits << 8 | before));
            before = digits >> (8 * (LANES - 1));
        }
        // Zeros are no digits: a run at the end of the text ends there.
        let digits = digit_lanes(rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        count = self.put(count, words.len() * LANES, digits ^ (digits << 8 | before));
        self.edges[..count].as_chunks().0
    }

    /// Puts the edges of a word, which begins at `start`, behind `count` others; returns how many there are then.
    #[inline(always)]
    fn put(&mut self, mut count: usize, start: usize, mut edges: u64) -> usize {
        if edges == 0 {
            return count;
        }
        if self.edges.len() < count + LANES {
            self.edges.resize(2 * count + LANES, 0);
        }
        while edges != 0 {
            self.edges[count] = start + edges.trailing_zeros() as usize / 8;
            count += 1;
            edges &= edges - 1;
        }
        count
    }
}

/// The highest bit of each lane that is a digit.
#[inline(always)]
fn digit_lanes(word: u64) -> u64 {
    const fn every(byte: u8) -> u64 {
        u64::from_le_bytes([byte; LANES])
    }
    const HIGH: u64 = every(0x80);
    // The highest bit of a lane tells whether its lower seven are at least this much.
    let at_least = |least: u8| (word & !HIGH) + every(0x80 - least);
    at_least(b'0') & !at_least(b'9' + 1) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn one_by_one(text: &[u8]) -> Vec<Run> {
        let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
        let starts = (0..text.len()).filter(|&at| is_digit(at) && (at == 0 || !is_digit(at - 1)));
        starts.map(|start| [start, (start..).find(|&at| !is_digit(at)).unwrap()]).collect()
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_bytes_one_by_one(
            texts in vec(vec(prop_oneof![b'0'..=b'9', b'/'..=b':', any::<u8>()], 0..40), 1..4)
        ) {
            let mut runs = DigitRuns::default();
            for text in &texts {
                prop_assert_eq!(runs.of(text), one_by_one(text));
            }
        }
    }
}
