//! Data points as series.

use super::exemplars::{encode_exemplars, Exemplar};
use super::gate::{Gate, Metric};
use super::labels::{Extra, PointLabels, ResourceLabels};
use super::time_series::{put_admitted, put_series, Put};
use crate::encode::{DropReason, Encoded};
use crate::otlp::metric::{self, DATA_POINTS};
use crate::otlp::wire::{Field, Reader, Value, WireError};
use crate::relabel::Rules;

/// "No value": the series ends here. Prometheus' stale marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;
const NO_RECORDED_VALUE: u64 = 1;

/// Encodes the points of one resource; remembers what `target_info` needs.
pub(super) struct Series<'r> {
    labels: PointLabels<'r>,
    attributes: Vec<&'r [u8]>,
    exemplars: Vec<&'r [u8]>,
    /// The labels by which a gate knows a point whose series have others.
    identity: Vec<u8>,
    /// Timestamp of the latest point.
    pub(super) latest_ms: i64,
}

impl<'r> Series<'r> {
    pub(super) fn new(resource: &'r ResourceLabels, tenant: &'r str, rules: &'r Rules) -> Self {
        Series {
            labels: PointLabels::new(resource, tenant, rules),
            attributes: Vec::new(),
            exemplars: Vec::new(),
            identity: Vec::new(),
            latest_ms: 0,
        }
    }

    /// Points of a gauge or a sum: NumberDataPoint.
    pub(super) fn numbers(
        &mut self,
        gate: &mut impl Gate,
        metric: &Metric<'_>,
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
            let message = points.nested(&point)?;
            let mut fields = message;
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
            self.labels.fill(&self.attributes)?;
            let value = recorded(flags, value);
            let mut exemplars = encode_exemplars(&self.exemplars)?;
            let admit = |labels: &[u8]| gate.admits(metric, labels, 1, message);
            let put =
                put_admitted(out, &mut self.labels, family, Extra::None, value, millis(time), &mut exemplars, admit)?;
            if put != Put::Refused {
                self.note(encoded, time);
                count(encoded, u64::from(put == Put::Written));
            }
        }
        Ok(())
    }

    /// Points of a histogram: cumulative buckets, sum if it is known, count.
    pub(super) fn histogram(
        &mut self,
        gate: &mut impl Gate,
        metric: &Metric<'_>,
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
            let message = points.nested(&point)?;
            let mut fields = message;
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
            self.labels.fill(&self.attributes)?;
            if !self.admits(gate, metric, histogram_weight(counts.len(), sum.is_some()), message, family)? {
                continue;
            }
            // No buckets at all is a histogram of count and sum.
            let fits = counts.len() == bounds.len() + 1 || (counts.is_empty() && bounds.is_empty());
            let ascending = bounds.windows(2).all(|pair| f64::from_bits(pair[0]) < f64::from_bits(pair[1]));
            if !fits || !ascending {
                encoded.items += 1;
                encoded.drop_items(DropReason::InvalidPoint, 1);
                continue;
            }
            let time = self.note(encoded, time);
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
        gate: &mut impl Gate,
        metric: &Metric<'_>,
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
            let message = points.nested(&point)?;
            let mut fields = message;
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
            self.labels.fill(&self.attributes)?;
            if !self.admits(gate, metric, summary_weight(quantiles.len()), message, family)? {
                continue;
            }
            let time = self.note(encoded, time);
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

    /// How many points of a metric that cannot be written the gate admits; `count`: all of them.
    pub(super) fn admitted<G: Gate>(
        &mut self,
        gate: &mut G,
        metric: &Metric<'_>,
        mut points: Reader<'r>,
        family: &str,
        count: u64,
    ) -> Result<u64, WireError> {
        if !G::DECIDES {
            return Ok(count);
        }
        let mut admitted = 0;
        while let Some(point) = points.next_field()? {
            if point.number == DATA_POINTS {
                let message = points.nested(&point)?;
                let weight = self.read_identity(metric.data, message)?;
                self.labels.fill(&self.attributes)?;
                admitted += u64::from(self.admits(gate, metric, weight, message, family)?);
            }
        }
        Ok(admitted)
    }

    /// Reads a point's attributes only; returns how many series it would be.
    fn read_identity(&mut self, data: u32, mut fields: Reader<'r>) -> Result<u32, WireError> {
        self.begin();
        let (mut counts, mut has_sum, mut quantiles) = (Vec::new(), false, 0);
        while let Some(field) = fields.next_field()? {
            match (data, field.number) {
                (metric::HISTOGRAM, 9)
                | (metric::EXPONENTIAL_HISTOGRAM, 1)
                | (metric::GAUGE | metric::SUM | metric::SUMMARY, 7) => self.attributes.push(field.bytes()?),
                (metric::HISTOGRAM, 5) => has_sum = true,
                (metric::HISTOGRAM, 6) => fixed64s(&field, &mut counts)?,
                (metric::SUMMARY, 6) => quantiles += 1,
                _ => {}
            }
        }
        Ok(match data {
            metric::HISTOGRAM => histogram_weight(counts.len(), has_sum),
            metric::SUMMARY => summary_weight(quantiles),
            _ => 1,
        })
    }

    /// Whether the gate admits the point whose labels are filled in, of `weight` series.
    fn admits<G: Gate>(
        &mut self,
        gate: &mut G,
        metric: &Metric<'_>,
        weight: u32,
        point: Reader<'_>,
        family: &str,
    ) -> Result<bool, WireError> {
        if !G::DECIDES {
            return Ok(true);
        }
        self.identity.clear();
        // What the rules drop is no series.
        if !self.labels.put(&mut self.identity, family, Extra::None) {
            return Ok(true);
        }
        gate.admits(metric, &self.identity, weight, point)
    }

    /// Counts what was found in the labels, and returns the time in milliseconds.
    fn note(&mut self, encoded: &mut Encoded, time_ns: u64) -> i64 {
        encoded.label_collisions += self.labels.collisions;
        encoded.tenant_claims += u64::from(self.labels.claims_tenant);
        let time_ms = millis(time_ns);
        self.latest_ms = self.latest_ms.max(time_ms);
        time_ms
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

fn millis(nanos: u64) -> i64 {
    (nanos / 1_000_000) as i64
}

/// Buckets (the last one always is), sum, count.
fn histogram_weight(buckets: usize, has_sum: bool) -> u32 {
    u32::try_from(buckets.max(1)).unwrap_or(u32::MAX).saturating_add(1 + u32::from(has_sum))
}

/// Quantiles, sum, count.
fn summary_weight(quantiles: usize) -> u32 {
    u32::try_from(quantiles).unwrap_or(u32::MAX).saturating_add(2)
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
