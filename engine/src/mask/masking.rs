//! The walk's visitor that masks: what it is offered is searched, and what is found becomes edits.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use super::action::{Replacement, REDACTED, REMOVED};
use super::budget::Budget;
use super::detectors::{Census, Form};
use super::keys::{KeyCache, Verdict};
use super::observe::{Found, Observer};
use super::pseudonym::PseudonymKey;
use super::search::{Failure, Finding, FoundBy, Scratch};
use super::values::{self, put_text_value, whole_number, TextCache};
use super::{MaskCounts, Masker};
use crate::otlp::edit::EditList;
use crate::otlp::text::{AnyValue, KeyValue};
use crate::otlp::walk::{plain_attribute, At, Fate, Number, Place, Plain, Unit, Visitor};
use crate::otlp::wire::{put_varint_field, Field, Reader, WireError};
use crate::otlp::{any_value, RESOURCE, RESOURCE_ATTRIBUTES};
use crate::policy::MaskAction;

pub(super) struct Masking<'m, 'a> {
    masker: &'m Masker,
    key: Option<&'m PseudonymKey>,
    observer: Option<&'m mut (dyn Observer + 'm)>,
    pub(super) counts: MaskCounts,
    /// Of the present text.
    search: Scratch,
    /// A replacement that is being made.
    after: Vec<u8>,
    keys: KeyCache<'a>,
    clean: TextCache<'a>,
    /// Encoded attributes of the usual form in which nothing was found.
    passed: TextCache<'a>,
    budget: Budget,
    /// What the units around the present one were before it: spared, dropped.
    units: Vec<(bool, bool)>,
    /// The present unit is of a service that is left as it is.
    spared: bool,
    /// A rule wants the present unit dropped.
    drops: bool,
    pub(super) dropped: Vec<Range<u64>>,
}

impl<'m> Masking<'m, '_> {
    pub(super) fn new(
        masker: &'m Masker,
        key: Option<&'m PseudonymKey>,
        observer: Option<&'m mut (dyn Observer + 'm)>,
    ) -> Self {
        Masking {
            masker,
            key,
            observer,
            counts: MaskCounts::default(),
            search: Scratch::default(),
            after: Vec::new(),
            keys: KeyCache::default(),
            clean: TextCache::default(),
            passed: TextCache::default(),
            budget: Budget::new(masker.budget),
            units: Vec::new(),
            spared: false,
            drops: false,
            dropped: Vec::new(),
        }
    }
}

impl<'a> Masking<'_, 'a> {
    fn verdict(&mut self, key: &'a [u8]) -> Verdict {
        self.keys.verdict(key, |key| self.masker.judge(key))
    }

    /// Finds what is to be masked in a text. Err: it could not be searched to its end.
    fn search(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.budget.spend(text.len())?;
        let (masker, deadline) = (self.masker, self.budget.deadline());
        let goes_on = || deadline.is_none_or(|deadline| Instant::now() <= deadline);
        let action = |rule: usize| masker.rules[rule].action;
        let unterminated = masker.searcher.search(text, action, &mut self.search, goes_on);
        if unterminated.map_err(|()| Failure::Time)? {
            self.counts.fail(Failure::Unterminated);
        }
        Ok(())
    }

    /// Appends what stands in the place of a finding.
    fn put_replacement(&self, finding: &Finding, value: &[u8], out: &mut Vec<u8>) {
        let action = match self.masker.rules[finding.rule].action {
            MaskAction::Remove if finding.quoted.is_none() => return,
            action @ (MaskAction::Remove | MaskAction::Redact | MaskAction::DropItem) => action,
            action if finding.exact => action,
            // What covers several findings is not what the action is made for.
            _ => MaskAction::Redact,
        };
        let quote = |out: &mut Vec<u8>| {
            if let Some(backslashes) = finding.quoted {
                out.resize(out.len() + backslashes, b'\\');
                out.push(b'"');
            }
        };
        quote(out);
        self.way(action, finding.by).put(value, out);
        quote(out);
    }

    /// How what was found by `by` is replaced.
    fn way(&self, action: MaskAction, by: FoundBy) -> Replacement<'_> {
        let (word, form) = match by {
            FoundBy::Key => (REDACTED, Form::Text),
            FoundBy::Finder(index) => {
                let finder = &self.masker.searcher.finders[index];
                (finder.replacement.as_ref(), finder.form)
            }
        };
        Replacement { action, word, form, key: self.key }
    }

    /// Counts a masked value, tells the observer, and lets the item go if the rule says so.
    fn found(&mut self, at: At<'a>, field: &Field<'a>, rule: usize, by: FoundBy, before: &[u8], after: &[u8]) {
        self.counts.count(by);
        let masker = self.masker;
        self.drops |= masker.rules[rule].action == MaskAction::DropItem;
        if let Some(observer) = &mut self.observer {
            // A long key is not compared again with each of its value's findings.
            let is_clean = |key: &'a [u8]| {
                let is_short = key.len() <= Found::LONGEST_KEY;
                is_short && self.keys.verdict(key, |key| masker.judge(key)).clean
            };
            let key_is_clean = at.place != Place::AttributeKey && at.key.is_none_or(is_clean);
            let (name, action) = (masker.rules[rule].name.as_str(), masker.rules[rule].action);
            let finder = masker.finder_name(by);
            observer.found(&Found { at, key_is_clean, offset: field.start, rule, name, finder, action, before, after });
        }
    }

    /// Removes a text that could not be searched.
    fn remove_unseen(&mut self, field: &Field<'a>, failure: Failure, edits: &mut EditList) {
        self.counts.fail(failure);
        edits.replace_content(field, REMOVED);
    }
}

impl<'a> Visitor<'a> for Masking<'_, 'a> {
    const EDITS: bool = true;

    fn keeps_unknown(&self) -> bool {
        self.spared
    }

    fn begin(&mut self, unit: Unit, content: Reader<'a>) -> Result<(), WireError> {
        self.units.push((self.spared, self.drops));
        self.drops = false;
        if unit == Unit::Resource && !self.masker.allowed_services.is_empty() {
            self.spared = is_of_service(content, &self.masker.allowed_services)?;
        }
        self.budget = Budget::new(self.masker.budget);
        Ok(())
    }

    fn end(&mut self, items: Range<u64>) {
        if self.drops && !items.is_empty() {
            // Whatever was inside of it goes with it.
            while self.dropped.last().is_some_and(|dropped| dropped.end > items.start) {
                self.dropped.pop();
            }
            self.dropped.push(items);
        }
        (self.spared, self.drops) = self.units.pop().unwrap_or_default();
        self.budget = Budget::new(self.masker.budget);
    }

    #[inline]
    fn attribute(&mut self, key: &'a [u8]) -> Fate {
        let verdict = self.verdict(key);
        match verdict.rule {
            _ if self.spared || verdict.allowed => Fate::Keep,
            None => Fate::Walk,
            Some(rule) if self.masker.rules[rule].action == MaskAction::Remove => Fate::Remove,
            Some(_) => Fate::Replace,
        }
    }

    #[inline]
    fn passes(&mut self, attribute: &'a [u8]) -> bool {
        if self.spared {
            return false;
        }
        if self.passed.holds(attribute) {
            return true;
        }
        let passes = plain_attribute(attribute).is_some_and(|(key, value)| self.is_clean(key, value));
        if passes {
            self.passed.remember(attribute);
        }
        passes
    }

    fn replacement(&mut self, key: &'a [u8], value: &Field<'a>) -> Cow<'static, [u8]> {
        let at = At { place: Place::AttributeValue, key: Some(key) };
        let Some(rule) = self.verdict(key).rule else { return Cow::Borrowed(values::REDACTED_VALUE) };
        let encoded = value.bytes().unwrap_or_default();
        // The walk has checked it, so it can be read.
        let any = AnyValue::read(encoded).unwrap_or(AnyValue::Empty);
        let text = any.text_bytes().unwrap_or_default();
        let mut content = std::mem::take(&mut self.after);
        content.clear();
        // An earlier rule that matches exactly the whole value comes first.
        let whole = 0..text.len();
        let earlier =
            self.masker.first_finder_rule < rule && matches!(any, AnyValue::String(_)) && self.search(&text).is_ok();
        let earlier = earlier.then(|| self.search.findings.first()).flatten();
        let earlier = earlier.filter(|finding| finding.range == whole && finding.rule < rule && finding.exact).cloned();
        let (rule, by) = earlier.map_or((rule, FoundBy::Key), |finding| (finding.rule, finding.by));
        self.way(self.masker.rules[rule].action, by).put(&text, &mut content);
        self.found(at, value, rule, by, &text, &content);
        let replacement = match content.as_slice() {
            REDACTED => Cow::Borrowed(values::REDACTED_VALUE),
            other => {
                let mut any = Vec::with_capacity(other.len() + 6);
                put_text_value(other, &mut any);
                Cow::Owned(any)
            }
        };
        self.after = content;
        replacement
    }

    fn removed(&mut self, key: &'a [u8], field: &Field<'a>) {
        let at = At { place: Place::AttributeValue, key: Some(key) };
        let Some(rule) = self.verdict(key).rule else { return };
        let pair = field.bytes().ok().and_then(|bytes| KeyValue::read(bytes).ok());
        let before = pair.and_then(|pair| pair.value.text_bytes().ok()).unwrap_or_default();
        if self.observer.is_some() {
            // Nobody else searches a key that goes, and only a clean one is shown. Not out of the item's budget: an observer
            // changes nothing.
            let (masker, action) = (self.masker, |rule: usize| self.masker.rules[rule].action);
            let unterminated = masker.searcher.search(key, action, &mut self.search, || true);
            if unterminated == Ok(false) && self.search.findings.is_empty() {
                self.keys.remember_clean(key);
            }
        }
        self.found(at, field, rule, FoundBy::Key, &before, b"");
    }

    #[inline]
    fn text(&mut self, at: At<'a>, field: &Field<'a>, text: &'a [u8], edits: &mut EditList) {
        if text.is_empty() || self.spared {
            return;
        }
        let is_key = at.place == Place::AttributeKey;
        if if is_key { self.verdict(text).clean } else { self.clean.holds(text) } {
            return;
        }
        if let Err(failure) = self.search(text) {
            return self.remove_unseen(field, failure, edits);
        }
        let found = self.search.findings.len();
        if at.place == Place::TraceState {
            self.search.findings.retain(|finding| !is_sampling_state(text, &finding.range));
        }
        // What is no secret here may be one in another place.
        let is_clean_anywhere = self.search.findings.len() == found;
        if self.search.findings.is_empty() {
            match is_key {
                true => self.keys.remember_clean(text),
                // Bytes need not be text, which `passes` has to be sure of.
                false if is_clean_anywhere && std::str::from_utf8(text).is_ok() => self.clean.remember(text),
                false => {}
            }
            return;
        }
        edits.enter(field);
        let findings = std::mem::take(&mut self.search.findings);
        let mut after = std::mem::take(&mut self.after);
        for finding in &findings {
            let before = &text[finding.range.clone()];
            after.clear();
            self.put_replacement(finding, before, &mut after);
            let range = field.payload + finding.range.start..field.payload + finding.range.end;
            edits.replace(range, |out| out.extend_from_slice(&after));
            self.found(at, field, finding.rule, finding.by, before, &after);
        }
        (self.search.findings, self.after) = (findings, after);
        edits.exit();
    }

    #[inline]
    fn number(&mut self, at: At<'a>, field: &Field<'a>, number: Number, edits: &mut EditList) {
        if self.spared {
            return;
        }
        let Some((index, whole)) = self.matching_finder(number) else { return };
        let (rule, by) = (self.masker.searcher.finders[index].rule, FoundBy::Finder(index));
        let (before, mut after) = (whole.to_string(), Vec::new());
        self.way(self.masker.rules[rule].action, by).put(before.as_bytes(), &mut after);
        let other = std::str::from_utf8(&after).ok().and_then(|digits| digits.parse::<i64>().ok());
        edits.replace(field.start..field.end, |out| match (other, number) {
            (Some(other), Number::Int(_)) => put_varint_field(out, any_value::INT, other as u64),
            // A number cannot hold the replacement: the value becomes a string.
            _ => put_text_value(&after, out),
        });
        self.found(at, field, rule, by, before.as_bytes(), &after);
    }
}

impl<'a> Masking<'_, 'a> {
    /// Whether an attribute is seen at a glance to hold nothing to mask.
    #[inline]
    fn is_clean(&mut self, key: &'a [u8], value: Plain<'a>) -> bool {
        let verdict = self.verdict(key);
        if verdict.rule.is_some() || !verdict.clean {
            return false;
        }
        match value {
            Plain::Text(text) => {
                if self.clean.holds(text) {
                    return true;
                }
                let census = Census::of(text);
                let is_clean = census.is_ascii() && (verdict.allowed || !self.masker.searcher.may_match(&census));
                if is_clean && !verdict.allowed {
                    self.clean.remember(text);
                }
                is_clean
            }
            Plain::Number(number) => verdict.allowed || self.matching_finder(number).is_none(),
        }
    }

    /// The finder that a number matches, and its digits.
    #[inline]
    fn matching_finder(&self, number: Number) -> Option<(usize, u64)> {
        let whole = whole_number(number)?;
        Some((self.masker.searcher.matching_number(whole)?, whole))
    }
}

/// Whether every `service.name` of a resource is one of these, and there is one.
fn is_of_service(mut content: Reader<'_>, services: &[String]) -> Result<bool, WireError> {
    let mut named = false;
    while let Some(resource) = content.next_field()? {
        if resource.number != RESOURCE {
            continue;
        }
        let mut fields = content.nested(&resource)?;
        while let Some(field) = fields.next_field()? {
            if field.number != RESOURCE_ATTRIBUTES {
                continue;
            }
            let pair = KeyValue::read(field.bytes()?)?;
            if pair.key == b"service.name" {
                let name = pair.value.text()?;
                if !services.iter().any(|service| *service == name) {
                    return Ok(false);
                }
                named = true;
            }
        }
    }
    Ok(named)
}

/// Whether a finding is in a threshold or randomness: up to 14 hexadecimal digits, by chance a card number, that samplers
/// need (`ot=th:…;rv:…`).
fn is_sampling_state(trace_state: &[u8], found: &Range<usize>) -> bool {
    const MOST_DIGITS: usize = 14;
    let (before, rest) = trace_state.split_at(found.start);
    let begins_here = [b"=th:", b";th:", b"=rv:", b";rv:"].iter().any(|name| before.ends_with(*name));
    let digits = rest.iter().take(MOST_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    begins_here && (found.len()..=MOST_DIGITS).contains(&digits)
}
