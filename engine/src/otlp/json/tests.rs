//! There and back again, and what senders get wrong.

use super::*;
use crate::otlp::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    metric::Data, number_data_point, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::trace::v1::{span, ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;

fn decoded(signal: Signal, json: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    decode(signal, json.as_bytes(), &mut out).map(|_| out).map_err(|error| error.to_string())
}

fn encoded(signal: Signal, request: &[u8]) -> String {
    let mut out = Vec::new();
    encode(signal, request, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn assert_there_and_back(signal: Signal, request: &[u8]) {
    let json = encoded(signal, request);
    let back = decoded(signal, &json).unwrap();
    assert_eq!(back, request, "{json}");
}

#[test]
fn every_kind_of_field_comes_back_as_the_same_bytes() {
    let point = NumberDataPoint {
        time_unix_nano: u64::MAX,
        value: Some(number_data_point::Value::AsInt(0)),
        ..Default::default()
    };
    let nan =
        NumberDataPoint { value: Some(number_data_point::Value::AsDouble(f64::NEG_INFINITY)), ..Default::default() };
    let histogram = HistogramDataPoint {
        count: 3,
        sum: Some(0.0),
        bucket_counts: vec![0, 1, 300],
        explicit_bounds: vec![0.5, 1e300],
        min: Some(-0.25),
        ..Default::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        scale: -3,
        positive: Some(Buckets { offset: -70, bucket_counts: vec![1, 0, 70_000] }),
        ..Default::default()
    };
    let metric = |name: &str, data| Metric { name: name.into(), data: Some(data), ..Default::default() };
    let metrics = vec![
        metric("gauge", Data::Gauge(Gauge { data_points: vec![point, nan] })),
        metric("histogram", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 })),
        metric(
            "exponential",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: 1,
            }),
        ),
    ];
    let scope = ScopeMetrics { metrics, ..Default::default() };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..Default::default() }],
    };
    assert_there_and_back(Signal::Metrics, &request.encode_to_vec());
}

#[test]
fn a_span_reads_as_the_specification_writes_it() {
    let json = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},
        "scopeSpans":[{"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
        "name":"I'm a \"span\" \u00e9","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,
        "attributes":[{"key":"n","value":{"intValue":"7"}}],"status":{"code":2},"unknown":{"deep":[1,{"x":null}]}}]}]}]}"#;
    let request = ExportTraceServiceRequest::decode(decoded(Signal::Traces, json).unwrap().as_slice()).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id[..2], [0x5b, 0x8e]);
    assert_eq!(span.name, "I'm a \"span\" é");
    assert_eq!((span.kind, span.start_time_unix_nano), (2, 1_544_712_660_000_000_000));
    assert_eq!(span.status, Some(Status { code: 2, ..Default::default() }));
    assert_eq!(span.attributes[0].value.as_ref().unwrap().value, Some(Value::IntValue(7)));
}

#[test]
fn lenient_forms_mean_the_same() {
    let log = |record: &str| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
    let canonical =
        decoded(Signal::Logs, &log(r#"{"timeUnixNano":"1000","severityNumber":9,"body":{"bytesValue":"+/8="}}"#));
    for record in [
        r#"{"timeUnixNano":1000,"severityNumber":"SEVERITY_NUMBER_INFO","body":{"bytesValue":"-_8"}}"#,
        r#"{"time_unix_nano":"1e3","severity_number":9.0,"body":{"bytes_value":"+/8"}}"#,
        r#"{"body":{"bytesValue":"+/8="},"severityNumber":9,"timeUnixNano":1000.0}"#,
        r#"{"timeUnixNano":"1000","severityNumber":9,"body":{"bytesValue":"+/8="},"severityText":null,"attributes":null}"#,
        r#"{"timeUnixNano":"1000","severityNumber":9,"body":{"bytesValue":"+/8="},"severityText":"","flags":0,"attributes":[]}"#,
    ] {
        assert_eq!(decoded(Signal::Logs, &log(record)), canonical, "{record}");
    }
}

#[test]
fn what_is_wrong_is_named_and_never_quoted() {
    let span = |member: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{member}}}]}}]}}]}}"#);
    for (json, part) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "expected an object"),
        (r#"{"resourceSpans":3}"#.to_owned(), "resourceSpans must be an array"),
        (r#"{"resourceSpans":[]} x"#.to_owned(), "trailing"),
        (span(r#""traceId":"secret!!""#), "traceId is not hexadecimal"),
        (span(r#""kind":"secret""#), "kind is not a known enum value"),
        (span(r#""startTimeUnixNano":"-1""#), "startTimeUnixNano is not an integer in range"),
        (span(r#""startTimeUnixNano":1.5"#), "startTimeUnixNano is not an integer in range"),
        (span(r#""name":7"#), "name is not a string"),
        (span(r#""status":"secret""#), "status is not of this type"),
        (span(r#""name":"\ud800""#), "hex escape"),
    ] {
        let error = decoded(Signal::Traces, &json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn an_object_that_is_something_else_is_told_from_an_empty_one() {
    let mut out = Vec::new();
    for (json, known_shape) in [("{}", true), (r#"{"resourceSpans":[]}"#, true), (r#"{"spans":[1]}"#, false)] {
        assert_eq!(decode(Signal::Traces, json.as_bytes(), &mut out).unwrap(), Decoded { known_shape }, "{json}");
    }
    assert!(out.is_empty());
}

#[test]
fn absurd_nesting_is_refused_without_harm() {
    let value = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}{{}}{close}}}]}}]}}]}}"#)
    };
    assert!(decoded(Signal::Logs, &value(60)).is_ok());
    assert!(decoded(Signal::Logs, &value(100_000)).unwrap_err().contains("nested too deeply"));
    assert!(decoded(Signal::Logs, &"[".repeat(1_000_000)).is_err());
    let ignored = format!(r#"{{"x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    assert!(decoded(Signal::Logs, &ignored).is_ok());
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        ".{0,20}".prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_filter("NaN has many forms", |n| !n.is_nan()).prop_map(Value::DoubleValue),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::BytesValue),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let value = inner.prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            proptest::collection::vec(value.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            proptest::collection::vec((".{0,6}", value), 0..4).prop_map(|pairs| {
                let pair = |(key, value)| KeyValue { key, value: Some(value), ..Default::default() };
                Value::KvlistValue(KeyValueList { values: pairs.into_iter().map(pair).collect() })
            }),
        ]
    });
    value.prop_map(|value| AnyValue { value: Some(value) })
}

proptest! {
    #[test]
    fn logs_come_back_as_the_same_bytes(body in any_value(), time: u64, severity in 0i32..24, flags: u32, id in proptest::collection::vec(any::<u8>(), 0..20)) {
        let record = LogRecord { body: Some(body), time_unix_nano: time, severity_number: severity, flags, trace_id: id, ..Default::default() };
        let scope = ScopeLogs { log_records: vec![record], schema_url: "u".into(), ..Default::default() };
        let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..Default::default() }] };
        assert_there_and_back(Signal::Logs, &request.encode_to_vec());
    }

    #[test]
    fn spans_come_back_as_the_same_bytes(name in ".{0,20}", kind in 0i32..6, times in any::<(u64, u64, u32)>(), attribute in any_value()) {
        let attributes = vec![KeyValue { key: "k".into(), value: Some(attribute), ..Default::default() }];
        let event = span::Event { time_unix_nano: times.0, name: name.clone(), attributes: attributes.clone(), ..Default::default() };
        let link = span::Link { trace_id: vec![1; 16], attributes: attributes.clone(), flags: times.2, ..Default::default() };
        let span = Span { name, kind, start_time_unix_nano: times.1, attributes, events: vec![event], links: vec![link], ..Default::default() };
        let scope = ScopeSpans { spans: vec![span], ..Default::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..Default::default() }] };
        assert_there_and_back(Signal::Traces, &request.encode_to_vec());
    }

    #[test]
    fn random_text_and_bytes_never_panic(text in ".{0,100}", bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for signal in Signal::ALL {
            let _answered = decoded(signal, &text);
            let _answered = decode(signal, &bytes, &mut Vec::new());
            let _answered = encode(signal, &bytes, &mut Vec::new());
        }
    }
}
