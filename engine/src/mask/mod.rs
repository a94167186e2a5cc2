//! Masking: what must not leave is taken out of the wire bytes, before anything else looks at them.
//!
//! Three things find what to mask: sensitive attribute keys ([`keys`]), sensitive members of JSON inside a text
//! ([`json`]), and [`detectors`] over every string and bytes value of the schema. What is found becomes edits; a clean
//! request has none and is not copied. Everything is linear in the request. What cannot be understood is masked rather
//! than passed: a sensitive JSON value whose end is missing is masked to the end of its text.

mod detectors;
mod json;
mod keys;

use self::detectors::{Census, Entry};
use self::keys::{KeyCache, SensitiveKeys};
use crate::otlp::edit::EditList;
use crate::otlp::walk::{self, At, Extent, Fate, Number, Place, Plain, Visitor};
use crate::otlp::wire::{put_bytes_field, Field};
use crate::otlp::{any_value, Malformed, Signal};
use crate::policy::{self, MaskAction};
use std::ops::Range;

/// A compiled masking policy.
#[derive(Debug)]
pub struct Masker {
    keys: SensitiveKeys,
    detectors: Vec<&'static Entry>,
    action: MaskAction,
}

/// How many values were masked, by what found them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MaskCounts {
    pub email: u64,
    pub credit_card: u64,
    pub key: u64,
}

impl Masker {
    /// Compiles; the error names the setting and says what is wrong with it.
    pub fn compile(spec: &policy::Mask) -> Result<Masker, String> {
        let mut detectors: Vec<&'static Entry> = Vec::with_capacity(spec.detectors.len());
        for &wanted in &spec.detectors {
            let entry = detectors::entry(wanted);
            if !detectors.iter().any(|known| known.detector == entry.detector) {
                detectors.push(entry);
            }
        }
        Ok(Masker { keys: SensitiveKeys::compile(&spec.keys)?, detectors, action: spec.action })
    }
}

/// Validates the request and, if there is a masker, collects the edits that mask it. Returns how far attributes extend.
///
/// `edits` must be empty; after an error it is of no use.
pub fn check_and_mask(
    signal: Signal,
    request: &[u8],
    masker: Option<&Masker>,
    edits: &mut EditList,
    counts: &mut MaskCounts,
) -> Result<Extent, Malformed> {
    match masker {
        None => walk::validate(signal, request),
        Some(masker) => {
            let mut masking = Masking { masker, counts, findings: Vec::new(), cache: KeyCache::default() };
            walk::walk(signal, request, &mut masking, edits)
        }
    }
}

/// `[redacted]` as an encoded AnyValue.
const REDACTED_VALUE: &[u8] = b"\x0a\x0a[redacted]";
const REDACTED: &[u8] = b"[redacted]";

/// Something to mask in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    range: Range<usize>,
    by: FoundBy,
    /// Put the replacement between JSON quotes, each behind this many backslashes: it stands for a JSON number, list or map.
    quoted: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    /// A sensitive member of JSON.
    Key,
    /// Index into `Masker::detectors`.
    Detector(usize),
}

struct Masking<'m, 'a> {
    masker: &'m Masker,
    counts: &'m mut MaskCounts,
    /// Scratch, reused from text to text.
    findings: Vec<Finding>,
    cache: KeyCache<'a>,
}

impl Masking<'_, '_> {
    /// Whether a text may hold anything to mask.
    #[inline]
    fn needs_search(&self, census: &Census) -> bool {
        let json = census.quote && !self.masker.keys.is_empty();
        json || self.masker.detectors.iter().any(|entry| (entry.may_match)(census))
    }

    /// The index of the detector that a number matches.
    #[inline]
    fn matching_detector(&self, number: Number) -> Option<usize> {
        let whole = whole_number(number)?;
        let matches = |entry: &&Entry| entry.is_match_number.is_some_and(|is_match| is_match(whole));
        self.masker.detectors.iter().position(matches)
    }

    /// Fills `findings`: in order, without overlap.
    fn search(&mut self, text: &[u8]) {
        let masker = self.masker;
        let findings = &mut self.findings;
        findings.clear();
        let census = Census::of(text);
        if census.quote && !masker.keys.is_empty() {
            json::find(text, &masker.keys, masker.action, findings);
        }
        for (index, entry) in masker.detectors.iter().enumerate() {
            if (entry.may_match)(&census) {
                (entry.find)(text, &mut |range| {
                    let quoted = if census.quote { json::quotes_of_bare_value(text, &range) } else { None };
                    findings.push(Finding { range, by: FoundBy::Detector(index), quoted });
                });
            }
        }
        if findings.len() > 1 {
            unite_overlaps(findings);
        }
    }

    /// What stands in the place of a finding.
    fn write_replacement(&self, finding: &Finding, out: &mut Vec<u8>) {
        if self.masker.action == MaskAction::Remove && finding.quoted.is_none() {
            return;
        }
        let quote = |out: &mut Vec<u8>| {
            if let Some(backslashes) = finding.quoted {
                out.resize(out.len() + backslashes, b'\\');
                out.push(b'"');
            }
        };
        quote(out);
        if self.masker.action == MaskAction::Redact {
            out.extend_from_slice(match finding.by {
                FoundBy::Key => REDACTED,
                FoundBy::Detector(index) => self.masker.detectors[index].replacement,
            });
        }
        quote(out);
    }

    fn count(&mut self, by: FoundBy) {
        match by {
            FoundBy::Key => self.counts.key += 1,
            FoundBy::Detector(index) => *(self.masker.detectors[index].count)(self.counts) += 1,
        }
    }
}

impl<'a> Visitor<'a> for Masking<'_, 'a> {
    const EDITS: bool = true;

    #[inline]
    fn attribute(&mut self, key: &'a [u8]) -> Fate {
        if !self.cache.verdict(key, &self.masker.keys).sensitive {
            return Fate::Walk;
        }
        match self.masker.action {
            MaskAction::Redact => Fate::Replace(REDACTED_VALUE),
            MaskAction::Remove => Fate::Remove,
        }
    }

    #[inline]
    fn passes(&mut self, key: &'a [u8], value: Plain<'a>) -> bool {
        let verdict = self.cache.verdict(key, &self.masker.keys);
        if verdict.sensitive || !verdict.clean {
            return false;
        }
        match value {
            Plain::Text(text) => {
                let census = Census::of(text);
                census.ascii && !self.needs_search(&census)
            }
            Plain::Number(number) => self.matching_detector(number).is_none(),
        }
    }

    fn attribute_edited(&mut self) {
        self.count(FoundBy::Key);
    }

    #[inline]
    fn text(&mut self, at: At<'a>, field: &Field<'a>, text: &'a [u8], edits: &mut EditList) {
        if at.place == Place::AttributeKey && self.cache.verdict(text, &self.masker.keys).clean {
            return;
        }
        self.search(text);
        if at.place == Place::TraceState {
            self.findings.retain(|finding| !is_sampling_state(&text[..finding.range.start]));
        }
        if self.findings.is_empty() {
            if at.place == Place::AttributeKey {
                self.cache.remember_clean(text);
            }
            return;
        }
        edits.enter(field);
        for index in 0..self.findings.len() {
            let finding = &self.findings[index];
            let range = field.payload + finding.range.start..field.payload + finding.range.end;
            edits.replace(range, |out| self.write_replacement(finding, out));
            self.count(finding.by);
        }
        edits.exit();
    }

    #[inline]
    fn number(&mut self, _at: At<'a>, field: &Field<'a>, number: Number, edits: &mut EditList) {
        let Some(index) = self.matching_detector(number) else { return };
        // A number cannot hold the replacement: the value becomes a string.
        edits.replace(field.start..field.end, |out| {
            let redacted = self.masker.action == MaskAction::Redact;
            let text = if redacted { self.masker.detectors[index].replacement } else { b"" };
            put_bytes_field(out, any_value::STRING, text);
        });
        self.count(FoundBy::Detector(index));
    }
}

/// The number as whole digits, if it is that. Senders whose numbers are all doubles (JavaScript) send long ids that way.
#[inline]
fn whole_number(number: Number) -> Option<u64> {
    match number {
        Number::Int(value) => u64::try_from(value).ok(),
        Number::Double(value) => ((1.0..1e19).contains(&value) && value.fract() == 0.0).then_some(value as u64),
    }
}

/// Whether a threshold or randomness follows: 14 hexadecimal digits, by chance a card number, that samplers need
/// (`ot=th:…;rv:…`).
fn is_sampling_state(before: &[u8]) -> bool {
    before.ends_with(b"th:") || before.ends_with(b"rv:")
}

/// Sorts, and makes one finding of those that overlap. A sensitive member wins over a detector, as it does for attributes.
fn unite_overlaps(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|finding| (finding.range.start, std::cmp::Reverse(finding.range.end)));
    findings.dedup_by(|next, kept| {
        let overlaps = next.range.start < kept.range.end;
        if overlaps {
            let covers = next.range.start <= kept.range.start && next.range.end >= kept.range.end;
            kept.range.end = kept.range.end.max(next.range.end);
            if next.by == FoundBy::Key && kept.by != FoundBy::Key {
                kept.by = FoundBy::Key;
                kept.quoted = next.quoted.filter(|_| covers);
            }
        }
        overlaps
    });
}

#[cfg(test)]
mod tests;
