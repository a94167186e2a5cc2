//! Values of sensitive keys inside a text that is not JSON: a log body, a span's name, a status message, an SQL
//! statement, a URL, a dump of headers, a stack trace. Members of JSON are found by `json`.
//!
//! Not parsers: each part looks for the sign that a key and its value stand on either side of, and reads a few bytes to
//! the left of it; only behind a sensitive key is a value looked for. So a text without one costs little, and the text
//! around it may be anything, cut off anywhere. Where two readings differ in how far a value reaches, the longer one
//! wins. Linear: what is looked ahead or behind without becoming part of a value is bounded.
//!
//! | file | finds |
//! |---|---|
//! | [`pairs`] | `key=value`, `key: value`, `key => value` |
//! | [`options`] | `--key value` |
//! | [`headers`] | values that hold blanks: `Authorization: Bearer x`, `Cookie: a=b; c=d` |
//! | [`literals`] | SQL, markup, calls and tuples: `key LIKE 'value'`, `<key>value</key>`, `("key", "value")` |
//! | [`rows`] | `INSERT INTO t (a, key) VALUES (1, 'value')` |
//! | [`percent`], [`base64`] | all of these in an encoding |

mod base64;
mod bytes;
mod headers;
mod key;
mod literals;
mod options;
mod pairs;
mod percent;
mod rows;
mod separators;
mod value;

use std::ops::Range;

pub(super) use self::base64::{texts as base64_texts, MAX_DECODED};
pub(super) use self::percent::escaped_byte;

/// A value of a sensitive key inside a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// The value's content, without its quotes.
    pub(super) value: Range<usize>,
    /// What goes when the member is removed: key, separator, value, and one of the separators around it where the
    /// structure has them (`a=1&secret=2&b=3` -> `a=1&b=3`).
    pub(super) whole: Range<usize>,
    /// Which rule the key belongs to.
    pub(super) rule: usize,
    /// The end of the value was missing, or the structure was broken: it reaches to the end of the text.
    pub(super) unterminated: bool,
}

/// Which parts may find something in a text, by what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signs {
    /// `=`, `:` or `%`.
    pub(super) pairs: bool,
    /// `'`, `(` or `>`.
    pub(super) literals: bool,
    /// `-`.
    pub(super) options: bool,
    /// A token of base64.
    pub(super) base64: bool,
}

impl Signs {
    const ALL: Signs = Signs { pairs: true, literals: true, options: true, base64: true };

    pub(super) fn any(self) -> bool {
        self.pairs || self.literals || self.options || self.base64
    }
}

/// Reports members in ascending order, without overlap; linear. `rule_of` says to which masking rule a key (in any case,
/// decoded) belongs, if it is sensitive.
pub(super) fn find(
    text: &[u8],
    signs: Signs,
    rule_of: &impl Fn(&[u8]) -> Option<usize>,
    report: &mut dyn FnMut(Member),
) {
    for member in members_with(signs, text, Layers::default(), rule_of) {
        report(member);
    }
}

/// The encodings that were taken off the text so far.
#[derive(Debug, Clone, Copy, Default)]
struct Layers {
    percent: u8,
    base64: u8,
}

impl Layers {
    const MAX_PERCENT: u8 = 2;
    const MAX_BASE64: u8 = 2;

    /// Whether nobody else has looked for JSON in the text.
    fn hides_json(self) -> bool {
        self.percent + self.base64 > 0
    }
}

fn members(text: &[u8], layers: Layers, rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Vec<Member> {
    members_with(Signs::ALL, text, layers, rule_of)
}

fn members_with(signs: Signs, text: &[u8], layers: Layers, rule_of: &impl Fn(&[u8]) -> Option<usize>) -> Vec<Member> {
    // Empty until something is found: no allocation.
    let mut found = Vec::new();
    let has_percent = signs.pairs && pairs::find(text, layers, rule_of, &mut found);
    if signs.literals {
        literals::find(text, rule_of, &mut found);
    }
    if signs.options {
        options::find(text, rule_of, &mut found);
    }
    if !found.is_empty() {
        unite_overlaps(&mut found);
        separators::take_along(text, &mut found);
    }
    let plain = found.len();
    if has_percent && layers.percent < Layers::MAX_PERCENT {
        percent::find(text, layers, rule_of, &mut found);
    }
    if signs.base64 && layers.base64 < Layers::MAX_BASE64 {
        base64::find(text, layers, rule_of, &mut found);
    }
    if found.len() > plain {
        unite_overlaps(&mut found);
    }
    found
}

/// Sorts, and makes one member of those whose values overlap.
fn unite_overlaps(found: &mut Vec<Member>) {
    found.sort_by_key(|member| (member.value.start, std::cmp::Reverse(member.value.end)));
    found.dedup_by(|next, kept| {
        let overlaps = next.value.start < kept.whole.end;
        if overlaps {
            kept.value.end = kept.value.end.max(next.value.end);
            kept.whole.start = kept.whole.start.min(next.whole.start);
            kept.whole.end = kept.whole.end.max(next.whole.end);
            kept.unterminated |= next.unterminated;
        }
        overlaps
    });
    let mut cut_end = 0;
    for member in found {
        member.whole.start = member.whole.start.max(cut_end);
        cut_end = member.whole.end;
    }
}

#[cfg(test)]
mod tests;
