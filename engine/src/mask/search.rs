//! The search of one text: keys, detectors, regexes and lists of all rules, and which match counts where several overlap.

use std::ops::Range;

use super::action::is_replacement;
use super::any_literal::AnyLiteral;
use super::detectors::{class, Census, DigitRuns, Needs};
use super::finder::{finders_of, Finder};
use super::keys::KeyPatterns;
use super::prefilter::{Prefilter, MAX_FINDERS};
use super::{encodings, inside, json};
use crate::policy::{Find, MaskAction, MaskRule};

/// A shorter one may hold a sensitive key all the same, but no encoded text with a key and a value.
const SHORTEST_ENCODED: usize = 24;

/// Encodings around each other that are taken off.
const MAX_LAYERS: usize = 2;

/// Something to mask in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) range: Range<usize>,
    pub(super) rule: usize,
    pub(super) by: FoundBy,
    /// Put the replacement between JSON quotes, each behind this many backslashes: it stands for a JSON number, list or map.
    pub(super) quoted: Option<usize>,
    /// The range is what `by` found, not more, and not in an encoding.
    pub(super) exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundBy {
    /// A sensitive key.
    Key,
    /// Index of the finder.
    Finder(usize),
}

/// Why a text, or a part of it, is removed though nobody knows what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The item is larger than may be searched.
    Size,
    /// The search of the item took too long.
    Time,
    /// A value's end is missing: it is masked to the end of its text.
    Unterminated,
}

impl Failure {
    pub const ALL: [Failure; 3] = [Failure::Size, Failure::Time, Failure::Unterminated];

    pub fn name(self) -> &'static str {
        match self {
            Failure::Size => "size",
            Failure::Time => "time",
            Failure::Unterminated => "unterminated",
        }
    }
}

/// Of one text's search, reused from text to text.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What was found.
    pub(super) findings: Vec<Finding>,
    runs: DigitRuns,
}

/// What the rules of a policy look for.
#[derive(Debug)]
pub(super) struct Searcher {
    pub(super) keys: KeyPatterns,
    /// In the order of their rules.
    pub(super) finders: Vec<Finder>,
    /// Finders that begin at digits, a bit each.
    digit_finders: u64,
    /// Indices of the finders that look at numbers.
    number_finders: Vec<usize>,
    prefilter: Prefilter,
    /// Finders that need one of their literals to occur, and the literals of all of them: of those that look at nearly every
    /// text, and of the others.
    literals: [(u64, Option<AnyLiteral>); 2],
}

impl Searcher {
    /// Compiles; the error names the rule and says what is wrong with it.
    pub(super) fn compile(rules: &[MaskRule]) -> Result<Searcher, String> {
        let mut keys = KeyPatterns::default();
        let mut finders: Vec<Finder> = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let wrong = |what: &str, error: &str| format!("rules[{index}].{what}: {error}");
            match &rule.find {
                Find::Keys(patterns) => {
                    for (at, pattern) in patterns.iter().enumerate() {
                        keys.add(pattern, index).map_err(|error| wrong(&format!("keys[{at}]"), error))?;
                    }
                }
                values => {
                    finders.extend(finders_of(values, &rule.name, index).map_err(|(what, error)| wrong(what, &error))?)
                }
            }
        }
        if finders.len() > MAX_FINDERS {
            return Err(format!(
                "rules: {} detectors, regexes and lists together are more than {MAX_FINDERS}",
                finders.len()
            ));
        }
        let needs: Vec<Needs> = finders.iter().map(Finder::needs).collect();
        let literals_of = |broad: bool| {
            let among = |needs: &Needs| !needs.literals.is_empty() && broad == looks_at_nearly_every_text(needs);
            let finders =
                needs.iter().enumerate().filter(|(_, needs)| among(needs)).fold(0, |all, (at, _)| all | 1 << at);
            let literals: Vec<&str> =
                needs.iter().filter(|needs| among(needs)).flat_map(|needs| needs.literals).copied().collect();
            AnyLiteral::compile(&literals).map(|any| (finders, any))
        };
        let number_finders = (0..finders.len()).filter(|&index| finders[index].looks_at_numbers()).collect();
        let at_digits = finders.iter().enumerate().filter(|(_, finder)| finder.begins_at_digits());
        Ok(Searcher {
            keys,
            digit_finders: at_digits.fold(0, |all, (at, _)| all | 1 << at),
            number_finders,
            prefilter: Prefilter::new(&needs),
            literals: [literals_of(true)?, literals_of(false)?],
            finders,
        })
    }

    /// Whether a text has to be searched; if not, it holds nothing to mask.
    #[inline]
    pub(super) fn may_match(&self, census: &Census) -> bool {
        self.prefilter.candidates(census) != 0 || self.may_hold_keys(census) || may_be_encoded(census)
    }

    #[inline]
    fn may_hold_keys(&self, census: &Census) -> bool {
        (census.has(class::QUOTE) || signs(census).any()) && !self.keys.is_empty()
    }

    /// The finder that a whole number matches.
    #[inline]
    pub(super) fn matching_number(&self, number: u64) -> Option<usize> {
        self.number_finders.iter().copied().find(|&index| self.finders[index].matches_number(number))
    }

    /// Fills the scratch's findings: in order, without overlap. `goes_on` is asked before each part of the search of a large text;
    /// false ends it, and what was found is incomplete then: Err.
    pub(super) fn search(
        &self,
        text: &[u8],
        actions: impl Fn(usize) -> MaskAction,
        scratch: &mut Scratch,
        goes_on: impl Fn() -> bool,
    ) -> Result<bool, ()> {
        let Scratch { findings, runs } = scratch;
        findings.clear();
        let mut unterminated = false;
        let census = Census::of(text);
        if self.may_hold_keys(&census) {
            let rule_of = |key: &[u8]| self.keys.rule_of(key);
            let mut report = |member: inside::Member, quoted: Option<usize>| {
                let removes = actions(member.rule) == MaskAction::Remove;
                let (range, quoted) = if removes { (member.whole, None) } else { (member.value, quoted) };
                unterminated |= member.unterminated;
                if removes || !is_replacement(&text[range.clone()]) {
                    findings.push(Finding { range, rule: member.rule, by: FoundBy::Key, quoted, exact: true });
                }
            };
            if census.has(class::QUOTE) {
                json::find(text, &rule_of, &mut report);
            }
            let signs = signs(&census);
            if signs.any() {
                inside::find(text, signs, &rule_of, &mut |member| report(member, None));
            }
        }
        // What stands in an encoding is no value that an action could work on.
        let mut report = |index: usize, range: Range<usize>, is_plain: bool| {
            let found = range.clone();
            let (range, quoted) = json::whole_bare_value(text, range);
            let (rule, exact) = (self.finders[index].rule, is_plain && range == found);
            findings.push(Finding { range, rule, by: FoundBy::Finder(index), quoted, exact });
        };
        self.find_values(text, &census, runs, &goes_on, &mut |index, range| report(index, range, true))?;
        if may_hold_escapes(&census) {
            let mut decoded = encodings::decode(text);
            for _ in 0..MAX_LAYERS {
                let Some(layer) = &decoded else { break };
                let census = Census::of(&layer.bytes);
                self.find_values(&layer.bytes, &census, runs, &goes_on, &mut |index, range| {
                    let source = layer.source_of(&range);
                    let is_plain = source.len() == range.len();
                    report(index, source, is_plain);
                })?;
                decoded = encodings::decode(&layer.bytes).map(|inner| inner.within(layer));
            }
        }
        if may_hold_base64(&census) {
            let (mut complete, mut cut_tokens) = (Ok(()), Vec::new());
            inside::base64_texts(text, &mut |token, decoded| {
                let census = Census::of(decoded);
                let mut report = |index, _| report(index, token.clone(), false);
                let found = self.find_values(decoded, &census, runs, &goes_on, &mut report);
                complete = complete.and(found);
                if decoded.len() >= inside::MAX_DECODED {
                    // Too long to be decoded to its end: what is behind is not passed unseen.
                    cut_tokens.push(token);
                }
            });
            unterminated |= !cut_tokens.is_empty();
            complete?;
            let cut = |range| Finding { range, rule: 0, by: FoundBy::Key, quoted: None, exact: false };
            findings.extend(cut_tokens.into_iter().map(cut));
        }
        if findings.len() > 1 {
            unite_overlaps(findings);
        }
        Ok(unterminated)
    }

    /// Reports what the finders find in a text. Err: `goes_on` ended it.
    fn find_values(
        &self,
        text: &[u8],
        census: &Census,
        runs: &mut DigitRuns,
        goes_on: &impl Fn() -> bool,
        report: &mut dyn FnMut(usize, Range<usize>),
    ) -> Result<(), ()> {
        let mut candidates = self.prefilter.candidates(census);
        for (finders, any) in &self.literals {
            if candidates & finders != 0 && !any.as_ref().is_some_and(|any| any.occurs_in(text)) {
                candidates &= !finders;
            }
        }
        let runs = if candidates & self.digit_finders != 0 { runs.of(text) } else { &[] };
        while candidates != 0 {
            if !goes_on() {
                return Err(());
            }
            let index = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            self.finders[index].find(text, runs, &mut |range| report(index, range));
        }
        Ok(())
    }
}

/// The literals of such finders are searched for apart from the others, so that the search for them is quick.
fn looks_at_nearly_every_text(needs: &Needs) -> bool {
    needs.all_of == 0 && (needs.any_of == 0 || needs.any_of & class::SPACE != 0)
}

fn may_be_encoded(census: &Census) -> bool {
    may_hold_escapes(census) || may_hold_base64(census)
}

/// `%40`, `\u0040`, and the `+` of forms.
#[inline]
fn may_hold_escapes(census: &Census) -> bool {
    const FORM: u16 = class::PLUS | class::EQUALS;
    census.has(class::PERCENT | class::BACKSLASH) || census.classes & FORM == FORM
}

/// Six bits of text are a capital more often than not, so a token of this length has one.
#[inline]
fn may_hold_base64(census: &Census) -> bool {
    census.length >= SHORTEST_ENCODED && census.has(class::UPPER)
}

#[inline]
fn signs(census: &Census) -> inside::Signs {
    inside::Signs {
        pairs: census.has(class::EQUALS | class::COLON | class::PERCENT),
        literals: census.has(class::MARK),
        options: census.has(class::HYPHEN),
        base64: may_hold_base64(census),
    }
}

/// Sorts, and makes one finding of those that overlap: the first rule's among those that cover all of it. If none does,
/// it is the first rule's, but not exactly what that found.
fn unite_overlaps(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|finding| (finding.range.start, std::cmp::Reverse(finding.range.end), finding.rule));
    findings.dedup_by(|next, kept| {
        let overlaps = next.range.start < kept.range.end;
        if overlaps {
            let end = kept.range.end.max(next.range.end);
            // `next` does not begin before `kept`.
            let next_covers = next.range.start == kept.range.start && next.range.end == end && next.exact;
            let kept_covers = kept.range.end == end && kept.exact;
            let next_wins = match (kept_covers, next_covers) {
                (true, false) => false,
                (false, true) => true,
                (true, true) | (false, false) => next.rule < kept.rule,
            };
            if next_wins {
                (kept.rule, kept.by, kept.quoted) = (next.rule, next.by, next.quoted);
            }
            kept.exact = kept_covers || next_covers;
            kept.quoted = kept.quoted.filter(|_| kept_covers || next_covers);
            kept.range.end = end;
        }
        overlaps
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(range: Range<usize>, rule: usize, exact: bool) -> Finding {
        Finding { range, rule, by: FoundBy::Finder(rule), quoted: None, exact }
    }

    #[test]
    fn of_overlapping_findings_the_widest_counts_and_of_equal_ones_the_first_rule() {
        for (found, expected) in [
            (vec![(0..4, 1), (0..4, 0)], vec![finding(0..4, 0, true)]),
            (vec![(2..4, 0), (0..9, 1)], vec![finding(0..9, 1, true)]),
            (vec![(0..5, 1), (3..9, 0)], vec![finding(0..9, 0, false)]),
            (vec![(0..5, 1), (3..9, 0), (0..9, 2)], vec![finding(0..9, 2, true)]),
            (vec![(5..9, 1), (0..5, 0)], vec![finding(0..5, 0, true), finding(5..9, 1, true)]),
        ] {
            let mut findings: Vec<_> = found.iter().map(|(range, rule)| finding(range.clone(), *rule, true)).collect();
            unite_overlaps(&mut findings);
            assert_eq!(findings, expected, "{found:?}");
        }
    }
}
