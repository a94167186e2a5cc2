//! Halves, read back by prost: item by item, each with all that describes it.

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
use crate::otlp::count_items;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_varint_field};

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

proptest! {
    #[test]
    fn the_halves_hold_every_item_with_its_surroundings_in_order(format in formats(), shape in shapes()) {
        let whole = request(format, &shape);
        let expected = items(format, &whole);
        let total: usize = shape.iter().flatten().flatten().sum();
        prop_assert_eq!(expected.len(), total);
        match halve(format, &whole).unwrap() {
            None => prop_assert!(total <= 1),
            Some((left, right)) => {
                let mut both = items(format, &left.payload);
                prop_assert_eq!(both.len() as u64, left.items);
                both.extend(items(format, &right.payload));
                prop_assert_eq!(&both, &expected);
                prop_assert_eq!(left.items + right.items, total as u64);
                prop_assert!(left.items.min(right.items) * 4 >= total as u64 || left.items == total as u64 / 2);
                let joined = [left.payload.as_slice(), &right.payload].concat();
                prop_assert_eq!(items(format, &joined), expected);
                if format == Format::RemoteWrite {
                    prop_assert_eq!(beside(&joined), beside(&whole));
                }
                if let Format::Otlp(signal) = format {
                    prop_assert_eq!(count_items(signal, &left.payload), Ok(left.items));
                }
            }
        }
    }

    #[test]
    fn halving_the_halves_ends_with_single_items(format in formats(), shape in shapes()) {
        let whole = request(format, &shape);
        let total: usize = shape.iter().flatten().flatten().sum();
        let mut singles = Vec::new();
        let mut rest = vec![(whole.clone(), 0)];
        while let Some((payload, depth)) = rest.pop() {
            match halve(format, &payload).unwrap() {
                // Three quarters, again and again, and rounded up at the end.
                Some((left, right)) => {
                    prop_assert!(depth < 3 + (total as f64).log(4.0 / 3.0) as usize);
                    rest.extend([(right.payload, depth + 1), (left.payload, depth + 1)]);
                }
                None => singles.push(items(format, &payload)),
            }
        }
        prop_assert!(total < 2 || singles.iter().all(|single| single.len() == 1));
        prop_assert_eq!(singles.concat(), items(format, &whole));
    }

    #[test]
    fn broken_requests_are_refused_or_halved_but_never_panic(
        format in formats(), shape in shapes(), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = request(format, &shape);
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(Some((left, right))) = halve(format, &bytes) {
            prop_assert!(left.items > 0 && right.items > 0);
            for half in [left, right] {
                let level = Level::of(format);
                prop_assert_eq!(count(level, Reader::new(&half.payload)), Ok(half.items));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(format in formats(), bytes in vec(any::<u8>(), 0..300)) {
        let _either = halve(format, &bytes);
    }
}

#[test]
fn the_cut_is_between_messages_unless_one_of_them_dominates() {
    for (shape, left) in [
        (vec![vec![vec![3]], vec![vec![3]]], 3),
        (vec![vec![vec![1]], vec![vec![2]], vec![vec![4]]], 3),
        (vec![vec![vec![1]], vec![vec![3]]], 1),
        (vec![vec![vec![1]], vec![vec![4]]], 2),
        (vec![vec![vec![8]]], 4),
        (vec![vec![], vec![vec![1]], vec![], vec![vec![1]]], 1),
    ] {
        for format in FORMATS {
            let (half, _) = halve(format, &request(format, &shape)).unwrap().unwrap();
            assert_eq!(half.items, left, "{format:?} {shape:?}");
        }
    }
}

#[test]
fn exemplars_go_with_the_samples_of_their_time() {
    let series = TimeSeries {
        labels: vec![],
        samples: [10, 20, 30, 40].map(|timestamp| Sample { timestamp }).into(),
        exemplars: [5, 20, 21, 45].map(|timestamp| Exemplar { timestamp }).into(),
    };
    let whole = WriteRequest { timeseries: vec![series], metadata: vec![] }.encode_to_vec();
    let (left, right) = halve(Format::RemoteWrite, &whole).unwrap().unwrap();
    assert_eq!(beside(&left.payload).1, [5, 20].map(|timestamp| Exemplar { timestamp }));
    assert_eq!(beside(&right.payload).1, [21, 45].map(|timestamp| Exemplar { timestamp }));
}

#[test]
fn what_nobody_knows_stays_around_both_halves() {
    const UNKNOWN: u32 = 999;
    let mut whole = Vec::new();
    put_varint_field(&mut whole, UNKNOWN, 1);
    put_message_field(&mut whole, 1, |out| {
        put_varint_field(out, UNKNOWN, 2);
        put_message_field(out, 2, |out| {
            put_varint_field(out, UNKNOWN, 3);
            put_bytes_field(out, 2, b"");
            put_bytes_field(out, 2, b"");
        });
    });
    let (left, right) = halve(Format::Otlp(Signal::Logs), &whole).unwrap().unwrap();
    let half = {
        let mut half = Vec::new();
        put_varint_field(&mut half, UNKNOWN, 1);
        put_message_field(&mut half, 1, |out| {
            put_varint_field(out, UNKNOWN, 2);
            put_message_field(out, 2, |out| {
                put_varint_field(out, UNKNOWN, 3);
                put_bytes_field(out, 2, b"");
            });
        });
        half
    };
    assert_eq!((left.payload, right.payload), (half.clone(), half));
}

#[test]
fn two_huge_items_come_apart() {
    let entries = vec![vec![7; 3 << 20], vec![8; 3 << 20]];
    let stream = Stream { labels: "{}".into(), entries, hash: 0 };
    let whole = PushRequest { streams: vec![stream] }.encode_to_vec();
    let (left, right) = halve(Format::Loki, &whole).unwrap().unwrap();
    assert_eq!((left.items, right.items), (1, 1));
    assert!(left.payload.len() < 4 << 20 && right.payload.len() < 4 << 20);
    assert_eq!(halve(Format::Loki, &left.payload), Ok(None));
}
