//! Data points as series.

use super::labels::{put_label, Extra, PointLabels, ResourceLabels};
use super::names::label_name;
use super::TIMESERIES;
use crate::encode::{DropReason, Encoded};
use crate::otlp::metric::DATA_POINTS;
use crate::otlp::text::{put_hex, KeyValue};
use crate::otlp::wire::{
    put_fixed64_field, put_message_field, put_message_field_of, put_varint_field, Field, Reader, Value, WireError,
};
use crate::relabel::Rules;

/// TimeSeries.
const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
/// About what a series with one sample takes, for the width of its length prefix.
const SERIES_BYTES: usize = 300;
/// "No value": the series ends here. Prometheus' stale marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;
const NO_RECORDED_VALUE: u64 = 1;
/// What the labels of an exemplar may be long together, in characters (OpenMetrics).
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Encodes the points of one resource; remembers what `target_info` needs.
pub(super) struct Series<'r> {
    labels: PointLabels<'r>,
    attributes: Vec<&'r [u8]>,
    exemplars: Vec<&'r [u8]>,
    /// Timestamp of the latest point.
    pub(super) latest_ms: i64,
}

impl<'r> Series<'r> {
    pub(super) fn new(resource: &'r ResourceLabels, tenant: &'r str, rules: &'r Rules) -> Self {
        Series {
            labels: PointLabels::new(resource, tenant, rules),
            attributes: Vec::new(),
            exemplars: Vec::new(),
            latest_ms: 0,
        }
    }

    /// Points of a gauge or a sum: NumberDataPoint.
    pub(super) fn numbers(
        &mut self,
        mut points: Reader<'r>,
        family: &str,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        while let Some(point) = points.next_field()? {
            if point.number != DATA_POINTS {
                continue;
            }
            self.begin();
            let (mut time, mut value, mut flags) = (0, 0.0, 0);
            let mut fields = points.nested(&point)?;
            while let Some(field) = fields.next_field()? {
                match field.number {
                    3 => time = field.fixed64()?,
                    4 => value = field.double()?,
                    5 => self.exemplars.push(field.bytes()?),
                    6 => value = field.fixed64()? as i64 as f64,
                    7 => self.attributes.push(field.bytes()?),
                    8 => flags = field.varint()?,
                    _ => {}
                }
            }
            self.finish_labels(encoded)?;
            let time = self.time_ms(time);
            let value = recorded(flags, value);
            let mut exemplars = encode_exemplars(&self.exemplars)?;
            let written = self.put(out, family, Extra::None, value, time, &mut exemplars);
            count(encoded, u64::from(written));
        }
        Ok(())
    }

    /// Points of a histogram: cumulative buckets, sum if it is known, count.
    pub(super) fn histogram(
        &mut self,
        mut points: Reader<'r>,
        family: &str,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let [bucket_name, sum_name, count_name] = ["bucket", "sum", "count"].map(|part| format!("{family}_{part}"));
        let (mut counts, mut bounds) = (Vec::new(), Vec::new());
        while let Some(point) = points.next_field()? {
            if point.number != DATA_POINTS {
                continue;
            }
            self.begin();
            counts.clear();
            bounds.clear();
            let (mut time, mut total, mut sum, mut flags) = (0, 0, None, 0);
            let mut fields = points.nested(&point)?;
            while let Some(field) = fields.next_field()? {
                match field.number {
                    3 => time = field.fixed64()?,
                    4 => total = field.fixed64()?,
                    5 => sum = Some(field.double()?),
                    6 => fixed64s(&field, &mut counts)?,
                    7 => fixed64s(&field, &mut bounds)?,
                    8 => self.exemplars.push(field.bytes()?),
                    9 => self.attributes.push(field.bytes()?),
                    10 => flags = field.varint()?,
                    _ => {}
                }
            }
            // No buckets at all is a histogram of count and sum.
            let fits = counts.len() == bounds.len() + 1 || (counts.is_empty() && bounds.is_empty());
            let ascending = bounds.windows(2).all(|pair| f64::from_bits(pair[0]) < f64::from_bits(pair[1]));
            if !fits || !ascending {
                encoded.items += 1;
                encoded.drop_items(DropReason::InvalidPoint, 1);
                continue;
            }
            self.finish_labels(encoded)?;
            let time = self.time_ms(time);
            let mut exemplars = encode_exemplars(&self.exemplars)?;
            exemplars.sort_by(|left, right| left.value.total_cmp(&right.value));
            let mut rest = exemplars.as_mut_slice();
            let mut written = 0;
            let mut below = 0u64;
            for (bound, in_bucket) in bounds.iter().zip(&counts) {
                below = below.wrapping_add(*in_bucket);
                let bound = f64::from_bits(*bound);
                if bound == f64::INFINITY {
                    continue;
                }
                let split = rest.partition_point(|exemplar| exemplar.value <= bound);
                let (here, above) = rest.split_at_mut(split);
                rest = above;
                let le = Number(bound).to_string();
                let value = recorded(flags, below as f64);
                written += u64::from(self.put(out, &bucket_name, Extra::Le(&le), value, time, here));
            }
            let count = recorded(flags, total as f64);
            written += u64::from(self.put(out, &bucket_name, Extra::Le("+Inf"), count, time, rest));
            if let Some(sum) = sum {
                written += u64::from(self.put(out, &sum_name, Extra::None, recorded(flags, sum), time, &mut []));
            }
            written += u64::from(self.put(out, &count_name, Extra::None, count, time, &mut []));
            self::count(encoded, written);
        }
        Ok(())
    }

    /// Points of a summary: quantiles, sum, count.
    pub(super) fn summary(
        &mut self,
        mut points: Reader<'r>,
        family: &str,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let [sum_name, count_name] = ["sum", "count"].map(|part| format!("{family}_{part}"));
        let mut quantiles = Vec::new();
        while let Some(point) = points.next_field()? {
            if point.number != DATA_POINTS {
                continue;
            }
            self.begin();
            quantiles.clear();
            let (mut time, mut total, mut sum, mut flags) = (0, 0, 0.0, 0);
            let mut fields = points.nested(&point)?;
            while let Some(field) = fields.next_field()? {
                match field.number {
                    3 => time = field.fixed64()?,
                    4 => total = field.fixed64()?,
                    5 => sum = field.double()?,
                    6 => quantiles.push(quantile(fields.nested(&field)?)?),
                    7 => self.attributes.push(field.bytes()?),
                    8 => flags = field.varint()?,
                    _ => {}
                }
            }
            self.finish_labels(encoded)?;
            let time = self.time_ms(time);
            let mut written = u64::from(self.put(out, &sum_name, Extra::None, recorded(flags, sum), time, &mut []));
            written += u64::from(self.put(out, &count_name, Extra::None, recorded(flags, total as f64), time, &mut []));
            for (quantile, value) in &quantiles {
                let label = Number(*quantile).to_string();
                let value = recorded(flags, *value);
                written += u64::from(self.put(out, family, Extra::Quantile(&label), value, time, &mut []));
            }
            count(encoded, written);
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
    }

    fn finish_labels(&mut self, encoded: &mut Encoded) -> Result<(), WireError> {
        self.labels.fill(&self.attributes)?;
        encoded.label_collisions += self.labels.collisions;
        encoded.tenant_claims += u64::from(self.labels.claims_tenant);
        Ok(())
    }

    fn time_ms(&mut self, nanos: u64) -> i64 {
        let milliseconds = (nanos / 1_000_000) as i64;
        self.latest_ms = self.latest_ms.max(milliseconds);
        milliseconds
    }

    fn put(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        extra: Extra<'_>,
        value: f64,
        time_ms: i64,
        exemplars: &mut [Exemplar],
    ) -> bool {
        put_series(out, &mut self.labels, name, extra, value, time_ms, exemplars)
    }
}

/// `written` series of one point; a point of which no series is left was filtered.
fn count(encoded: &mut Encoded, written: u64) {
    encoded.items += written;
    encoded.filtered += u64::from(written == 0);
}

fn recorded(flags: u64, value: f64) -> f64 {
    if flags & NO_RECORDED_VALUE != 0 {
        f64::from_bits(STALE)
    } else {
        value
    }
}

/// Appends one TimeSeries with one sample; false, and nothing, if the rules drop it.
pub(super) fn put_series(
    out: &mut Vec<u8>,
    labels: &mut PointLabels<'_>,
    name: &str,
    extra: Extra<'_>,
    value: f64,
    time_ms: i64,
    exemplars: &mut [Exemplar],
) -> bool {
    let begin = out.len();
    let mut kept = true;
    put_message_field_of(SERIES_BYTES, out, TIMESERIES, |out| {
        kept = labels.put(out, name, extra);
        put_message_field(out, SAMPLES, |out| {
            put_fixed64_field(out, 1, value.to_bits());
            put_varint_field(out, 2, time_ms as u64);
        });
        // Prometheus takes no exemplar of a series that is older than the one before.
        exemplars.sort_by_key(|exemplar| exemplar.time_ms);
        for exemplar in exemplars {
            put_message_field(out, EXEMPLARS, |out| out.extend_from_slice(&exemplar.encoded));
        }
    });
    if !kept {
        out.truncate(begin);
    }
    kept
}

/// ValueAtQuantile { quantile = 1, value = 2 }.
fn quantile(mut fields: Reader<'_>) -> Result<(f64, f64), WireError> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => quantile = field.double()?,
            2 => value = field.double()?,
            _ => {}
        }
    }
    Ok((quantile, value))
}

/// Repeated fixed64 or double, packed or not, as bits.
pub(crate) fn fixed64s(field: &Field<'_>, into: &mut Vec<u64>) -> Result<(), WireError> {
    match field.value {
        Value::Fixed64(bits) => into.push(bits),
        Value::Bytes(packed) => {
            let chunks = packed.chunks_exact(8);
            if !chunks.remainder().is_empty() {
                return Err(WireError::Truncated);
            }
            into.extend(chunks.map(|chunk| chunk.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte))));
        }
        _ => return Err(WireError::WrongType),
    }
    Ok(())
}

/// A bound or a quantile as a label value: the shortest decimal without exponent.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// A remote-write Exemplar { labels = 1, value = 2, timestamp = 3 }, encoded.
pub(super) struct Exemplar {
    value: f64,
    time_ms: u64,
    encoded: Vec<u8>,
}

fn encode_exemplars(exemplars: &[&[u8]]) -> Result<Vec<Exemplar>, WireError> {
    exemplars.iter().map(|exemplar| encode_exemplar(exemplar)).collect()
}

fn encode_exemplar(exemplar: &[u8]) -> Result<Exemplar, WireError> {
    let (mut time, mut value) = (0, 0.0);
    let (mut span_id, mut trace_id): (&[u8], &[u8]) = (b"", b"");
    let mut attributes = Vec::new();
    let mut fields = Reader::new(exemplar);
    while let Some(field) = fields.next_field()? {
        match field.number {
            2 => time = field.fixed64()?,
            3 => value = field.double()?,
            4 => span_id = field.bytes()?,
            5 => trace_id = field.bytes()?,
            6 => value = field.fixed64()? as i64 as f64,
            7 => attributes.push(field.bytes()?),
            _ => {}
        }
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut chars = 0;
    for (name, id) in [("trace_id", trace_id), ("span_id", span_id)] {
        if !id.is_empty() {
            let mut hex = Vec::with_capacity(id.len() * 2);
            put_hex(&mut hex, id);
            chars += name.len() + hex.len();
            labels.push((name.to_owned(), String::from_utf8_lossy(&hex).into_owned()));
        }
    }
    for attribute in attributes {
        let pair = KeyValue::read(attribute)?;
        let name = label_name(std::str::from_utf8(pair.key).unwrap_or_default()).into_owned();
        let text = pair.value.text()?;
        let length = name.chars().count() + text.chars().count();
        let fresh = !name.is_empty() && !text.is_empty() && labels.iter().all(|(known, _)| *known != name);
        // What does not fit is left out: an exemplar over the limit would be refused as a whole.
        if fresh && chars + length <= MAX_EXEMPLAR_CHARS {
            chars += length;
            labels.push((name, text.into_owned()));
        }
    }
    labels.sort();
    let mut encoded = Vec::new();
    for (name, value) in &labels {
        put_label(&mut encoded, name, value);
    }
    put_fixed64_field(&mut encoded, 2, value.to_bits());
    let time_ms = time / 1_000_000;
    put_varint_field(&mut encoded, 3, time_ms);
    Ok(Exemplar { value, time_ms, encoded })
}
