//! Requests of every format, and their parts read back by prost: item by item, each with all that describes it.

mod halves;
mod shares;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;

/// The messages of `proto/remote_write_1.proto` and `proto/loki_push.proto`, as far as their items stand in them.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    metadata: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(bytes = "vec", repeated, tag = "1")]
    labels: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    entries: Vec<Vec<u8>>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

const FORMATS: [Format; 5] = [
    Format::RemoteWrite,
    Format::Loki,
    Format::Otlp(Signal::Traces),
    Format::Otlp(Signal::Metrics),
    Format::Otlp(Signal::Logs),
];

/// How many items stand where: of top-level messages, of the messages in them, and so on inwards.
type Shape = Vec<Vec<Vec<usize>>>;

fn resource(index: usize) -> Option<Resource> {
    let value = Some(AnyValue { value: Some(Value::IntValue(index as i64)) });
    let attributes = vec![KeyValue { key: "resource".into(), value, ..KeyValue::default() }];
    (index % 5 != 4).then_some(Resource { attributes, dropped_attributes_count: 3, ..Resource::default() })
}

fn scope(index: usize) -> Option<InstrumentationScope> {
    (index % 3 != 2).then(|| InstrumentationScope { name: format!("scope {index}"), ..InstrumentationScope::default() })
}

fn url(what: &str, index: usize) -> String {
    format!("https://example.org/{what}/{index}")
}

/// A request of this shape, its items numbered through.
fn request(format: Format, shape: &Shape) -> Vec<u8> {
    let mut number = 0u64;
    let mut numbers = |items: usize| {
        let first = number;
        number += items as u64;
        first..number
    };
    match format {
        Format::RemoteWrite => {
            let series = shape.iter().enumerate().map(|(index, inner)| {
                let samples: Vec<_> =
                    numbers(inner.iter().flatten().sum()).map(|number| Sample { timestamp: number as i64 }).collect();
                let exemplars = samples.iter().step_by(2).map(|sample| Exemplar { timestamp: sample.timestamp });
                let exemplars = exemplars.collect();
                TimeSeries { labels: vec![format!("label {index}").into_bytes(), vec![]], samples, exemplars }
            });
            let timeseries = series.collect();
            let metadata = shape.iter().enumerate().map(|(index, _)| format!("metadata {index}").into_bytes());
            WriteRequest { timeseries, metadata: metadata.collect() }.encode_to_vec()
        }
        Format::Loki => {
            let streams = shape.iter().enumerate().map(|(index, inner)| {
                let entries = numbers(inner.iter().flatten().sum()).map(|number| number.to_be_bytes().to_vec());
                Stream { labels: format!("{{stream=\"{index}\"}}"), entries: entries.collect(), hash: 1 + index as u64 }
            });
            PushRequest { streams: streams.collect() }.encode_to_vec()
        }
        Format::Otlp(Signal::Traces) => {
            let resource_spans = shape.iter().enumerate().map(|(at, inner)| ResourceSpans {
                resource: resource(at),
                scope_spans: inner
                    .iter()
                    .enumerate()
                    .map(|(at, inner)| ScopeSpans {
                        scope: scope(at),
                        spans: numbers(inner.iter().sum())
                            .map(|number| Span { start_time_unix_nano: number, ..Span::default() })
                            .collect(),
                        schema_url: url("scope", at),
                    })
                    .collect(),
                schema_url: url("resource", at),
            });
            ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
        }
        Format::Otlp(Signal::Logs) => {
            let resource_logs = shape.iter().enumerate().map(|(at, inner)| ResourceLogs {
                resource: resource(at),
                scope_logs: inner
                    .iter()
                    .enumerate()
                    .map(|(at, inner)| ScopeLogs {
                        scope: scope(at),
                        log_records: numbers(inner.iter().sum())
                            .map(|number| LogRecord { time_unix_nano: number, ..LogRecord::default() })
                            .collect(),
                        schema_url: url("scope", at),
                    })
                    .collect(),
                schema_url: url("resource", at),
            });
            ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
        }
        Format::Otlp(Signal::Metrics) => {
            let resource_metrics = shape.iter().enumerate().map(|(at, inner)| ResourceMetrics {
                resource: resource(at),
                scope_metrics: inner
                    .iter()
                    .enumerate()
                    .map(|(at, inner)| ScopeMetrics {
                        scope: scope(at),
                        metrics: inner.iter().enumerate().map(|(at, &points)| metric(at, numbers(points))).collect(),
                        schema_url: url("scope", at),
                    })
                    .collect(),
                schema_url: url("resource", at),
            });
            ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }.encode_to_vec()
        }
    }
}

fn metric(index: usize, numbers: std::ops::Range<u64>) -> Metric {
    let monotonic = index.is_multiple_of(2);
    let aggregation_temporality = 1 + (index % 2) as i32;
    let number = |time_unix_nano| NumberDataPoint { time_unix_nano, ..NumberDataPoint::default() };
    let histogram = |time_unix_nano| HistogramDataPoint { time_unix_nano, ..HistogramDataPoint::default() };
    let exponential =
        |time_unix_nano| ExponentialHistogramDataPoint { time_unix_nano, ..ExponentialHistogramDataPoint::default() };
    let summary = |time_unix_nano| SummaryDataPoint { time_unix_nano, ..SummaryDataPoint::default() };
    let data = match (index as u64 + numbers.start) % 5 {
        0 => Data::Gauge(Gauge { data_points: numbers.map(number).collect() }),
        1 => Data::Sum(Sum {
            data_points: numbers.map(number).collect(),
            aggregation_temporality,
            is_monotonic: monotonic,
        }),
        2 => Data::Histogram(Histogram { data_points: numbers.map(histogram).collect(), aggregation_temporality }),
        3 => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: numbers.map(exponential).collect(),
            aggregation_temporality,
        }),
        _ => Data::Summary(Summary { data_points: numbers.map(summary).collect() }),
    };
    Metric {
        name: format!("metric {index}"),
        unit: "By".into(),
        description: "bytes".into(),
        data: Some(data),
        ..Metric::default()
    }
}

/// Every item with all that describes it.
fn items(format: Format, payload: &[u8]) -> Vec<String> {
    let mut items = Vec::new();
    match format {
        Format::RemoteWrite => {
            for series in WriteRequest::decode(payload).unwrap().timeseries {
                items.extend(series.samples.iter().map(|sample| format!("{:?} {sample:?}", series.labels)));
            }
        }
        Format::Loki => {
            for stream in PushRequest::decode(payload).unwrap().streams {
                let around = (&stream.labels, stream.hash);
                items.extend(stream.entries.iter().map(|entry| format!("{around:?} {entry:?}")));
            }
        }
        Format::Otlp(Signal::Traces) => {
            for outer in ExportTraceServiceRequest::decode(payload).unwrap().resource_spans {
                for inner in outer.scope_spans {
                    let around = (&outer.resource, &outer.schema_url, inner.scope, inner.schema_url);
                    items.extend(inner.spans.iter().map(|span| format!("{around:?} {span:?}")));
                }
            }
        }
        Format::Otlp(Signal::Logs) => {
            for outer in ExportLogsServiceRequest::decode(payload).unwrap().resource_logs {
                for inner in outer.scope_logs {
                    let around = (&outer.resource, &outer.schema_url, inner.scope, inner.schema_url);
                    items.extend(inner.log_records.iter().map(|record| format!("{around:?} {record:?}")));
                }
            }
        }
        Format::Otlp(Signal::Metrics) => {
            for outer in ExportMetricsServiceRequest::decode(payload).unwrap().resource_metrics {
                for inner in outer.scope_metrics {
                    let around = (&outer.resource, &outer.schema_url, inner.scope, inner.schema_url);
                    for metric in inner.metrics {
                        items.extend(points(metric).iter().map(|point| format!("{around:?} {point}")));
                    }
                }
            }
        }
    }
    items
}

fn points(mut metric: Metric) -> Vec<String> {
    let each = |points: Vec<String>, metric: &Metric| points.iter().map(|p| format!("{metric:?} {p}")).collect();
    fn take<P: std::fmt::Debug>(points: &mut Vec<P>) -> Vec<String> {
        std::mem::take(points).iter().map(|point| format!("{point:?}")).collect()
    }
    let points = match metric.data.as_mut() {
        None => Vec::new(),
        Some(Data::Gauge(data)) => take(&mut data.data_points),
        Some(Data::Sum(data)) => take(&mut data.data_points),
        Some(Data::Histogram(data)) => take(&mut data.data_points),
        Some(Data::ExponentialHistogram(data)) => take(&mut data.data_points),
        Some(Data::Summary(data)) => take(&mut data.data_points),
    };
    each(points, &metric)
}

/// Metadata and exemplars of a WriteRequest.
fn beside(payload: &[u8]) -> (Vec<Vec<u8>>, Vec<Exemplar>) {
    let request = WriteRequest::decode(payload).unwrap();
    (request.metadata, request.timeseries.into_iter().flat_map(|series| series.exemplars).collect())
}

fn shapes() -> impl Strategy<Value = Shape> {
    vec(vec(vec(0usize..6, 0..4), 0..4), 0..6)
}

fn formats() -> impl Strategy<Value = Format> {
    proptest::sample::select(&FORMATS)
}
