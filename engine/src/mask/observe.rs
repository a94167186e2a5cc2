//! Who watches what is found: `explain`, and the dry run, which keeps places and never values.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::otlp::walk::At;
use crate::otlp::Signal;
use crate::policy::MaskAction;

/// One masked value.
pub struct Found<'f> {
    pub at: At<'f>,
    /// The key of `at` is short, and nothing to mask was found in it.
    pub key_is_clean: bool,
    /// Of the field that holds the value, in the request.
    pub offset: usize,
    /// Index of the rule.
    pub rule: usize,
    /// Its name.
    pub name: &'f str,
    /// `key`, a detector, or a rule's name.
    pub finder: &'f str,
    pub action: MaskAction,
    pub before: &'f [u8],
    pub after: &'f [u8],
}

impl Found<'_> {
    /// In bytes; longer keys are not shown.
    pub const LONGEST_KEY: usize = 128;
}

/// Is told of every masked value.
pub trait Observer {
    fn found(&mut self, found: &Found<'_>);
}

/// Where a dry run found values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Location {
    pub signal: &'static str,
    pub place: &'static str,
    /// The attribute's key; none if it may hold a secret itself, or is long.
    pub key: Option<String>,
    pub finder: String,
}

/// A sample of locations, bounded: those found first, and how often each was.
#[derive(Debug, Default)]
pub struct Locations(BTreeMap<Location, u64>);

impl Locations {
    const MOST: usize = 200;

    pub fn iter(&self) -> impl Iterator<Item = (&Location, u64)> {
        self.0.iter().map(|(location, count)| (location, *count))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn merge(&mut self, other: Locations) {
        other.0.into_iter().for_each(|(location, count)| self.add(location, count));
    }

    fn add(&mut self, location: Location, count: u64) {
        if let Some(known) = self.0.get_mut(&location) {
            *known += count;
        } else if self.0.len() < Locations::MOST {
            self.0.insert(location, count);
        }
    }
}

/// Samples the locations of one request.
pub struct LocationSampler {
    signal: Signal,
    pub locations: Locations,
}

impl LocationSampler {
    pub fn new(signal: Signal) -> LocationSampler {
        LocationSampler { signal, locations: Locations::default() }
    }
}

impl Observer for LocationSampler {
    fn found(&mut self, found: &Found<'_>) {
        let key = found.at.key.filter(|_| found.key_is_clean);
        let location = Location {
            signal: self.signal.name(),
            place: found.at.place.name(),
            key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
            finder: found.finder.to_owned(),
        };
        self.locations.add(location, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::walk::Place;

    #[test]
    fn a_sample_is_bounded_and_holds_no_key_that_may_be_a_secret() {
        let mut sampler = LocationSampler::new(Signal::Logs);
        for number in 0..1000 {
            let key = format!("key-{number}");
            let found = |key_is_clean, key| Found {
                at: At { place: Place::AttributeValue, key: Some(key) },
                key_is_clean,
                offset: 0,
                rule: 0,
                name: "a",
                finder: "email",
                action: MaskAction::Redact,
                before: b"bob@example.com",
                after: b"[email]",
            };
            sampler.found(&found(number > 0, key.as_bytes()));
        }
        let locations: Vec<_> = sampler.locations.iter().collect();
        assert_eq!(locations.len(), Locations::MOST);
        assert!(locations.iter().all(|(location, _)| location.key.as_deref() != Some("key-0")));
        assert_eq!(locations[0].0.key, None);
    }
}
