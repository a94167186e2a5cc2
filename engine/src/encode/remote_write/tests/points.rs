//! Every kind of point: which series it becomes, with which values, or why it is dropped.

use super::*;
use crate::policy::{RelabelAction, RelabelRule};
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{exemplar, ExponentialHistogramDataPoint, HistogramDataPoint};
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogram, SummaryDataPoint};

const NO_RECORDED_VALUE: u32 = 1;
const COUNTER: i32 = 1;
const GAUGE: i32 = 2;
const HISTOGRAM: i32 = 3;
const SUMMARY: i32 = 5;

fn histogram_of(temporality: i32, data_points: Vec<HistogramDataPoint>) -> otlp::Metric {
    metric("h", "ms", Data::Histogram(otlp::Histogram { data_points, aggregation_temporality: temporality }))
}

fn histogram(point: HistogramDataPoint) -> otlp::Metric {
    histogram_of(CUMULATIVE, vec![point])
}

fn buckets(bounds: &[f64], counts: &[u64]) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: TIME_NANOS,
        count: counts.iter().sum(),
        sum: Some(123.5),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..Default::default()
    }
}

fn summary(point: SummaryDataPoint) -> otlp::Metric {
    metric("s", "s", Data::Summary(otlp::Summary { data_points: vec![point] }))
}

fn lines_of(metric: otlp::Metric) -> Vec<String> {
    written(&request(vec![], vec![metric])).lines()
}

#[test]
fn numbers_are_one_sample_with_milliseconds() {
    let int = NumberDataPoint { value: Some(Number::AsInt(-3)), ..number(0.0, &[("n", "1")]) };
    let unset = NumberDataPoint { value: None, ..number(0.0, &[("n", "2")]) };
    let input = request(
        vec![],
        vec![
            gauge("g", vec![number(0.5, &[]), int, unset, number(f64::NEG_INFINITY, &[("n", "3")])]),
            sum("c", true, vec![number(7.0, &[])]),
            sum("u", false, vec![number(-7.0, &[])]),
        ],
    );
    let written = written(&input);
    let expected = ["g{} 0.5", r#"g{n="1"} -3"#, r#"g{n="2"} 0"#, r#"g{n="3"} -inf"#, "c_total{} 7", "u{} -7"];
    assert_eq!(written.lines(), expected);
    assert!(written.request.timeseries.iter().all(|series| series.samples[0].timestamp == TIME_MS));
    let types: Vec<_> = written.request.metadata.iter().map(|m| (m.family.as_str(), m.kind)).collect();
    assert_eq!(types, [("g", GAUGE), ("c_total", COUNTER), ("u", GAUGE)]);
}

#[test]
fn a_time_before_the_first_millisecond_is_zero_and_the_last_time_fits() {
    for (nanos, milliseconds) in [(0, 0), (999_999, 0), (1_000_000, 1), (u64::MAX, 18_446_744_073_709)] {
        let point = NumberDataPoint { time_unix_nano: nanos, ..number(1.0, &[]) };
        let written = written(&request(vec![], vec![gauge("g", vec![point])]));
        assert_eq!(written.request.timeseries[0].samples[0].timestamp, milliseconds, "{nanos} ns");
    }
}

#[test]
fn metadata_says_type_help_and_unit_once_a_metric() {
    let mut described = gauge("temp", vec![number(1.0, &[("n", "1")]), number(2.0, &[("n", "2")])]);
    described.description = "How warm".into();
    described.unit = "Cel".into();
    let input = request(vec![], vec![described, histogram(buckets(&[], &[1])), summary(SummaryDataPoint::default())]);
    let expected = [("temp_celsius", GAUGE, "How warm", "celsius"), ("h_milliseconds", HISTOGRAM, "", "milliseconds")];
    let expected = expected.into_iter().chain([("s_seconds", SUMMARY, "", "seconds")]);
    let metadata = |(family, kind, help, unit): (&str, i32, &str, &str)| Metadata {
        kind,
        family: family.into(),
        help: help.into(),
        unit: unit.into(),
    };
    assert_eq!(written(&input).request.metadata, expected.map(metadata).collect::<Vec<_>>());
}

#[test]
fn a_histogram_is_cumulative_buckets_sum_and_count() {
    let input = request(vec![], vec![histogram(buckets(&[-0.5, 0.25, 10.0, 1e6], &[1, 2, 3, 0, 4]))]);
    let written = written(&input);
    let expected = [
        r#"h_milliseconds_bucket{le="-0.5"} 1"#,
        r#"h_milliseconds_bucket{le="0.25"} 3"#,
        r#"h_milliseconds_bucket{le="10"} 6"#,
        r#"h_milliseconds_bucket{le="1000000"} 6"#,
        r#"h_milliseconds_bucket{le="+Inf"} 10"#,
        "h_milliseconds_sum{} 123.5",
        "h_milliseconds_count{} 10",
    ];
    assert_eq!(written.lines(), expected);
    assert_eq!((written.encoded.items, written.encoded.dropped), (7, vec![]));
}

#[test]
fn a_histogram_may_lack_buckets_or_sum_and_name_infinity() {
    let no_sum = HistogramDataPoint { sum: None, ..buckets(&[], &[4]) };
    assert_eq!(lines_of(histogram(no_sum)), [r#"h_milliseconds_bucket{le="+Inf"} 4"#, "h_milliseconds_count{} 4"]);
    let no_buckets = HistogramDataPoint { count: 9, ..buckets(&[], &[]) };
    assert_eq!(lines_of(histogram(no_buckets))[0], r#"h_milliseconds_bucket{le="+Inf"} 9"#);
    let infinite = buckets(&[1.0, f64::INFINITY], &[2, 3, 0]);
    let bounds = lines_of(histogram(infinite));
    assert_eq!(bounds[..2], [r#"h_milliseconds_bucket{le="1"} 2"#, r#"h_milliseconds_bucket{le="+Inf"} 5"#]);
}

#[test]
fn a_histogram_whose_buckets_do_not_fit_is_dropped_and_counted() {
    for (case, point) in [
        ("too few counts", buckets(&[1.0, 2.0], &[1, 2])),
        ("too many counts", buckets(&[1.0], &[1, 2, 3])),
        ("bounds only", buckets(&[1.0], &[])),
        ("not ascending", buckets(&[2.0, 1.0], &[1, 2, 3])),
        ("twice the same", buckets(&[1.0, 1.0], &[1, 2, 3])),
        ("no number", buckets(&[1.0, f64::NAN], &[1, 2, 3])),
    ] {
        let written = written(&request(vec![], vec![histogram_of(CUMULATIVE, vec![point, buckets(&[], &[1])])]));
        assert_eq!(written.encoded.dropped, [(DropReason::InvalidPoint, 1)], "{case}");
        assert_eq!(written.lines().len(), 3, "{case}: the other point stays");
    }
}

#[test]
fn a_summary_is_quantiles_sum_and_count() {
    let point = SummaryDataPoint {
        time_unix_nano: TIME_NANOS,
        count: 4,
        sum: 10.5,
        quantile_values: [(0.0, 1.0), (0.99, 9.0), (1.0, f64::NAN)]
            .map(|(quantile, value)| ValueAtQuantile { quantile, value })
            .to_vec(),
        ..Default::default()
    };
    let expected = [
        "s_seconds_sum{} 10.5",
        "s_seconds_count{} 4",
        r#"s_seconds{quantile="0"} 1"#,
        r#"s_seconds{quantile="0.99"} 9"#,
        r#"s_seconds{quantile="1"} NaN"#,
    ];
    assert_eq!(lines_of(summary(point)), expected);
}

#[test]
fn a_point_without_recorded_value_ends_its_series() {
    let flags = NO_RECORDED_VALUE;
    let quantile_values = vec![ValueAtQuantile { quantile: 0.5, value: 2.0 }];
    let input = request(
        vec![],
        vec![
            gauge("g", vec![NumberDataPoint { flags, ..number(4.0, &[]) }]),
            sum("c", true, vec![NumberDataPoint { flags, value: None, ..number(0.0, &[]) }]),
            histogram(HistogramDataPoint { flags, ..buckets(&[1.0], &[1, 1]) }),
            summary(SummaryDataPoint { flags, time_unix_nano: TIME_NANOS, quantile_values, ..Default::default() }),
        ],
    );
    let written = written(&input);
    assert_eq!(written.lines().len(), 9);
    assert!(written.lines().iter().all(|line| line.ends_with(" stale")), "{:#?}", written.lines());
    // A NaN that was measured is a value.
    assert_eq!(lines_of(gauge("g", vec![number(f64::NAN, &[])])), ["g{} NaN"]);
}

#[test]
fn what_remote_write_1_cannot_carry_is_dropped_and_counted_by_point() {
    let points = || vec![number(1.0, &[("n", "1")]), number(2.0, &[("n", "2")])];
    let sum_of = |temporality| {
        let sum = otlp::Sum { data_points: points(), aggregation_temporality: temporality, ..otlp::Sum::default() };
        metric("c", "", Data::Sum(sum))
    };
    let exponential = ExponentialHistogram {
        data_points: vec![ExponentialHistogramDataPoint::default(); 2],
        aggregation_temporality: CUMULATIVE,
    };
    for (case, metric, reason) in [
        ("delta sum", sum_of(DELTA), DropReason::DeltaTemporalityUnsupported),
        ("sum of no temporality", sum_of(0), DropReason::DeltaTemporalityUnsupported),
        ("delta histogram", histogram_of(DELTA, vec![buckets(&[], &[1]); 2]), DropReason::DeltaTemporalityUnsupported),
        (
            "exponential histogram",
            metric("e", "", Data::ExponentialHistogram(exponential)),
            DropReason::ExponentialHistogramUnsupported,
        ),
        ("no name", gauge("", points()), DropReason::InvalidPoint),
        ("a name without a usable character", gauge("温度", points()), DropReason::InvalidPoint),
    ] {
        let written = written(&request(texts(&[("service.name", "shop")]), vec![metric]));
        assert_eq!(written.encoded.dropped, [(reason, 2)], "{case}");
        assert_eq!((written.encoded.items, written.encoded.filtered), (2, 0), "{case}");
        assert_eq!(written.request, WriteRequest::default(), "{case}");
    }
}

#[test]
fn a_metric_without_points_or_data_is_nothing() {
    let no_data = otlp::Metric { name: "x".into(), ..Default::default() };
    let written = written(&request(texts(&[("service.name", "shop")]), vec![gauge("g", vec![]), no_data]));
    assert_eq!((written.request, written.encoded), (WriteRequest::default(), Encoded::default()));
}

#[test]
fn a_point_of_which_the_rules_leave_nothing_is_filtered_once() {
    let rule = RelabelRule {
        action: RelabelAction::Drop,
        source_labels: vec!["route".into()],
        separator: ";".into(),
        regex: "/debug.*".into(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
    };
    let rules = Rules::compile(&[rule]).unwrap();
    let routed =
        |route: &str| HistogramDataPoint { attributes: texts(&[("route", route)]), ..buckets(&[1.0], &[1, 1]) };
    let input = request(vec![], vec![histogram_of(CUMULATIVE, vec![routed("/debug/vars"), routed("/")])]);
    let written = written_with(&RemoteWriteEncoder::default(), &rules, &input);
    assert_eq!((written.encoded.items, written.encoded.filtered), (4, 1));
    assert!(written.lines().iter().all(|line| line.contains(r#"route="/""#)));

    let all_gone = request(vec![], vec![histogram(routed("/debug/vars"))]);
    let written = written_with(&RemoteWriteEncoder::default(), &rules, &all_gone);
    assert_eq!(written.request, WriteRequest::default(), "no metadata of a metric that is not there");
}

fn exemplar_at(value: f64, later_ms: u64) -> otlp::Exemplar {
    otlp::Exemplar {
        time_unix_nano: TIME_NANOS + later_ms * 1_000_000,
        value: Some(exemplar::Value::AsDouble(value)),
        ..Default::default()
    }
}

#[test]
fn exemplars_carry_their_ids_and_attributes() {
    let full = otlp::Exemplar {
        trace_id: vec![0xab; 16],
        span_id: vec![0x01; 8],
        filtered_attributes: texts(&[("user.id", "7"), ("trace_id", "spoofed"), ("empty", "")]),
        ..exemplar_at(2.5, 0)
    };
    let int = otlp::Exemplar { value: Some(exemplar::Value::AsInt(3)), ..exemplar_at(0.0, 0) };
    let point = NumberDataPoint { exemplars: vec![full, int], ..number(1.0, &[]) };
    let written = written(&request(vec![], vec![sum("c", true, vec![point])]));
    let [first, second] = written.request.timeseries[0].exemplars.as_slice() else { panic!("two exemplars") };
    let labels: Vec<_> = first.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect();
    let (span, trace) = ("01".repeat(8), "ab".repeat(16));
    assert_eq!(labels, [("span_id", span.as_str()), ("trace_id", &trace), ("user_id", "7")]);
    assert_eq!((first.value, first.timestamp), (2.5, TIME_MS));
    assert_eq!((second.value, second.labels.len()), (3.0, 0));
}

#[test]
fn an_exemplar_keeps_to_128_characters_and_its_ids_come_first() {
    let filtered_attributes = texts(&[("fits", &"é".repeat(61)), ("over", "x")]);
    let long =
        otlp::Exemplar { trace_id: vec![1; 16], span_id: vec![2; 8], filtered_attributes, ..exemplar_at(1.0, 0) };
    let point = NumberDataPoint { exemplars: vec![long], ..number(1.0, &[]) };
    let written = written(&request(vec![], vec![sum("c", true, vec![point])]));
    let labels = &written.request.timeseries[0].exemplars[0].labels;
    let names: Vec<_> = labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(names, ["fits", "span_id", "trace_id"]);
    let chars: usize = labels.iter().map(|label| label.name.chars().count() + label.value.chars().count()).sum();
    assert_eq!(chars, 128);
}

#[test]
fn each_exemplar_of_a_histogram_stands_in_its_bucket_in_order_of_time() {
    let exemplars = vec![exemplar_at(0.5, 3), exemplar_at(9.0, 0), exemplar_at(1.0, 1), exemplar_at(2.0, 2)];
    let point = HistogramDataPoint { exemplars, ..buckets(&[1.0, 5.0], &[2, 1, 1]) };
    let written = written(&request(vec![], vec![histogram(point)]));
    let times = |start: &str| {
        let exemplars = &written.series(start).exemplars;
        exemplars.iter().map(|exemplar| (exemplar.value, exemplar.timestamp - TIME_MS)).collect::<Vec<_>>()
    };
    // Prometheus refuses an exemplar that is older than the one before.
    assert_eq!(times(r#"h_milliseconds_bucket{le="1"}"#), [(1.0, 1), (0.5, 3)]);
    assert_eq!(times(r#"h_milliseconds_bucket{le="5"}"#), [(2.0, 2)]);
    assert_eq!(times(r#"h_milliseconds_bucket{le="+Inf"}"#), [(9.0, 0)]);
    assert_eq!(times("h_milliseconds_sum"), []);
    assert_eq!(times("h_milliseconds_count"), []);

    let point = NumberDataPoint { exemplars: vec![exemplar_at(1.0, 5), exemplar_at(2.0, 4)], ..number(3.0, &[]) };
    let written = super::written(&request(vec![], vec![sum("c", true, vec![point])]));
    let values: Vec<f64> = written.request.timeseries[0].exemplars.iter().map(|exemplar| exemplar.value).collect();
    assert_eq!(values, [2.0, 1.0]);
}

#[test]
fn appending_to_an_open_batch_merges() {
    let one = request(vec![], vec![gauge("g", vec![number(1.0, &[("n", "1")])])]).encode_to_vec();
    let two = request(vec![], vec![gauge("g", vec![number(2.0, &[("n", "2")])])]).encode_to_vec();
    let mut batch = Vec::new();
    for part in [one, two] {
        RemoteWriteEncoder::default().encode(&part, TENANT, &Rules::default(), &mut batch).unwrap();
    }
    let lines: Vec<String> = WriteRequest::decode(batch.as_slice()).unwrap().timeseries.iter().map(line).collect();
    assert_eq!(lines, [r#"g{n="1"} 1"#, r#"g{n="2"} 2"#]);
}
