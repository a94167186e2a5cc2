//! The labels of a series: sorted, unique, not empty, as remote write wants them.

use std::borrow::Cow;

use super::names::label_name;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field, WireError};
use crate::relabel::{Labels, Outcome, Rules};

const TIME_SERIES_LABELS: u32 = 1;
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
pub(super) const METRIC_NAME: &str = "__name__";

/// Labels that hold for every series of a resource.
pub(super) struct ResourceLabels {
    /// They win over attributes of the same name: job, instance, tenant.
    pub(super) identifying: Vec<(&'static str, String)>,
    /// Attributes of the same name win over them.
    pub(super) promoted: Vec<(String, String)>,
}

/// The labels of a point, without name and extras. Reused from point to point.
#[derive(Default)]
pub(super) struct PointLabels<'a> {
    sorted: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) collisions: u64,
    /// The point's own attributes claimed another tenant.
    pub(super) claims_tenant: bool,
}

impl<'a> PointLabels<'a> {
    /// Starts over with a point's attributes (encoded KeyValues) under its resource's labels.
    pub(super) fn fill(
        &mut self,
        attributes: &[&'a [u8]],
        resource: &'a ResourceLabels,
        tenant: &str,
    ) -> Result<(), WireError> {
        self.sorted.clear();
        (self.collisions, self.claims_tenant) = (0, false);
        for attribute in attributes {
            let pair = KeyValue::read(attribute)?;
            // The walk has checked that keys are UTF-8.
            let Ok(key) = std::str::from_utf8(pair.key) else { continue };
            let name = label_name(key);
            let value = pair.value.text()?;
            if name.is_empty() || value.is_empty() {
                continue;
            }
            if name == "tenant" && value != tenant {
                self.claims_tenant = true;
            }
            self.sorted.push((name, value));
        }
        if self.sorted.len() > 1 {
            self.sort_and_join();
        }
        for (name, value) in &resource.identifying {
            self.insert(name, value, true);
        }
        for (name, value) in &resource.promoted {
            self.insert(name, value, false);
        }
        Ok(())
    }

    /// Sorts by name. Attributes whose names became equal are one label, their values joined by `;`
    /// (OpenTelemetry specification, "Metric Attributes"), and counted.
    fn sort_and_join(&mut self) {
        self.sorted.sort_by(|left, right| left.0.cmp(&right.0));
        let collisions = &mut self.collisions;
        self.sorted.dedup_by(|next, kept| {
            let equal = next.0 == kept.0;
            if equal {
                *collisions += 1;
                kept.1 = Cow::Owned(format!("{};{}", kept.1, next.1));
            }
            equal
        });
    }

    fn insert(&mut self, name: &'a str, value: &'a str, overwrite: bool) {
        match self.sorted.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(index) if overwrite => self.sorted[index].1 = Cow::Borrowed(value),
            Ok(_) => {}
            Err(index) => self.sorted.insert(index, (Cow::Borrowed(name), Cow::Borrowed(value))),
        }
    }

    /// Appends the labels of one series to a TimeSeries. False, and nothing is appended, if the rules drop the series.
    pub(super) fn put(
        &self,
        out: &mut Vec<u8>,
        metric_name: &str,
        extra: Option<(&str, &str)>,
        rules: &Rules,
        tenant: &str,
    ) -> bool {
        if rules.is_empty() {
            self.put_as_they_are(out, metric_name, extra);
            return true;
        }
        let mut labels = Labels::default();
        for (name, value) in &self.sorted {
            labels.set(name.as_ref(), value.as_ref());
        }
        labels.set(METRIC_NAME, metric_name);
        if let Some((name, value)) = extra {
            labels.set(name, value);
        }
        if rules.apply(&mut labels) == Outcome::Drop {
            return false;
        }
        // Whatever the rules did, a series is its tenant's; temporary labels end here.
        labels.set("tenant", tenant);
        labels.retain(|name| name == METRIC_NAME || !name.starts_with("__"));
        if labels.get(METRIC_NAME).is_none() {
            return false;
        }
        labels.sort();
        for (name, value) in labels.iter() {
            put_label(out, name, value);
        }
        true
    }

    fn put_as_they_are(&self, out: &mut Vec<u8>, metric_name: &str, extra: Option<(&str, &str)>) {
        let mut additions = [Some((METRIC_NAME, metric_name)), extra];
        for (name, value) in &self.sorted {
            let mut replaced = false;
            for addition in &mut additions {
                if let Some((added, text)) = *addition {
                    if added <= name.as_ref() {
                        put_label(out, added, text);
                        *addition = None;
                        replaced |= added == name.as_ref();
                    }
                }
            }
            if !replaced {
                put_label(out, name, value);
            }
        }
        for (name, value) in additions.into_iter().flatten() {
            put_label(out, name, value);
        }
    }
}

pub(super) fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    put_message_field(out, TIME_SERIES_LABELS, |out| {
        put_bytes_field(out, LABEL_NAME, name.as_bytes());
        put_bytes_field(out, LABEL_VALUE, value.as_bytes());
    });
}
