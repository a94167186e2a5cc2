//! One thing that a rule looks for in values: a detector, passports, a regex or a list of words.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::detectors::{self, Find as DetectorFind, Form, Needs, Passports, Report, Run};
use super::literals::Literals;
use crate::policy::Find;

/// What a user's regex may take once compiled.
const MAX_REGEX_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Finder {
    /// Of the detector, or of the rule.
    pub(super) name: Arc<str>,
    pub(super) rule: usize,
    pub(super) form: Form,
    pub(super) replacement: Box<[u8]>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Detector(&'static detectors::Entry),
    Passports(Passports),
    Regex(Regex),
    Literals(Box<Literals>),
}

/// The finders of the rule that is the `index`-th, none if it is about keys; the error comes with the setting that is wrong.
pub(super) fn finders_of(find: &Find, rule: &str, index: usize) -> Result<Vec<Finder>, (&'static str, String)> {
    let own = |kind| vec![Finder::new(rule, index, Form::Text, format!("[{rule}]").as_bytes(), kind)];
    match find {
        Find::Keys(_) => Ok(Vec::new()),
        Find::Detectors(names) => {
            let finder = |name: &String| {
                let entry = detectors::entry(name);
                let entry = entry.ok_or_else(|| ("detectors", format!("there is no detector {name}")))?;
                Ok(Finder::new(entry.name, index, entry.form, entry.replacement, Kind::Detector(entry)))
            };
            names.iter().map(finder).collect()
        }
        Find::Passports(countries) => {
            let passports = Passports::compile(countries).map_err(|error| ("passports", error))?;
            let (form, word) = (detectors::PASSPORT_FORM, detectors::PASSPORT_REPLACEMENT);
            Ok(vec![Finder::new("passport", index, form, word, Kind::Passports(passports))])
        }
        Find::Regex(pattern) => {
            // One that matches parts of characters would leave strings that are no UTF-8; the other kind of regex refuses it.
            let of_characters = regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build();
            let regex = of_characters.and_then(|_| RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build());
            regex.map(|regex| own(Kind::Regex(regex))).map_err(|error| ("regex", error.to_string()))
        }
        Find::Literals { values, ignore_case } => {
            let literals = Literals::compile(values, *ignore_case).map_err(|error| ("literals", error))?;
            Ok(own(Kind::Literals(Box::new(literals))))
        }
    }
}

impl Finder {
    fn new(name: &str, rule: usize, form: Form, replacement: &[u8], kind: Kind) -> Finder {
        Finder { name: Arc::from(name), rule, form, replacement: replacement.into(), kind }
    }

    fn entry(&self) -> Option<&'static detectors::Entry> {
        match self.kind {
            Kind::Detector(entry) => Some(entry),
            Kind::Passports(_) | Kind::Regex(_) | Kind::Literals(_) => None,
        }
    }

    /// Reports every match in a text. `runs` are the text's; only who begins at digits looks at them.
    pub(super) fn find(&self, text: &[u8], runs: &[Run], report: Report<'_>) {
        match &self.kind {
            Kind::Detector(entry) => match entry.find {
                DetectorFind::Anywhere(find) => find(text, report),
                DetectorFind::AtDigits(find) => find(text, runs, report),
            },
            Kind::Passports(passports) => passports.find(text, report),
            Kind::Regex(regex) => {
                regex.find_iter(text).filter(|found| !found.is_empty()).for_each(|found| report(found.range()))
            }
            Kind::Literals(literals) => literals.find(text, report),
        }
    }

    pub(super) fn begins_at_digits(&self) -> bool {
        self.entry().is_some_and(|entry| matches!(entry.find, DetectorFind::AtDigits(_)))
    }

    pub(super) fn looks_at_numbers(&self) -> bool {
        self.entry().is_some_and(|entry| entry.is_match_number.is_some())
    }

    pub(super) fn matches_number(&self, number: u64) -> bool {
        self.entry().and_then(|entry| entry.is_match_number).is_some_and(|is_match| is_match(number))
    }

    pub(super) fn needs(&self) -> Needs {
        match &self.kind {
            Kind::Detector(entry) => entry.needs,
            Kind::Passports(passports) => passports.needs(),
            Kind::Regex(_) => Needs { all_of: 0, any_of: 0, digits: 0, length: 1, literals: &[] },
            Kind::Literals(_) => Needs { all_of: 0, any_of: 0, digits: 0, length: 2, literals: &[] },
        }
    }
}
