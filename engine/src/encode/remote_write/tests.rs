//! What Prometheus needs of a WriteRequest, read back by prost from messages that this file declares.

mod gated;
mod labels;
mod points;
mod properties;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value as Any, AnyValue, KeyValue as Pair};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{self as otlp, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::RemoteWriteEncoder;
use crate::encode::{DropReason, Encoded};
use crate::otlp::{walk, Signal};
use crate::relabel::Rules;

/// The messages of `proto/remote_write_1.proto`.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

const TENANT: &str = "acme";
const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;
/// Of points that do not say otherwise: 1 700 000 000.123 s.
const TIME_NANOS: u64 = 1_700_000_000_123_456_789;
const TIME_MS: i64 = 1_700_000_000_123;
const CUMULATIVE: i32 = 2;
const DELTA: i32 = 1;

fn text(key: &str, value: &str) -> Pair {
    typed(key, Any::StringValue(value.into()))
}

fn typed(key: &str, value: Any) -> Pair {
    Pair { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs.iter().map(|(key, value)| text(key, value)).collect()
}

fn number(value: f64, attributes: &[(&str, &str)]) -> NumberDataPoint {
    NumberDataPoint {
        attributes: texts(attributes),
        time_unix_nano: TIME_NANOS,
        value: Some(Number::AsDouble(value)),
        ..Default::default()
    }
}

fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> otlp::Metric {
    metric(name, "", Data::Gauge(otlp::Gauge { data_points }))
}

fn sum(name: &str, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> otlp::Metric {
    metric(name, "", Data::Sum(otlp::Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic }))
}

fn metric(name: &str, unit: &str, data: Data) -> otlp::Metric {
    otlp::Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Default::default() }
}

fn request(resource: Vec<Pair>, metrics: Vec<otlp::Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: resource, ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..Default::default() }],
            ..Default::default()
        }],
    }
}

/// What became of a request: checked to be well formed, and counted as it is.
struct Written {
    request: WriteRequest,
    encoded: Encoded,
}

impl Written {
    /// `name{label="value"} sample`, in the order written; the tenant's label, which all have, left out.
    fn lines(&self) -> Vec<String> {
        self.request.timeseries.iter().map(line).collect()
    }

    fn series(&self, line_start: &str) -> &TimeSeries {
        let found = self.request.timeseries.iter().find(|series| line(series).starts_with(line_start));
        found.unwrap_or_else(|| panic!("no {line_start} in {:#?}", self.lines()))
    }
}

fn line(series: &TimeSeries) -> String {
    let labels = series.labels.iter().filter(|label| label.name != "__name__" && label.name != "tenant");
    let labels: Vec<String> = labels.map(|label| format!("{}={:?}", label.name, label.value)).collect();
    let value = series.samples[0].value;
    let value = if value.to_bits() == STALE_NAN { "stale".to_owned() } else { value.to_string() };
    format!("{}{{{}}} {value}", value_of(&series.labels, "__name__").unwrap(), labels.join(","))
}

fn value_of<'l>(labels: &'l [Label], name: &str) -> Option<&'l str> {
    labels.iter().find(|label| label.name == name).map(|label| label.value.as_str())
}

fn written(input: &ExportMetricsServiceRequest) -> Written {
    written_with(&RemoteWriteEncoder::default(), &Rules::default(), input)
}

fn written_with(encoder: &RemoteWriteEncoder, rules: &Rules, input: &ExportMetricsServiceRequest) -> Written {
    let bytes = input.encode_to_vec();
    walk::validate(Signal::Metrics, &bytes).expect("the encoder is only given valid requests");
    let mut out = Vec::new();
    let encoded = encoder.encode(&bytes, TENANT, rules, &mut out).unwrap();
    let request = WriteRequest::decode(out.as_slice()).unwrap();
    for series in &request.timeseries {
        assert_eq!(ill_formed(series), None, "{series:?}");
    }
    let samples: usize = request.timeseries.iter().map(|series| series.samples.len()).sum();
    let dropped: u64 = encoded.dropped.iter().map(|(_, items)| items).sum();
    assert_eq!(encoded.items, samples as u64 + dropped, "the ledger is told what is written");
    Written { request, encoded }
}

/// The first rule of remote write 1.0 that a series breaks.
fn ill_formed(series: &TimeSeries) -> Option<&'static str> {
    let labels = &series.labels;
    let is_word = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let broken = [
        (!labels.windows(2).all(|pair| pair[0].name < pair[1].name), "labels are sorted and unique"),
        (labels.iter().any(|label| label.name.is_empty() || label.value.is_empty()), "labels are not empty"),
        (!labels.iter().all(|label| is_word(&label.name)), "label names are words"),
        (
            !value_of(labels, "__name__").is_some_and(|name| is_word(&name.replace(':', "_"))),
            "a series has a name, which is a word",
        ),
        (value_of(labels, "tenant") != Some(TENANT), "a series is its tenant's"),
        (series.samples.len() != 1, "a point is one sample of a series"),
    ];
    broken.into_iter().find_map(|(is_broken, rule)| is_broken.then_some(rule))
}
