//! Which finders have to look at a text: decided for all of them at once, by a few look-ups with what its census says.

use super::detectors::{Census, Needs};

/// Finders of one policy: a bit each.
pub(super) const MAX_FINDERS: usize = 64;

const MOST_DIGITS: usize = 31;
const LONGEST: usize = 63;

/// For each value of a part of the census, the finders that it does not rule out.
pub(super) struct Prefilter {
    /// By the lower and by the upper byte of the classes.
    all_of: [[u64; 256]; 2],
    any_of: [[u64; 256]; 2],
    digits: [u64; MOST_DIGITS + 1],
    length: [u64; LONGEST + 1],
}

impl Prefilter {
    /// In the order of the finders, of which there may be [`MAX_FINDERS`].
    pub(super) fn new(finders: &[Needs]) -> Prefilter {
        let mut prefilter = Prefilter {
            all_of: [[0; 256]; 2],
            any_of: [[0; 256]; 2],
            digits: [0; MOST_DIGITS + 1],
            length: [0; LONGEST + 1],
        };
        for (index, needs) in finders.iter().enumerate().take(MAX_FINDERS) {
            let bit = 1 << index;
            for half in 0..2 {
                let part = |classes: u16| usize::from(classes.to_le_bytes()[half]);
                for seen in 0..256 {
                    if seen & part(needs.all_of) == part(needs.all_of) {
                        prefilter.all_of[half][seen] |= bit;
                    }
                    if seen & part(needs.any_of) != 0 || needs.any_of == 0 {
                        prefilter.any_of[half][seen] |= bit;
                    }
                }
            }
            (needs.digits.min(MOST_DIGITS)..=MOST_DIGITS).for_each(|digits| prefilter.digits[digits] |= bit);
            (needs.length.min(LONGEST)..=LONGEST).for_each(|length| prefilter.length[length] |= bit);
        }
        prefilter
    }

    /// The finders that may find something in a text; what needs a literal has yet to look for it.
    #[inline]
    pub(super) fn candidates(&self, census: &Census) -> u64 {
        let [lower, upper] = census.classes.to_le_bytes().map(usize::from);
        self.all_of[0][lower]
            & self.all_of[1][upper]
            & (self.any_of[0][lower] | self.any_of[1][upper])
            & self.digits[census.digits.min(MOST_DIGITS)]
            & self.length[census.length.min(LONGEST)]
    }
}

impl std::fmt::Debug for Prefilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prefilter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn needs()(all_of in any::<u16>(), sparse in any::<u16>(), any_of in prop_oneof![Just(0u16), any::<u16>()], digits in 0usize..40, length in 0usize..80) -> Needs {
            Needs { all_of: all_of & sparse, any_of, digits, length, literals: &[] }
        }
    }

    proptest! {
        #[test]
        fn a_candidate_is_who_has_all_that_it_needs(
            finders in proptest::collection::vec(needs(), 0..=MAX_FINDERS),
            classes: u16, digits in 0usize..50, length in 0usize..100,
        ) {
            let census = Census { classes, digits, length };
            let expected = finders.iter().enumerate().filter(|(_, needs)| {
                classes & needs.all_of == needs.all_of
                    && (needs.any_of == 0 || classes & needs.any_of != 0)
                    // Beyond the ends of the tables a finder has to look for itself.
                    && digits >= needs.digits.min(MOST_DIGITS)
                    && length >= needs.length.min(LONGEST)
            }).fold(0u64, |bits, (index, _)| bits | 1 << index);
            prop_assert_eq!(Prefilter::new(&finders).candidates(&census), expected);
        }
    }
}
