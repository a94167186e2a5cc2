use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::otlp::count_items;
use crate::otlp::walk::validate;

const LIMITS: LabelLimits =
    LabelLimits { max_attributes: Some(3), max_attribute_key_bytes: Some(5), max_attribute_value_bytes: Some(10) };

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn attributes(count: usize) -> Vec<KeyValue> {
    (0..count).map(|index| attribute(&format!("k{index}"), "v")).collect()
}

/// Each way to be over, and the largest that is within.
fn cases() -> Vec<(&'static str, bool, Vec<KeyValue>)> {
    vec![
        ("three attributes", true, attributes(3)),
        ("four attributes", false, attributes(4)),
        ("a key of five bytes", true, vec![attribute("12345", "v")]),
        ("a key of six bytes", false, vec![attribute("123456", "v")]),
        ("a value of ten bytes", true, vec![attribute("k", "1234567890")]),
        ("a value of eleven bytes", false, vec![attribute("k", "12345678901")]),
    ]
}

/// What stays of a request, whether the glance sends it to the closer look, and what is counted.
fn run(signal: Signal, request: &[u8]) -> (u64, u64) {
    let mut removed = 0;
    let mut kept = request.to_vec();
    if LIMITS.may_refuse(&validate(signal, request).unwrap()) {
        let mut edits = EditList::default();
        removed = refuse_items(signal, request, &LIMITS, &mut edits).unwrap();
        kept = edits.apply(request).into_owned();
        validate(signal, &kept).unwrap();
    }
    assert_eq!(count_items(signal, request).unwrap(), count_items(signal, &kept).unwrap() + removed);
    (count_items(signal, &kept).unwrap(), removed)
}

fn spans(resource: Vec<KeyValue>, scope: Vec<KeyValue>, spans: Vec<Span>) -> Vec<u8> {
    let spans = spans.into_iter().map(|span| Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..span }).collect();
    let scope_spans = ScopeSpans {
        scope: Some(InstrumentationScope { attributes: scope, ..InstrumentationScope::default() }),
        spans,
        ..ScopeSpans::default()
    };
    let good = ScopeSpans {
        spans: vec![Span { trace_id: vec![2; 16], span_id: vec![2; 8], ..Span::default() }],
        ..ScopeSpans::default()
    };
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_spans =
        vec![ResourceSpans { resource, scope_spans: vec![scope_spans, good], ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

#[test]
fn a_span_is_refused_with_its_list_a_scope_with_its_spans_a_resource_with_all() {
    for (name, within, list) in cases() {
        let own = Span { attributes: list.clone(), ..Span::default() };
        let event = Span { events: vec![Event { attributes: list.clone(), ..Event::default() }], ..Span::default() };
        let link = Link { trace_id: vec![1; 16], span_id: vec![1; 8], attributes: list.clone(), ..Link::default() };
        let link = Span { links: vec![link], ..Span::default() };
        for span in [own, event, link] {
            let expected = if within { (3, 0) } else { (2, 1) };
            assert_eq!(run(Signal::Traces, &spans(vec![], vec![], vec![span, Span::default()])), expected, "{name}");
        }
        let two = || vec![Span::default(), Span::default()];
        let expected = if within { (3, 0) } else { (1, 2) };
        assert_eq!(run(Signal::Traces, &spans(vec![], list.clone(), two())), expected, "scope: {name}");
        let expected = if within { (3, 0) } else { (0, 3) };
        assert_eq!(run(Signal::Traces, &spans(list, vec![], two())), expected, "resource: {name}");
    }
}

#[test]
fn a_log_record_is_refused_with_its_list() {
    for (name, within, list) in cases() {
        let log_records = vec![LogRecord { attributes: list, ..LogRecord::default() }, LogRecord::default()];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let request = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        assert_eq!(run(Signal::Logs, &request), if within { (2, 0) } else { (1, 1) }, "{name}");
    }
}

fn metric_request(data: Data, metadata: Vec<KeyValue>) -> Vec<u8> {
    let metrics = vec![Metric { data: Some(data), metadata, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

#[test]
fn a_point_of_every_kind_is_refused_with_its_list() {
    for (name, within, list) in cases() {
        let exemplars = || vec![Exemplar { filtered_attributes: list.clone(), ..Exemplar::default() }];
        let number = NumberDataPoint::default;
        let histogram = || HistogramDataPoint { explicit_bounds: vec![1.0; 20], ..HistogramDataPoint::default() };
        let exponential = ExponentialHistogramDataPoint::default;
        let gauge = |point| Data::Gauge(Gauge { data_points: vec![point, number()] });
        let buckets =
            |point| Data::Histogram(Histogram { data_points: vec![point, histogram()], aggregation_temporality: 2 });
        let powers = |point| {
            let data_points = vec![point, exponential()];
            Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: 2 })
        };
        let summary = SummaryDataPoint { attributes: list.clone(), ..SummaryDataPoint::default() };
        for data in [
            gauge(NumberDataPoint { attributes: list.clone(), ..number() }),
            gauge(NumberDataPoint { exemplars: exemplars(), ..number() }),
            buckets(HistogramDataPoint { attributes: list.clone(), ..histogram() }),
            buckets(HistogramDataPoint { exemplars: exemplars(), ..histogram() }),
            powers(ExponentialHistogramDataPoint { attributes: list.clone(), ..exponential() }),
            powers(ExponentialHistogramDataPoint { exemplars: exemplars(), ..exponential() }),
            Data::Summary(Summary { data_points: vec![summary, SummaryDataPoint::default()] }),
        ] {
            let expected = if within { (2, 0) } else { (1, 1) };
            assert_eq!(run(Signal::Metrics, &metric_request(data, vec![])), expected, "{name}");
        }
        let expected = if within { (2, 0) } else { (0, 2) };
        assert_eq!(run(Signal::Metrics, &metric_request(gauge(number()), list)), expected, "metadata: {name}");
    }
}

#[test]
fn a_value_that_is_a_list_counts_by_its_encoding_and_a_number_does_not() {
    let nested = KeyValue {
        key: "k".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
                values: vec![attribute("key", "1234567890")],
            })),
        }),
        ..KeyValue::default()
    };
    let number = KeyValue {
        key: "12345".to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(i64::MIN)) }),
        ..KeyValue::default()
    };
    for (list, removed) in [(vec![nested], 1), (vec![number], 0)] {
        let span = Span { attributes: list, ..Span::default() };
        assert_eq!(run(Signal::Traces, &spans(vec![], vec![], vec![span])).1, removed);
    }
}

#[test]
fn a_hundred_thousand_attributes_are_refused_at_once() {
    let point = NumberDataPoint { attributes: attributes(100_000), ..NumberDataPoint::default() };
    let request = metric_request(Data::Gauge(Gauge { data_points: vec![point, NumberDataPoint::default()] }), vec![]);
    let started = std::time::Instant::now();
    assert_eq!(run(Signal::Metrics, &request), (1, 1));
    assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
}

#[test]
fn without_limits_nothing_is_looked_at() {
    let none = LabelLimits::default();
    let largest = Extent { most_attributes: usize::MAX, largest_attribute: usize::MAX, longest_key: usize::MAX };
    assert!(!none.may_refuse(&largest));
}

#[test]
fn a_closer_look_is_taken_only_where_something_may_be_over() {
    let limits =
        LabelLimits { max_attributes: None, max_attribute_key_bytes: Some(200), max_attribute_value_bytes: Some(1000) };
    for (key, value, looks) in [(10, 900, false), (150, 700, false), (201, 10, true), (10, 1001, true)] {
        let list = vec![attribute(&"k".repeat(key), &"v".repeat(value))];
        let request = spans(vec![], vec![], vec![Span { attributes: list, ..Span::default() }]);
        assert_eq!(limits.may_refuse(&validate(Signal::Traces, &request).unwrap()), looks, "{key} {value}");
    }
}
