//! Prometheus remote write 1.0: OTLP metrics become `WriteRequest` fields.
//!
//! Sources: Prometheus Remote-Write 1.0 specification; OpenTelemetry specification, "Prometheus and OpenMetrics
//! Compatibility". Only cumulative data is series data: delta points, and exponential histograms, are counted as dropped.

mod exemplars;
pub mod gate;
mod labels;
pub(crate) mod names;
mod points;
mod time_series;

use gate::{Gate, Metric, Open};
use labels::{Extra, PointLabels, ResourceLabels};
use names::{label_name, metric_name, unit_name, NameKind};
pub(crate) use points::fixed64s;
use points::Series;

use super::{DropReason, Encoded};
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_varint_field, Reader, WireError};
use crate::otlp::{metric, ITEMS, REQUEST_RESOURCES, RESOURCE, RESOURCE_ATTRIBUTES, SCOPES};
use crate::relabel::Rules;
use crate::resource::TENANT;

/// WriteRequest.
const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;
/// MetricMetadata.MetricType.
const COUNTER: u64 = 1;
const GAUGE: u64 = 2;
const HISTOGRAM: u64 = 3;
const SUMMARY: u64 = 5;
const CUMULATIVE: u64 = 2;

/// Encodes for one destination.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RemoteWriteEncoder {
    /// Resource attributes that become labels, and the labels' names; sorted and unique, so that encoders are equal if
    /// they name series alike.
    promote: Vec<(String, String)>,
}

impl RemoteWriteEncoder {
    pub fn new(promote: &[String]) -> RemoteWriteEncoder {
        let promote = promote.iter().map(|key| (key.clone(), label_name(key).into_owned()));
        RemoteWriteEncoder::promoting(promote.filter(|(_, name)| !name.is_empty()).collect())
    }

    /// An encoder that promotes what any of `encoders` does: where labels differ, series do.
    pub(crate) fn union<'e>(encoders: impl Iterator<Item = &'e RemoteWriteEncoder>) -> RemoteWriteEncoder {
        RemoteWriteEncoder::promoting(encoders.flat_map(|encoder| encoder.promote.iter().cloned()).collect())
    }

    fn promoting(mut promote: Vec<(String, String)>) -> RemoteWriteEncoder {
        promote.sort();
        promote.dedup();
        RemoteWriteEncoder { promote }
    }

    /// Appends `timeseries` and `metadata` of a WriteRequest for one ExportMetricsServiceRequest, which was validated.
    pub fn encode(
        &self,
        request: &[u8],
        tenant: &str,
        series_rules: &Rules,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        self.encode_through(&mut Open, request, tenant, series_rules, out)
    }

    /// [`RemoteWriteEncoder::encode`] for the points that `gate` admits: what is appended, and told, is as if the others
    /// had never been in the request.
    pub fn encode_through(
        &self,
        gate: &mut impl Gate,
        request: &[u8],
        tenant: &str,
        series_rules: &Rules,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        let mut encoded = Encoded::default();
        let mut resources = Reader::new(request);
        while let Some(resource_metrics) = resources.next_field()? {
            if resource_metrics.number == REQUEST_RESOURCES {
                let reader = resources.nested(&resource_metrics)?;
                self.encode_resource(gate, reader, tenant, series_rules, out, &mut encoded)?;
            }
        }
        Ok(encoded)
    }

    fn encode_resource(
        &self,
        gate: &mut impl Gate,
        reader: Reader<'_>,
        tenant: &str,
        rules: &Rules,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let resource = Resource::read(reader, &self.promote, tenant)?;
        let mut series = Series::new(&resource.labels, tenant, rules);
        let mut fields = reader;
        while let Some(scope_metrics) = fields.next_field()? {
            if scope_metrics.number != SCOPES {
                continue;
            }
            let mut metrics = fields.nested(&scope_metrics)?;
            while let Some(item) = metrics.next_field()? {
                if item.number == ITEMS {
                    encode_metric(gate, metrics.nested(&item)?, resource.job(), &mut series, out, encoded)?;
                }
            }
        }
        if series.latest_ms > 0 {
            resource.put_target_info(series.latest_ms, tenant, rules, out, encoded)?;
        }
        Ok(())
    }
}

/// A resource as series see it.
struct Resource<'a> {
    labels: ResourceLabels,
    /// Encoded KeyValues that are not in the labels already.
    descriptive: Vec<&'a [u8]>,
}

impl<'a> Resource<'a> {
    fn read(mut fields: Reader<'a>, promote: &[(String, String)], tenant: &str) -> Result<Resource<'a>, WireError> {
        let (mut namespace, mut name, mut instance) = (String::new(), String::new(), String::new());
        let mut promoted = Vec::new();
        let mut descriptive = Vec::new();
        while let Some(field) = fields.next_field()? {
            if field.number != RESOURCE {
                continue;
            }
            let mut attributes = fields.nested(&field)?;
            while let Some(attribute) = attributes.next_field()? {
                if attribute.number != RESOURCE_ATTRIBUTES {
                    continue;
                }
                let pair = KeyValue::read(attribute.bytes()?)?;
                let text = pair.value.text()?;
                if pair.key == TENANT.as_bytes() {
                    continue;
                }
                if let Some((_, label)) = promote.iter().find(|(wanted, _)| wanted.as_bytes() == pair.key) {
                    promoted.push((label.clone(), text.clone().into_owned()));
                }
                match pair.key {
                    b"service.namespace" => namespace = text.into_owned(),
                    b"service.name" => name = text.into_owned(),
                    b"service.instance.id" => instance = text.into_owned(),
                    _ => descriptive.push(attribute.bytes()?),
                }
            }
        }
        let job = if namespace.is_empty() || name.is_empty() { name } else { format!("{namespace}/{name}") };
        let mut identifying = vec![("instance", instance), ("job", job), ("tenant", tenant.to_owned())];
        identifying.retain(|(_, value)| !value.is_empty());
        promoted.retain(|(_, value)| !value.is_empty());
        Ok(Resource { labels: ResourceLabels { identifying, promoted }, descriptive })
    }

    fn job(&self) -> &str {
        let job = self.labels.identifying.iter().find(|(name, _)| *name == "job");
        job.map_or("", |(_, value)| value.as_str())
    }

    /// `target_info`: what is known of a resource, at the time of its latest point. Without job and instance it would
    /// join with nothing.
    fn put_target_info(
        &self,
        latest_ms: i64,
        tenant: &str,
        rules: &Rules,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let has = |wanted| self.labels.identifying.iter().any(|(name, _)| *name == wanted);
        if self.descriptive.is_empty() || !(has("job") || has("instance")) {
            return Ok(());
        }
        // What is promoted is an attribute of the resource anyway, or identifies it and is `job` or `instance`.
        let identifying = ResourceLabels { identifying: self.labels.identifying.clone(), promoted: Vec::new() };
        let mut labels = PointLabels::new(&identifying, tenant, rules);
        labels.fill(&self.descriptive)?;
        encoded.label_collisions += labels.collisions;
        if time_series::put_series(out, &mut labels, "target_info", Extra::None, 1.0, latest_ms, &mut []) {
            encoded.items += 1;
        }
        Ok(())
    }
}

impl Metric<'_> {
    /// The family's name in Prometheus.
    fn family(&self) -> String {
        let kind = match self.data {
            metric::GAUGE => NameKind::Gauge,
            metric::SUM if self.monotonic => NameKind::MonotonicCounter,
            _ => NameKind::Other,
        };
        metric_name(self.name, self.unit, kind)
    }

    fn put_metadata(&self, out: &mut Vec<u8>, family: &str, metric_type: u64) {
        put_message_field(out, METADATA, |out| {
            put_varint_field(out, 1, metric_type);
            put_bytes_field(out, 2, family.as_bytes());
            if !self.description.is_empty() {
                put_bytes_field(out, 4, self.description);
            }
            let unit = unit_name(self.unit);
            if !unit.is_empty() {
                put_bytes_field(out, 5, unit.as_bytes());
            }
        });
    }
}

fn encode_metric<'r>(
    gate: &mut impl Gate,
    reader: Reader<'r>,
    job: &str,
    series: &mut Series<'r>,
    out: &mut Vec<u8>,
    encoded: &mut Encoded,
) -> Result<(), WireError> {
    let (mut name, mut unit, mut description): (_, _, &[u8]) = ("", "", b"");
    let mut fields = reader;
    while let Some(field) = fields.next_field()? {
        let text = || field.bytes().map(|bytes| std::str::from_utf8(bytes).unwrap_or_default());
        match field.number {
            metric::NAME => name = text()?,
            metric::DESCRIPTION => description = field.bytes()?,
            metric::UNIT => unit = text()?,
            _ => {}
        }
    }
    let mut fields = reader;
    while let Some(data) = fields.next_field()? {
        if !matches!(
            data.number,
            metric::GAUGE | metric::SUM | metric::HISTOGRAM | metric::EXPONENTIAL_HISTOGRAM | metric::SUMMARY
        ) {
            continue;
        }
        let points = fields.nested(&data)?;
        let Shape { cumulative, monotonic, count } = Shape::read(points)?;
        if count == 0 {
            continue;
        }
        let metric = Metric { job, name, unit, description, data: data.number, cumulative, monotonic };
        let temporal = matches!(data.number, metric::SUM | metric::HISTOGRAM);
        let metric_type = match data.number {
            metric::SUM if monotonic => COUNTER,
            metric::GAUGE | metric::SUM => GAUGE,
            metric::SUMMARY => SUMMARY,
            _ => HISTOGRAM,
        };
        let family = metric.family();
        let undeliverable = if data.number == metric::EXPONENTIAL_HISTOGRAM {
            Some(DropReason::ExponentialHistogramUnsupported)
        } else if temporal && !cumulative {
            Some(DropReason::DeltaTemporalityUnsupported)
        } else {
            family.is_empty().then_some(DropReason::InvalidPoint)
        };
        if let Some(reason) = undeliverable {
            let admitted = series.admitted(gate, &metric, points, &family, count)?;
            if admitted > 0 {
                encoded.items += admitted;
                encoded.drop_items(reason, admitted);
            }
            continue;
        }
        let before = encoded.items;
        match data.number {
            metric::HISTOGRAM => series.histogram(gate, &metric, points, &family, out, encoded)?,
            metric::SUMMARY => series.summary(gate, &metric, points, &family, out, encoded)?,
            _ => series.numbers(gate, &metric, points, &family, out, encoded)?,
        }
        if encoded.items > before {
            metric.put_metadata(out, &family, metric_type);
        }
    }
    Ok(())
}

/// What the message around the points says.
struct Shape {
    cumulative: bool,
    monotonic: bool,
    count: u64,
}

impl Shape {
    /// `aggregation_temporality = 2` and `is_monotonic = 3` of Sum and Histogram.
    fn read(mut fields: Reader<'_>) -> Result<Shape, WireError> {
        let mut shape = Shape { cumulative: false, monotonic: false, count: 0 };
        while let Some(field) = fields.next_field()? {
            match field.number {
                metric::DATA_POINTS => shape.count += 1,
                2 => shape.cumulative = field.varint()? == CUMULATIVE,
                3 => shape.monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests;
