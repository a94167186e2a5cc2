//! The overflow series: what the folded ones sum up to, written as OTLP.

use super::fold::{Family, Last, Value};
use crate::otlp::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_tag, put_varint, put_varint_field};
use crate::otlp::{any_value, metric, ITEMS, KEY, REQUEST_RESOURCES, RESOURCE, RESOURCE_ATTRIBUTES, SCOPES, VALUE};
use crate::resource::TENANT;

/// The attribute that OpenTelemetry SDKs give to their own overflow; `otel_metric_overflow="true"` in Prometheus.
/// Source: OpenTelemetry specification, "Metrics SDK", cardinality limits.
pub(super) const OVERFLOW_ATTRIBUTE: &str = "otel.metric.overflow";

const CUMULATIVE: u64 = 2;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// How far the times of an overflow series may run ahead of the clock when it is written more often than once a
/// millisecond. Beyond it a sample is left out; the next one holds its growth.
const MAX_AHEAD_MS: u64 = 60_000;

/// Sums of what was folded.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Totals {
    Number(f64),
    Histogram {
        /// Of each bucket, and last the count of all.
        counts: Vec<u64>,
        /// Bits of the upper bounds.
        bounds: Vec<u64>,
        sum: Option<f64>,
    },
}

impl Totals {
    /// Nothing yet, in the shape of `value`.
    pub(super) fn like(value: &Value<'_>) -> Option<Totals> {
        match value {
            Value::None => None,
            Value::Number(_) => Some(Totals::Number(0.0)),
            Value::Histogram { counts, bounds, sum } => Some(Totals::Histogram {
                counts: vec![0; counts.len()],
                bounds: bounds.to_vec(),
                sum: sum.map(|_| 0.0),
            }),
        }
    }

    /// Histograms are summed bucket by bucket, so their bounds must be the same.
    pub(super) fn fits(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (_, Value::None) | (Totals::Number(_), Value::Number(_)) => true,
            (
                Totals::Histogram { counts, bounds, sum },
                Value::Histogram { counts: others, bounds: other_bounds, sum: other_sum },
            ) => counts.len() == others.len() && bounds == other_bounds && sum.is_some() == other_sum.is_some(),
            _ => false,
        }
    }

    /// Adds `value` less what it was before. It must fit.
    pub(super) fn add(&mut self, value: &Value<'_>, before: Option<&Last>) {
        match (self, value) {
            (Totals::Number(total), Value::Number(value)) => {
                *total += match before {
                    Some(Last::Number(before)) => value - before,
                    _ => *value,
                };
            }
            (Totals::Histogram { counts, sum, .. }, Value::Histogram { counts: now, sum: sum_now, .. }) => {
                let (before, sum_before) = match before {
                    Some(Last::Histogram(before, sum)) => (before.as_ref(), *sum),
                    _ => (&[][..], 0.0),
                };
                for (index, (total, now)) in counts.iter_mut().zip(*now).enumerate() {
                    let grown = now.saturating_sub(before.get(index).copied().unwrap_or_default());
                    *total = total.saturating_add(grown);
                }
                if let (Some(total), Some(now)) = (sum, sum_now) {
                    *total += now - sum_before;
                }
            }
            _ => {}
        }
    }
}

/// One overflow series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Overflow {
    pub(super) job: String,
    pub(super) metric: String,
    pub(super) unit: String,
    pub(super) description: String,
    pub(super) totals: Totals,
    pub(super) last_seen_s: u32,
    /// Time of its zero, Unix milliseconds; 0 until it is first written.
    pub(super) start_ms: u64,
    /// Time of the last sample.
    pub(super) written_ms: u64,
}

impl Overflow {
    pub(super) fn new(family: &Family<'_>, totals: Totals, now_s: u32) -> Overflow {
        Overflow {
            job: family.job.to_owned(),
            metric: family.metric.to_owned(),
            unit: family.unit.to_owned(),
            description: family.description.to_owned(),
            totals,
            last_seen_s: now_s,
            start_ms: 0,
            written_ms: 0,
        }
    }

    /// Appends a ResourceMetrics with the present total. The first is preceded by a zero, a millisecond older: without
    /// it `increase()` would miss what the series began with.
    pub(super) fn write(&mut self, tenant: &str, instance: &str, now_ms: u64, out: &mut Vec<u8>) {
        let first = self.written_ms == 0;
        let time_ms = now_ms.max(self.written_ms + if first { 2 } else { 1 });
        if time_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
            return;
        }
        self.written_ms = time_ms;
        if first {
            self.start_ms = time_ms - 1;
        }
        put_message_field(out, REQUEST_RESOURCES, |out| {
            put_message_field(out, RESOURCE, |out| {
                let (namespace, name) = self.job.split_once('/').unwrap_or(("", self.job.as_str()));
                let attributes = [("service.namespace", namespace), ("service.name", name)];
                for (key, value) in attributes.into_iter().filter(|(_, value)| !value.is_empty()) {
                    put_text_attribute(out, RESOURCE_ATTRIBUTES, key, value);
                }
                put_text_attribute(out, RESOURCE_ATTRIBUTES, "service.instance.id", instance);
                put_text_attribute(out, RESOURCE_ATTRIBUTES, TENANT, tenant);
            });
            put_message_field(out, SCOPES, |out| put_message_field(out, ITEMS, |out| self.put_metric(first, out)));
        });
    }

    fn put_metric(&self, with_zero: bool, out: &mut Vec<u8>) {
        put_bytes_field(out, metric::NAME, self.metric.as_bytes());
        put_bytes_field(out, metric::DESCRIPTION, self.description.as_bytes());
        put_bytes_field(out, metric::UNIT, self.unit.as_bytes());
        let data = match self.totals {
            Totals::Number(_) => metric::SUM,
            Totals::Histogram { .. } => metric::HISTOGRAM,
        };
        put_message_field(out, data, |out| {
            if with_zero {
                put_message_field(out, metric::DATA_POINTS, |out| self.put_point(true, self.start_ms, out));
            }
            put_message_field(out, metric::DATA_POINTS, |out| self.put_point(false, self.written_ms, out));
            put_varint_field(out, 2, CUMULATIVE);
            if data == metric::SUM {
                put_varint_field(out, 3, 1);
            }
        });
    }

    /// NumberDataPoint or HistogramDataPoint.
    fn put_point(&self, zero: bool, time_ms: u64, out: &mut Vec<u8>) {
        put_fixed64_field(out, 2, self.start_ms * NANOS_PER_MILLI);
        put_fixed64_field(out, 3, time_ms * NANOS_PER_MILLI);
        let unless_zero = |value: u64| if zero { 0 } else { value };
        match &self.totals {
            Totals::Number(total) => {
                put_fixed64_field(out, 4, unless_zero(total.to_bits()));
                put_overflow_attribute(out, 7);
            }
            Totals::Histogram { counts, bounds, sum } => {
                let (count, buckets) = counts.split_last().map_or((0, &[][..]), |(last, buckets)| (*last, buckets));
                put_fixed64_field(out, 4, unless_zero(count));
                if let Some(sum) = sum {
                    put_fixed64_field(out, 5, unless_zero(sum.to_bits()));
                }
                put_fixed64s(out, 6, buckets.iter().map(|count| unless_zero(*count)));
                put_fixed64s(out, 7, bounds.iter().copied());
                put_overflow_attribute(out, 9);
            }
        }
    }
}

/// A packed `repeated fixed64` or `repeated double`.
fn put_fixed64s(out: &mut Vec<u8>, number: u32, values: impl ExactSizeIterator<Item = u64>) {
    if values.len() > 0 {
        put_tag(out, number, 2);
        put_varint(out, values.len() as u64 * 8);
        values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

fn put_text_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, KEY, key.as_bytes());
        put_message_field(out, VALUE, |out| put_bytes_field(out, any_value::STRING, value.as_bytes()));
    });
}

fn put_overflow_attribute(out: &mut Vec<u8>, number: u32) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, KEY, OVERFLOW_ATTRIBUTE.as_bytes());
        put_message_field(out, VALUE, |out| put_varint_field(out, any_value::BOOL, 1));
    });
}
