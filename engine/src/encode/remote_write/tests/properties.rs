//! Whatever comes: no panic, well-formed series, and a count that is right.

use super::*;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, SummaryDataPoint};
use proptest::collection::vec;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]([._][a-c])?",
        Just("tenant".to_owned()),
        Just("job".to_owned()),
        Just("__name__".to_owned()),
        Just("le".to_owned()),
        Just("quantile".to_owned()),
        "[_.]{0,3}",
        ".{0,5}",
    ]
}

fn attributes() -> impl Strategy<Value = Vec<Pair>> {
    let value = prop_oneof![
        "[xy]?".prop_map(Any::StringValue),
        ".{0,4}".prop_map(Any::StringValue),
        any::<i64>().prop_map(Any::IntValue),
        any::<f64>().prop_map(Any::DoubleValue),
        vec(any::<u8>(), 0..3).prop_map(Any::BytesValue),
    ];
    vec((key(), value).prop_map(|(key, value)| typed(&key, value)), 0..6)
}

fn resource() -> impl Strategy<Value = Vec<Pair>> {
    let service = prop_oneof![Just("service.name"), Just("service.namespace"), Just("service.instance.id")];
    let service = (service, "x?").prop_map(|(key, value)| text(key, &value));
    (vec(service, 0..4), attributes()).prop_map(|(service, others)| [service, others].concat())
}

fn numbers() -> impl Strategy<Value = Vec<NumberDataPoint>> {
    let value = prop_oneof![any::<f64>().prop_map(Number::AsDouble), any::<i64>().prop_map(Number::AsInt)];
    let point = (attributes(), any::<u64>(), proptest::option::of(value), 0u32..2);
    let point = point.prop_map(|(attributes, time_unix_nano, value, flags)| NumberDataPoint {
        attributes,
        time_unix_nano,
        value,
        flags,
        ..Default::default()
    });
    vec(point, 0..4)
}

fn data() -> impl Strategy<Value = Data> {
    let histogram = (attributes(), vec(any::<u64>(), 0..4), vec(-2.0..9.0, 0..4), proptest::option::of(any::<f64>()));
    let histogram = histogram.prop_map(|(attributes, bucket_counts, mut explicit_bounds, sum)| {
        explicit_bounds.sort_by(f64::total_cmp);
        HistogramDataPoint { attributes, bucket_counts, explicit_bounds, sum, ..Default::default() }
    });
    let quantile = (any::<f64>(), any::<f64>()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    let summary = (attributes(), vec(quantile, 0..3)).prop_map(|(attributes, quantile_values)| SummaryDataPoint {
        attributes,
        quantile_values,
        ..Default::default()
    });
    let exponential = (attributes(), any::<u64>()).prop_map(|(attributes, count)| {
        otlp::ExponentialHistogramDataPoint { attributes, count, ..Default::default() }
    });
    prop_oneof![
        (vec(exponential, 0..3), 1..3).prop_map(|(data_points, aggregation_temporality)| {
            Data::ExponentialHistogram(otlp::ExponentialHistogram { data_points, aggregation_temporality })
        }),
        numbers().prop_map(|data_points| Data::Gauge(otlp::Gauge { data_points })),
        (numbers(), 0..3, any::<bool>()).prop_map(|(data_points, aggregation_temporality, is_monotonic)| {
            Data::Sum(otlp::Sum { data_points, aggregation_temporality, is_monotonic })
        }),
        (vec(histogram, 0..3), 1..3).prop_map(|(data_points, aggregation_temporality)| {
            Data::Histogram(otlp::Histogram { data_points, aggregation_temporality })
        }),
        vec(summary, 0..3).prop_map(|data_points| Data::Summary(otlp::Summary { data_points })),
    ]
}

pub(super) fn requests() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let name = prop_oneof!["[a-z]{1,3}([._][a-z]{1,3})?", ".{0,5}"];
    let unit = prop_oneof!["(1|s|By|m/s|%)?", ".{0,4}"];
    let metric = (name, unit, data()).prop_map(|(name, unit, data)| metric(&name, &unit, data));
    let entry = (resource(), vec(metric, 0..4)).prop_map(|(resource, metrics)| request(resource, metrics));
    vec(entry, 0..3).prop_map(|parts| ExportMetricsServiceRequest {
        resource_metrics: parts.into_iter().flat_map(|part| part.resource_metrics).collect(),
    })
}

proptest! {
    /// [`written_with`] checks every series, and the count.
    #[test]
    fn every_series_is_well_formed_and_counted(input in requests()) {
        let encoder = RemoteWriteEncoder::new(&["a.b", "service.name", "tenant", "..", ""].map(str::to_owned));
        written_with(&encoder, &Rules::default(), &input);
    }

    #[test]
    fn bytes_that_are_no_request_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        // An error or not: that it comes back is what counts.
        let _ = RemoteWriteEncoder::default().encode(&bytes, TENANT, &Rules::default(), &mut out);
    }

    #[test]
    fn a_request_cut_short_or_changed_does_no_harm(input in requests(), at: prop::sample::Index, byte: u8) {
        let mut bytes = input.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = RemoteWriteEncoder::default().encode(&bytes, TENANT, &Rules::default(), &mut Vec::new());
            let _ = RemoteWriteEncoder::default().encode(&bytes[..at], TENANT, &Rules::default(), &mut Vec::new());
        }
    }
}
