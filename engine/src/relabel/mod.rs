//! Prometheus' relabelling: rules compiled once, applied to a label set.
//!
//! Source: Prometheus configuration reference, relabel_config, and the behaviour of its model/relabel package. A label with
//! an empty value is the same as an absent one. Regexes are RE2-like and anchored at both ends; `.` matches newlines.

mod labels;

use std::borrow::Cow;

use md5::{Digest, Md5};

use crate::matcher::Matcher;
use crate::policy::{RelabelAction, RelabelRule};

pub use labels::Labels;

/// Whether the labelled thing stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Keep,
    Drop,
}

/// A compiled list of rules.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    action: RelabelAction,
    source_labels: Vec<String>,
    separator: String,
    matcher: Matcher,
    modulus: u64,
    target_label: Template,
    replacement: Template,
}

/// Text with `$1`, `${1}` or `${name}` in it.
#[derive(Debug)]
struct Template {
    text: String,
    /// Nothing to fill in.
    fixed: bool,
}

impl Template {
    fn new(text: &str) -> Template {
        Template { text: text.to_owned(), fixed: !text.contains('$') }
    }

    /// `None`: the value does not match.
    fn expand<'t>(&'t self, matcher: &Matcher, value: &'t str) -> Option<Cow<'t, str>> {
        match matcher {
            Matcher::Anything if self.text == "$1" => Some(Cow::Borrowed(value)),
            _ if self.fixed => matcher.is_match(value).then_some(Cow::Borrowed(self.text.as_str())),
            Matcher::Regex(regex) => {
                let captures = regex.captures(value)?;
                let mut out = String::new();
                captures.expand(&self.text, &mut out);
                Some(Cow::Owned(out))
            }
            Matcher::Anything => Some(Cow::Owned(fill_whole(&self.text, value, value))),
            Matcher::Literal(literal) => (literal == value).then(|| Cow::Owned(fill_whole(&self.text, value, ""))),
        }
    }
}

/// Expands a template where group 0 is `whole` and group 1 is `first`, as the regex library would.
fn fill_whole(template: &str, whole: &str, first: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, behind) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, behind)) => (name, behind),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c: char| !is_name(c)).unwrap_or(after.len());
                if end == 0 {
                    out.push('$');
                    rest = after;
                    continue;
                }
                after.split_at(end)
            }
        };
        match name {
            "0" => out.push_str(whole),
            "1" => out.push_str(first),
            _ => {}
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

impl Rules {
    /// Compiles; the error names the rule by index and says what is wrong with it.
    pub fn compile(rules: &[RelabelRule]) -> Result<Rules, String> {
        let compiled = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| Rule::compile(rule).map_err(|error| format!("rule {index}: {error}")));
        compiled.collect::<Result<_, _>>().map(Rules)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what the rules do depends on the labels' names alone.
    pub fn look_at_names_only(&self) -> bool {
        self.0.iter().all(|rule| matches!(rule.action, RelabelAction::LabelDrop | RelabelAction::LabelKeep))
    }

    /// Applies the rules in order; stops at the first that drops.
    pub fn apply(&self, labels: &mut Labels<'_>) -> Outcome {
        for rule in &self.0 {
            if rule.apply(labels) == Outcome::Drop {
                return Outcome::Drop;
            }
        }
        Outcome::Keep
    }
}

impl Rule {
    fn compile(rule: &RelabelRule) -> Result<Rule, String> {
        use RelabelAction::{DropEqual, HashMod, KeepEqual, Lowercase, Replace, Uppercase};
        if rule.action == HashMod && rule.modulus == 0 {
            return Err("action hashmod needs a modulus above 0".to_owned());
        }
        if matches!(rule.action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual)
            && rule.target_label.is_empty()
        {
            return Err("this action needs target_label".to_owned());
        }
        Ok(Rule {
            action: rule.action,
            source_labels: rule.source_labels.clone(),
            separator: rule.separator.clone(),
            matcher: Matcher::compile(&rule.regex).map_err(|error| format!("regex: {error}"))?,
            modulus: rule.modulus,
            target_label: Template::new(&rule.target_label),
            replacement: Template::new(&rule.replacement),
        })
    }

    fn apply(&self, labels: &mut Labels<'_>) -> Outcome {
        let value = self.source_value(labels);
        let keep_if = |keep: bool| if keep { Outcome::Keep } else { Outcome::Drop };
        match self.action {
            RelabelAction::Keep => return keep_if(self.matcher.is_match(&value)),
            RelabelAction::Drop => return keep_if(!self.matcher.is_match(&value)),
            RelabelAction::KeepEqual => return keep_if(self.target_value(labels) == value),
            RelabelAction::DropEqual => return keep_if(self.target_value(labels) != value),
            RelabelAction::Replace => {
                if let Some(target) = self.target_label.expand(&self.matcher, &value) {
                    let replacement = self.replacement.expand(&self.matcher, &value).unwrap_or_default();
                    // A target that comes out empty is no label name: nothing is written.
                    if !target.is_empty() {
                        labels.set_owned(&target, replacement.into_owned());
                    }
                }
            }
            RelabelAction::Lowercase => labels.set_owned(&self.target_label.text, value.to_lowercase()),
            RelabelAction::Uppercase => labels.set_owned(&self.target_label.text, value.to_uppercase()),
            RelabelAction::HashMod => {
                let hash = Md5::digest(value.as_bytes());
                // Prometheus takes the last eight bytes of the MD5, big-endian.
                let mut last = [0u8; 8];
                last.copy_from_slice(&hash[8..16]);
                labels.set_owned(&self.target_label.text, (u64::from_be_bytes(last) % self.modulus).to_string());
            }
            RelabelAction::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter_map(|(name, value)| {
                        let target = self.replacement.expand(&self.matcher, name)?;
                        Some((target.into_owned(), value.to_owned()))
                    })
                    .collect();
                for (name, value) in mapped {
                    if !name.is_empty() {
                        labels.set_owned(&name, value);
                    }
                }
            }
            RelabelAction::LabelDrop => labels.retain(|name| !self.matcher.is_match(name)),
            RelabelAction::LabelKeep => labels.retain(|name| self.matcher.is_match(name)),
        }
        Outcome::Keep
    }

    fn source_value(&self, labels: &Labels<'_>) -> String {
        let mut value = String::new();
        for (index, name) in self.source_labels.iter().enumerate() {
            if index > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(labels.get(name).unwrap_or_default());
        }
        value
    }

    fn target_value<'l>(&self, labels: &'l Labels<'_>) -> &'l str {
        labels.get(&self.target_label.text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
