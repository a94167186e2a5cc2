//! The labels of a series: sorted, unique, not empty, as remote write wants them.
//!
//! Points that follow each other mostly have the same attribute keys. Their names are sanitised, sorted and put under the
//! rules once, as a [`Layout`]; each further point only fills in its values. What a layout cannot express (names that
//! collide, rules that look at values) takes the general way, label by label.

use std::borrow::Cow;
use std::ops::Range;

use super::names::label_name;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_tag, put_varint, varint_len, WireError};
use crate::relabel::{Labels, Outcome, Rules};
use crate::resource::TENANT;

const TIME_SERIES_LABELS: u32 = 1;
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
const METRIC_NAME: &str = "__name__";

/// Labels that hold for every series of a resource.
pub(super) struct ResourceLabels {
    /// They win over attributes of the same name: job, instance, tenant.
    pub(super) identifying: Vec<(&'static str, String)>,
    /// Attributes of the same name win over them.
    pub(super) promoted: Vec<(String, String)>,
}

/// What tells the series of one point apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extra<'e> {
    None,
    /// Upper bound of a bucket.
    Le(&'e str),
    Quantile(&'e str),
}

impl<'e> Extra<'e> {
    fn label(self) -> Option<(&'static str, &'e str)> {
        match self {
            Extra::None => None,
            Extra::Le(bound) => Some(("le", bound)),
            Extra::Quantile(quantile) => Some(("quantile", quantile)),
        }
    }

    fn index(self) -> usize {
        match self {
            Extra::None => 0,
            Extra::Le(_) => 1,
            Extra::Quantile(_) => 2,
        }
    }
}

/// One label of a layout.
enum Slot {
    /// Of the resource: encoded, whole.
    Resource(Range<usize>),
    /// Of the point: its attribute's index, and where its encoded name stands.
    Attribute(usize, Range<usize>),
    MetricName,
    Extra,
}

/// The labels of points with certain attribute keys, in order, as the rules leave them.
struct Layout {
    slots: Vec<Slot>,
    encoded: Vec<u8>,
    /// The rules took the metric's name away, and the series with it.
    dropped: bool,
}

/// The labels of a point, without name and extras. Reused from point to point of a resource.
pub(super) struct PointLabels<'a> {
    resource: &'a ResourceLabels,
    tenant: &'a str,
    rules: &'a Rules,
    /// Of the present point, in its order: key, and value as text.
    keys: Vec<&'a [u8]>,
    values: Vec<Cow<'a, [u8]>>,
    /// Whose layouts these are.
    layout_keys: Vec<&'a [u8]>,
    /// Indices into `layout_keys`, in the order of the keys.
    key_order: Vec<usize>,
    /// By what tells series apart; made when first asked for.
    layouts: [Option<Layout>; 3],
    /// No layout is right for `layout_keys`.
    general: bool,
    /// The general way: sorted and joined.
    sorted: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) collisions: u64,
    /// The point's own attributes claimed another tenant.
    pub(super) claims_tenant: bool,
}

impl<'a> PointLabels<'a> {
    pub(super) fn new(resource: &'a ResourceLabels, tenant: &'a str, rules: &'a Rules) -> Self {
        PointLabels {
            resource,
            tenant,
            rules,
            keys: Vec::new(),
            values: Vec::new(),
            layout_keys: Vec::new(),
            key_order: Vec::new(),
            layouts: [None, None, None],
            general: !rules.look_at_names_only(),
            sorted: Vec::new(),
            collisions: 0,
            claims_tenant: false,
        }
    }

    /// Starts over with a point's attributes: encoded KeyValues, validated.
    pub(super) fn fill(&mut self, attributes: &[&'a [u8]]) -> Result<(), WireError> {
        (self.collisions, self.claims_tenant) = (0, false);
        self.keys.clear();
        self.values.clear();
        for attribute in attributes {
            let pair = KeyValue::read(attribute)?;
            self.keys.push(pair.key);
            self.values.push(pair.value.text_bytes()?);
        }
        if self.keys != self.layout_keys {
            self.layout_keys.clone_from(&self.keys);
            self.key_order.clear();
            self.key_order.extend(0..self.keys.len());
            self.key_order.sort_by_key(|index| self.layout_keys[*index]);
            self.layouts = [None, None, None];
            self.general = !self.rules.look_at_names_only() || self.names_collide();
        }
        if self.general {
            self.sort_and_join();
        }
        Ok(())
    }

    /// Whether two attributes may mean one label, or one means a label that is not the point's to give.
    fn names_collide(&self) -> bool {
        let mut names: Vec<Cow<'_, str>> = self.keys.iter().map(|key| label_name(utf8(key))).collect();
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        let reserved = |name: &str| {
            matches!(name, TENANT | METRIC_NAME | "le" | "quantile")
                || self.resource.identifying.iter().any(|(identifying, _)| *identifying == name)
                || self.resource.promoted.iter().any(|(promoted, _)| promoted == name)
        };
        names.windows(2).any(|pair| pair[0] == pair[1]) || names.iter().any(|name| reserved(name))
    }

    /// Attributes whose names became equal are one label, their values joined by `;` in the order of their keys
    /// (OpenTelemetry specification, "Metric Attributes"), and counted; so are those that give way to the resource's.
    fn sort_and_join(&mut self) {
        self.sorted.clear();
        for &index in &self.key_order {
            let name = label_name(utf8(self.keys[index]));
            let value = match &self.values[index] {
                Cow::Borrowed(value) => String::from_utf8_lossy(value),
                Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(value).into_owned()),
            };
            if name.is_empty() || value.is_empty() {
                continue;
            }
            self.claims_tenant |= name == TENANT && value != self.tenant;
            self.sorted.push((name, value));
        }
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
        let gives_way = |name: &str, value: &str| {
            let mut identifying = self.resource.identifying.iter().filter(|(known, _)| *known != TENANT);
            name == METRIC_NAME || identifying.any(|(known, kept)| *known == name && kept != value)
        };
        self.collisions += self.sorted.iter().filter(|(name, value)| gives_way(name, value)).count() as u64;
    }

    /// Appends the labels of one series to a TimeSeries. False, and nothing is appended, if the rules drop the series.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, metric_name: &str, extra: Extra<'_>) -> bool {
        if self.general {
            return self.put_in_general(out, metric_name, extra);
        }
        if self.layouts[extra.index()].is_none() {
            self.layouts[extra.index()] = Some(self.lay_out(extra));
        }
        let Some(layout) = &self.layouts[extra.index()] else { return false };
        if layout.dropped {
            return false;
        }
        for slot in &layout.slots {
            match slot {
                Slot::Resource(label) => out.extend_from_slice(&layout.encoded[label.clone()]),
                Slot::Attribute(index, name) => {
                    let value = &self.values[*index];
                    // An empty value is an absent label.
                    if !value.is_empty() {
                        put_encoded_name(out, &layout.encoded[name.clone()], value);
                    }
                }
                Slot::MetricName => put_label(out, METRIC_NAME, metric_name),
                Slot::Extra => {
                    if let Some((name, value)) = extra.label() {
                        put_label(out, name, value);
                    }
                }
            }
        }
        true
    }

    fn lay_out(&self, extra: Extra<'_>) -> Layout {
        #[derive(Clone, Copy)]
        enum Source<'s> {
            Resource(&'s str),
            Attribute(usize),
            MetricName,
            Extra,
        }
        let mut sources: Vec<(Cow<'_, str>, Source<'_>)> = vec![(Cow::Borrowed(METRIC_NAME), Source::MetricName)];
        if let Some((name, _)) = extra.label() {
            sources.push((Cow::Borrowed(name), Source::Extra));
        }
        let resource = self.resource.identifying.iter().map(|(name, value)| (*name, value.as_str()));
        let promoted = self.resource.promoted.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let attributes = self.keys.iter().enumerate().map(|(index, key)| (label_name(utf8(key)), index));
        let labels = resource
            .chain(promoted)
            .map(|(name, value)| (Cow::Borrowed(name), Source::Resource(value)))
            .chain(attributes.map(|(name, index)| (name, Source::Attribute(index))));
        for (name, source) in labels {
            if !name.is_empty() && sources.iter().all(|(known, _)| *known != name) {
                sources.push((name, source));
            }
        }
        // The rules look at names only, so any value does.
        let mut kept = Labels::default();
        for (name, _) in &sources {
            kept.set(name.to_string(), "value");
        }
        let dropped = self.rules.apply(&mut kept) == Outcome::Drop || kept.get(METRIC_NAME).is_none();
        sources.retain(|(name, source)| match source {
            Source::MetricName => true,
            // Whatever the rules did, a series is its tenant's; temporary labels end here.
            _ => name == TENANT || (kept.get(name).is_some() && !name.starts_with("__")),
        });
        sources.sort_unstable_by(|left, right| left.0.cmp(&right.0));

        let mut encoded = Vec::new();
        let mut slots = Vec::with_capacity(sources.len());
        for (name, source) in &sources {
            let begin = encoded.len();
            slots.push(match source {
                Source::Resource(value) => {
                    put_label(&mut encoded, name, value);
                    Slot::Resource(begin..encoded.len())
                }
                Source::Attribute(index) => {
                    put_bytes_field(&mut encoded, LABEL_NAME, name.as_bytes());
                    Slot::Attribute(*index, begin..encoded.len())
                }
                Source::MetricName => Slot::MetricName,
                Source::Extra => Slot::Extra,
            });
        }
        Layout { slots, encoded, dropped }
    }

    fn put_in_general(&self, out: &mut Vec<u8>, metric_name: &str, extra: Extra<'_>) -> bool {
        let mut labels = Labels::default();
        for (name, value) in &self.sorted {
            labels.set(name.as_ref(), value.as_ref());
        }
        for (name, value) in &self.resource.identifying {
            labels.set(*name, value.as_str());
        }
        for (name, value) in &self.resource.promoted {
            if labels.get(name).is_none() {
                labels.set(name.as_str(), value.as_str());
            }
        }
        labels.set(METRIC_NAME, metric_name);
        if let Some((name, value)) = extra.label() {
            labels.set(name, value);
        }
        if self.rules.apply(&mut labels) == Outcome::Drop {
            return false;
        }
        // Whatever the rules did, a series is its tenant's; temporary labels end here.
        labels.set(TENANT, self.tenant);
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
}

/// The walk has checked that keys are UTF-8; one that is not means no label.
fn utf8(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}

pub(super) fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    put_message_field(out, TIME_SERIES_LABELS, |out| {
        put_bytes_field(out, LABEL_NAME, name.as_bytes());
        put_bytes_field(out, LABEL_VALUE, value.as_bytes());
    });
}

/// [`put_label`] with a name that is encoded already, tag and length included.
#[inline]
fn put_encoded_name(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let length = value.len() as u64;
    put_tag(out, TIME_SERIES_LABELS, 2);
    // The value's own tag takes one byte.
    put_varint(out, name.len() as u64 + 1 + varint_len(length) as u64 + length);
    out.extend_from_slice(name);
    put_bytes_field(out, LABEL_VALUE, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{RelabelAction, RelabelRule};
    use proptest::prelude::*;

    fn attribute(key: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, key.as_bytes());
        put_message_field(&mut out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
        out
    }

    fn name_rules() -> Rules {
        let rule = |action, regex: &str| RelabelRule {
            action,
            source_labels: Vec::new(),
            separator: ";".into(),
            regex: regex.into(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".into(),
        };
        Rules::compile(&[rule(RelabelAction::LabelDrop, "b|job"), rule(RelabelAction::LabelKeep, "[^c].*")]).unwrap()
    }

    proptest! {
        #[test]
        fn a_layout_gives_what_the_general_way_gives(
            points in proptest::collection::vec(
                proptest::collection::vec(
                    ("a|b|c\\.d|c_d|job|tenant|le|__x|zone|1|\\.", "|x|yy"), 0..5), 1..6),
            with_rules: bool,
            bucket: bool,
        ) {
            let resource = ResourceLabels {
                identifying: vec![("instance", "i".into()), ("job", "j".into()), ("tenant", "acme".into())],
                promoted: vec![("zone".into(), "eu".into())],
            };
            let rules = if with_rules { name_rules() } else { Rules::default() };
            let points: Vec<Vec<Vec<u8>>> =
                points.iter().map(|point| point.iter().map(|(key, value)| attribute(key, value)).collect()).collect();
            let mut quick = PointLabels::new(&resource, "acme", &rules);
            let mut general = PointLabels::new(&resource, "acme", &rules);
            for point in &points {
                let point: Vec<&[u8]> = point.iter().map(Vec::as_slice).collect();
                quick.fill(&point).unwrap();
                general.fill(&point).unwrap();
                general.general = true;
                general.sort_and_join();
                let extra = if bucket { Extra::Le("5") } else { Extra::None };
                let (mut left, mut right) = (Vec::new(), Vec::new());
                prop_assert_eq!(quick.put(&mut left, "name", extra), general.put(&mut right, "name", extra));
                prop_assert_eq!(left, right);
            }
        }
    }
}
