//! Literals that an operator lists, such as the names of customers: up to 100,000, found as whole words, the longest first.
//!
//! An automaton of so many is larger than a processor's caches, so it is not walked over every text. A literal starts
//! where a word does, and its first word stands there whole: a bitmap over the hashes of all first words tells most words
//! apart, and only behind a hit is the automaton asked, from that place on. Literals that do not begin with an ASCII
//! letter, digit or `_` start anywhere; of them the first bytes are hashed in the same way.

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use std::ops::Range;

pub(super) const MOST: usize = 100_000;
const SHORTEST: usize = 2;

/// A compiled list.
#[derive(Debug)]
pub(super) struct Literals {
    /// None if the list is empty.
    automaton: Option<NFA>,
    words: Bitmap,
    /// What may begin a literal that does not begin with a word, by its first byte.
    others: Option<Box<[bool; 256]>>,
    /// How many bytes of such literals are hashed.
    others_hashed: usize,
    ignore_case: bool,
}

impl Literals {
    /// Compiles; the error names the literal by index. Without case means ASCII case.
    pub(super) fn compile(values: &[String], ignore_case: bool) -> Result<Literals, String> {
        if values.len() > MOST {
            return Err(format!("mask.literals: {} literals are too many; at most {MOST} can be listed", values.len()));
        }
        for (index, value) in values.iter().enumerate() {
            if value.is_empty() {
                return Err(format!("mask.literals[{index}]: a literal must not be empty"));
            }
            if value.len() < SHORTEST {
                return Err(format!(
                    "mask.literals[{index}]: {value:?} is too short; a literal has at least {SHORTEST} bytes"
                ));
            }
        }
        let build = || {
            NFA::builder()
                .match_kind(MatchKind::Standard)
                .ascii_case_insensitive(ignore_case)
                .prefilter(false)
                .build(values)
        };
        let automaton = if values.is_empty() { None } else { Some(build()) };
        let automaton =
            automaton.transpose().map_err(|error| format!("mask.literals: {error}; list fewer or shorter literals"))?;
        let mut literals = Literals {
            automaton,
            words: Bitmap::with_room_for(values.len()),
            others: None,
            others_hashed: 0,
            ignore_case,
        };
        let others = || values.iter().map(String::as_bytes).filter(|value| !is_word(value[0]));
        literals.others_hashed = others().map(<[u8]>::len).min().unwrap_or(0).min(HASHED);
        for value in values {
            let value = value.as_bytes();
            let hashed = if is_word(value[0]) { word_length(value) } else { literals.others_hashed };
            literals.words.insert(key(value, hashed, ignore_case));
        }
        for value in others() {
            literals.others.get_or_insert_with(|| Box::new([false; 256]))[usize::from(value[0])] = true;
        }
        Ok(literals)
    }

    /// Reports every match, in ascending order, without overlap. Linear in the text for a given list: from a place where a
    /// literal may start no more is read than the longest one.
    pub(super) fn find(&self, text: &[u8], found: &mut dyn FnMut(Range<usize>)) {
        let Some(automaton) = &self.automaton else { return };
        let mut done = 0;
        let mut within_word = 0;
        for from in (0..text.len()).step_by(BLOCK) {
            let block = &text[from..text.len().min(from + BLOCK)];
            let words = word_bytes(block);
            let mut starts = words & !(words << 1 | within_word);
            if self.others.is_some() {
                starts |= !words & (u64::MAX >> (BLOCK - block.len()));
            }
            within_word = words >> (BLOCK - 1);
            while starts != 0 {
                let offset = starts.trailing_zeros();
                starts &= starts - 1;
                let start = from + offset as usize;
                if start < done || !self.may_start(&text[start..], words >> offset, BLOCK - offset as usize) {
                    continue;
                }
                if let Some(end) = longest_end(automaton, text, start) {
                    found(start..end);
                    done = end;
                }
            }
        }
    }

    /// Whether a literal may start the rest of a text, of whose first `known` bytes `words` tells which are of a word.
    #[inline(always)]
    fn may_start(&self, rest: &[u8], words: u64, known: usize) -> bool {
        let hashed = if words & 1 == 0 {
            let of_other = self.others.as_ref().is_some_and(|others| others[usize::from(rest[0])]);
            if !of_other || rest.len() < self.others_hashed {
                return false;
            }
            self.others_hashed
        } else {
            match words.trailing_ones() as usize {
                length if length < known => length,
                _ => word_length(rest),
            }
        };
        self.words.contains(key(rest, hashed, self.ignore_case))
    }
}

/// The end of the longest literal that starts at `start` and ends with a word.
fn longest_end(automaton: &NFA, text: &[u8], start: usize) -> Option<usize> {
    let mut state = automaton.start_state(Anchored::Yes).ok()?;
    let mut longest = None;
    for (offset, &byte) in text[start..].iter().enumerate() {
        state = automaton.next_state(Anchored::Yes, state, byte);
        if automaton.is_special(state) {
            if automaton.is_dead(state) {
                break;
            }
            let end = start + offset + 1;
            // Those that end here and began later are listed too, behind the one that began at `start`.
            let is_whole = |pattern| automaton.pattern_len(pattern) == end - start;
            let is_match = automaton.is_match(state) && is_whole(automaton.match_pattern(state, 0));
            if is_match && is_border(byte, text.get(end)) {
                longest = Some(end);
            }
        }
    }
    longest
}

/// Whether a literal may end between the two bytes.
fn is_border(last: u8, next: Option<&u8>) -> bool {
    !is_word(last) || !next.is_some_and(|&next| is_word(next))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|&byte| !is_word(byte)).unwrap_or(text.len())
}

/// So many bytes have their bit in a mask.
const BLOCK: usize = 64;
/// Eight bytes are looked at together, as lanes of a word: the cost of a text without a match is this.
const LANES: usize = 8;

/// A bit for each byte of a block that is of a word.
#[inline(always)]
fn word_bytes(block: &[u8]) -> u64 {
    let (lanes, rest) = block.as_chunks::<LANES>();
    let mut bits = 0;
    for (index, lane) in lanes.iter().enumerate() {
        bits |= word_lanes(u64::from_le_bytes(*lane)) << (index * LANES);
    }
    if !rest.is_empty() {
        let last = match block.last_chunk::<LANES>() {
            Some(overlapping) => u64::from_le_bytes(*overlapping) >> (8 * (LANES - rest.len())),
            None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        bits |= word_lanes(last) << (block.len() - rest.len());
    }
    bits
}

#[inline(always)]
fn word_lanes(lanes: u64) -> u64 {
    const HIGH: u64 = every(0x80);
    let low = lanes & !HIGH;
    // The highest bit of a lane tells whether its lower seven are at least this much.
    let within = |lanes: u64, first: u8, last: u8| (lanes + every(0x80 - first)) & !(lanes + every(0x7f - last));
    let letters = within(low | every(0x20), b'a', b'z');
    let words = (letters | within(low, b'0', b'9') | within(low, b'_', b'_')) & !lanes & HIGH;
    // Brings the lanes' bits together.
    (words >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// A word of equal bytes.
const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; LANES])
}

/// So many bytes are hashed at most, and the length.
const HASHED: usize = 8;

/// The first bytes of a text, of which a word of this length is hashed.
#[inline(always)]
fn key(text: &[u8], length: usize, ignore_case: bool) -> u64 {
    let hashed = length.min(HASHED);
    let mut bytes = match text.first_chunk::<HASHED>() {
        Some(bytes) => u64::from_le_bytes(*bytes) & (u64::MAX >> (8 * (HASHED - hashed))),
        None => text[..hashed].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    if ignore_case {
        // Brings other characters together too, which costs no more than a look at the automaton.
        bytes |= every(0x20) & (u64::MAX >> (8 * (HASHED - hashed)));
    }
    bytes ^ (length as u64).rotate_right(8)
}

/// A set of hashes, of which a few others seem to be members too.
#[derive(Debug)]
struct Bitmap {
    bits: Box<[u64]>,
    shift: u32,
}

impl Bitmap {
    /// Of 32 other words one seems to be a member.
    const BITS_EACH: usize = 32;

    fn with_room_for(members: usize) -> Bitmap {
        let bits = (members.max(2) * Bitmap::BITS_EACH).next_power_of_two();
        Bitmap { bits: vec![0; bits / 64].into(), shift: 64 - bits.trailing_zeros() }
    }

    #[inline(always)]
    fn place(&self, key: u64) -> (usize, u64) {
        // The multiplier of Fibonacci hashing; the shift of the key brings its upper bytes into play.
        let hash = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        ((hash / 64) as usize, 1 << (hash % 64))
    }

    fn insert(&mut self, key: u64) {
        let (word, bit) = self.place(key);
        self.bits[word] |= bit;
    }

    #[inline(always)]
    fn contains(&self, key: u64) -> bool {
        let (word, bit) = self.place(key);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn list(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| value.to_string()).collect()
    }

    fn mask(literals: &Literals, text: &str) -> String {
        let mut out = Vec::new();
        let mut copied = 0;
        literals.find(text.as_bytes(), &mut |range| {
            out.extend_from_slice(&text.as_bytes()[copied..range.start]);
            out.push(b'#');
            copied = range.end;
        });
        out.extend_from_slice(&text.as_bytes()[copied..]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn literals_are_found_as_whole_words_the_longest_first() {
        let names =
            ["Acme", "Acme Corp", "Smith & Sons", "@handle", "Müller", "株式会社", "Ümit", "C++", "ab", "user_1"];
        let literals = Literals::compile(&list(&names), false).unwrap();
        for (text, expected) in [
            ("Acme", "#"),
            ("from Acme Corp.", "from #."),
            ("Acme Corporation", "# Corporation"),
            ("Acmeology and acme", "Acmeology and acme"),
            ("Smith & Sons, Smith", "#, Smith"),
            ("to @handle!", "to #!"),
            ("x@handle", "x#"),
            ("Müllers Müller", "Müllers #"),
            ("東京株式会社御中", "東京#御中"),
            ("Ümit", "#"),
            ("C++17 or C++", "#17 or #"),
            ("éab ab_ ab", "é# ab_ #"),
            ("user_1 user_12", "# user_12"),
            ("ab,ab;ab", "#,#;#"),
            ("", ""),
        ] {
            assert_eq!(mask(&literals, text), expected, "{text}");
        }
    }

    #[test]
    fn case_counts_unless_told_otherwise() {
        let literals = Literals::compile(&list(&["Acme Corp", "Größe AG"]), true).unwrap();
        assert_eq!(mask(&literals, "ACME corp, grÖße, größe ag"), "#, grÖße, #");
    }

    #[test]
    fn errors_say_which_literal_and_what_to_do() {
        for (values, part) in [
            (list(&["ab", ""]), "mask.literals[1]: a literal must not be empty"),
            (list(&["a"]), "mask.literals[0]: \"a\" is too short"),
            (vec!["ab".to_string(); MOST + 1], "100001 literals are too many; at most 100000"),
        ] {
            let error = Literals::compile(&values, false).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_empty_list_finds_nothing() {
        assert_eq!(mask(&Literals::compile(&[], false).unwrap(), "ab"), "ab");
    }

    /// The rule, told naively.
    fn naive(values: &[String], text: &[u8]) -> Vec<Range<usize>> {
        let word = |at: usize| text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let border = |at: usize| at == 0 || !(word(at - 1) && word(at));
        let mut matches = Vec::new();
        let mut position = 0;
        while position < text.len() {
            let literals = values.iter().filter(|value| text[position..].starts_with(value.as_bytes()));
            let ends = literals.map(|value| position + value.len());
            match ends.filter(|&end| border(position) && border(end)).max() {
                Some(end) => {
                    matches.push(position..end);
                    position = end;
                }
                None => position += 1,
            }
        }
        matches
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_the_rule_says(values in vec("[ab _é.]{2,5}", 0..6), text in "[ab _é.]{0,24}") {
            let values: Vec<String> = values;
            let literals = Literals::compile(&values, false).unwrap();
            let mut ranges = Vec::new();
            literals.find(text.as_bytes(), &mut |range| ranges.push(range));
            prop_assert_eq!(ranges, naive(&values, text.as_bytes()));
        }
    }
}
