//! Masking: what must not leave is taken out of the wire bytes, before anything else looks at them.
//!
//! A policy is a list of rules, each with an action. What they look for is found by sensitive attribute keys ([`keys`]), by
//! sensitive keys inside texts ([`json`], [`inside`]) and by [`detectors`], regexes and lists of words over every string and
//! bytes value of the schema ([`search`]). What is found becomes edits; a clean request has none and is not copied. Everything
//! is linear in the request. What cannot be understood, or would take too long, is removed rather than passed; fields that
//! the schema does not know are removed as well.

mod action;
mod any_literal;
mod budget;
mod detectors;
mod encodings;
mod finder;
mod inside;
mod json;
mod keys;
mod literals;
mod masking;
mod observe;
mod prefilter;
mod pseudonym;
mod search;
mod values;

use std::ops::Range;
use std::sync::Arc;

pub use self::observe::{Found, Location, LocationSampler, Locations, Observer};
pub use self::pseudonym::{PseudonymKey, PseudonymKeys};
pub use self::search::Failure;

use self::keys::{KeyPatterns, Verdict};
use self::masking::Masking;
use self::search::{FoundBy, Searcher};
use crate::otlp::edit::EditList;
use crate::otlp::walk::{self, Extent};
use crate::otlp::{Malformed, Signal};
use crate::policy::{self, Find, MaskAction, MaskBudget};

/// A compiled masking policy.
#[derive(Debug)]
pub struct Masker {
    rules: Vec<Rule>,
    searcher: Searcher,
    allowed_keys: KeyPatterns,
    allowed_services: Vec<String>,
    /// The first rule that is not about keys.
    first_finder_rule: usize,
    budget: MaskBudget,
    pub dry_run: bool,
    /// Which of the tenant's keys is needed.
    pub pseudonym_key: Option<String>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    action: MaskAction,
}

impl Masker {
    /// Compiles; the error names the setting and says what is wrong with it.
    pub fn compile(spec: &policy::Mask) -> Result<Masker, String> {
        let mut allowed_keys = KeyPatterns::default();
        for (at, pattern) in spec.allow_keys.iter().enumerate() {
            allowed_keys.add(pattern, 0).map_err(|error| format!("allow_keys[{at}]: {error}"))?;
        }
        let needs_key = |action| matches!(action, MaskAction::Pseudonymise | MaskAction::FormatPreserving);
        let keyed = spec.rules.iter().find(|rule| needs_key(rule.action));
        if let Some(rule) = keyed.filter(|_| spec.pseudonym_key.is_none()) {
            return Err(format!("rules: {} needs a pseudonym key, and none is named", rule.name));
        }
        let finds_values = |rule: &policy::MaskRule| !matches!(rule.find, Find::Keys(_));
        Ok(Masker {
            searcher: Searcher::compile(&spec.rules)?,
            first_finder_rule: spec.rules.iter().position(finds_values).unwrap_or(usize::MAX),
            rules: spec.rules.iter().map(|rule| Rule { name: rule.name.clone(), action: rule.action }).collect(),
            allowed_keys,
            allowed_services: spec.allow_services.clone(),
            budget: spec.budget,
            dry_run: spec.dry_run,
            pseudonym_key: spec.pseudonym_key.clone().filter(|_| keyed.is_some()),
        })
    }

    /// Who finds: the n-th count of [`MaskCounts::values`] is the n-th name's.
    pub fn finder_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(KEY_FINDER).chain(self.searcher.finders.iter().map(|finder| finder.name.as_ref()))
    }

    fn judge(&self, key: &[u8]) -> Verdict {
        let allowed = self.allowed_keys.rule_of(key).is_some();
        Verdict { rule: self.searcher.keys.rule_of(key).filter(|_| !allowed), allowed, clean: false }
    }

    fn finder_name(&self, by: FoundBy) -> &str {
        match by {
            FoundBy::Key => KEY_FINDER,
            FoundBy::Finder(index) => &self.searcher.finders[index].name,
        }
    }
}

/// What found a value of a sensitive key.
const KEY_FINDER: &str = "key";

/// How many values were masked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MaskCounts {
    /// By what found them, as [`Masker::finder_names`] has them; what is missing at the end is 0.
    pub values: Vec<u64>,
    /// By the place in [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
}

impl MaskCounts {
    fn count(&mut self, by: FoundBy) {
        let index = match by {
            FoundBy::Key => 0,
            FoundBy::Finder(index) => index + 1,
        };
        if self.values.len() <= index {
            self.values.resize(index + 1, 0);
        }
        self.values[index] += 1;
    }

    fn fail(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }
}

/// What masking came to, beside its edits.
#[derive(Debug, Default)]
pub struct Masked {
    /// How far the attributes of the request extend.
    pub extent: Extent,
    pub counts: MaskCounts,
    /// Which items are to be dropped, ascending: indices among the request's items.
    pub dropped: Vec<Range<u64>>,
}

/// Validates the request and, if there is a masker, collects the edits that mask it.
///
/// `edits` must be empty; after an error it is of no use. In a dry run it comes back empty.
pub fn check_and_mask<'m>(
    signal: Signal,
    request: &[u8],
    masker: Option<&'m Masker>,
    key: Option<&'m PseudonymKey>,
    edits: &mut EditList,
    observer: Option<&'m mut (dyn Observer + 'm)>,
) -> Result<Masked, Malformed> {
    let Some(masker) = masker else {
        return Ok(Masked { extent: walk::validate(signal, request)?, ..Masked::default() });
    };
    let mut masking = Masking::new(masker, key, observer);
    let extent = walk::walk(signal, request, &mut masking, edits)?;
    let Masking { counts, mut dropped, .. } = masking;
    if masker.dry_run {
        edits.clear();
        dropped.clear();
    }
    Ok(Masked { extent, counts, dropped })
}

/// Names of finders with what each counted.
pub fn by_finder(masker: &Masker, counts: &MaskCounts) -> Vec<(Arc<str>, u64)> {
    let counted = masker.finder_names().zip(counts.values.iter().copied());
    counted.filter(|(_, count)| *count > 0).map(|(name, count)| (Arc::from(name), count)).collect()
}

#[cfg(test)]
mod tests;
