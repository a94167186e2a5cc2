//! Whether any of the literals that detectors need occurs in a text, without regard to (ASCII) case.

use aho_corasick::{packed, AhoCorasick};

/// Longer texts are not copied to be brought into lower case.
const MAX_COPIED: usize = 512;

#[derive(Debug)]
pub(super) struct AnyLiteral {
    /// Several bytes at a time, on processors that can; knows lower case only.
    packed: Option<packed::Searcher>,
    automaton: AhoCorasick,
}

impl AnyLiteral {
    /// None if there are no literals; Err says why they cannot be searched for.
    pub(super) fn compile(literals: &[&str]) -> Result<Option<AnyLiteral>, String> {
        let mut fewest: Vec<String> = literals.iter().map(|literal| literal.to_ascii_lowercase()).collect();
        fewest.sort_by_key(String::len);
        fewest.dedup();
        // Where a literal occurs, so does every one inside of it.
        let mut needed: Vec<String> = Vec::new();
        for literal in fewest {
            if !needed.iter().any(|known| literal.contains(known.as_str())) {
                needed.push(literal);
            }
        }
        if needed.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&needed);
        let packed = packed::Config::new().builder().extend(&needed).build();
        Ok(Some(AnyLiteral { packed, automaton: automaton.map_err(|error| error.to_string())? }))
    }

    pub(super) fn occurs_in(&self, text: &[u8]) -> bool {
        match &self.packed {
            Some(packed) if (packed.minimum_len()..=MAX_COPIED).contains(&text.len()) => {
                let mut copy = [0; MAX_COPIED];
                let copy = &mut copy[..text.len()];
                copy.copy_from_slice(text);
                copy.make_ascii_lowercase();
                packed.find(&*copy).is_some()
            }
            _ => self.automaton.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_literal_is_found_wherever_and_however_it_is_written(
            literals in proptest::collection::vec("[a-d=]{2,6}", 1..70), text in "[a-dA-D= ]{0,600}"
        ) {
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            let expected = literals.iter().any(|literal| text.to_ascii_lowercase().contains(literal));
            let any = AnyLiteral::compile(&literals).unwrap().unwrap();
            prop_assert_eq!(any.occurs_in(text.as_bytes()), expected);
        }
    }
}
