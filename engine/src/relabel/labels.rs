//! A label set.

use std::borrow::Cow;

/// Names are unique; values are never empty (an empty value is an absent label). Order is the order of arrival.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Labels<'a> {
    entries: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Labels<'a> {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// Adds or overwrites; an empty value removes.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        if value.is_empty() {
            return self.remove(&name);
        }
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    /// [`Labels::set`] for a name that does not live as long.
    pub fn set_owned(&mut self, name: &str, value: String) {
        match self.entries.iter_mut().find(|(known, _)| known == name) {
            _ if value.is_empty() => self.remove(name),
            Some(entry) => entry.1 = Cow::Owned(value),
            None => self.entries.push((Cow::Owned(name.to_owned()), Cow::Owned(value))),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|(known, _)| known != name);
    }

    /// Keeps the labels whose name `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(name, _)| keep(name));
    }

    /// Empties the set; the memory stays.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn sort(&mut self) {
        self.entries.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}
