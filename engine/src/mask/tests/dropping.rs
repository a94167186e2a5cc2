//! Which items go when a value at any level asks for it.

use super::*;
use crate::otlp::items::leave_out;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{
    metric::Data, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{span::Event, ResourceSpans, ScopeSpans, Span};

fn secret() -> Vec<KeyValue> {
    vec![attribute("password", text("x"))]
}

/// A request of two resources of two scopes of a metric of each kind with two points each: 40 points.
fn metrics() -> ExportMetricsServiceRequest {
    let named = |data| Metric { name: "m".to_owned(), data: Some(data), ..Metric::default() };
    let metrics = || {
        vec![
            named(Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default(); 2] })),
            named(Data::Sum(Sum { data_points: vec![NumberDataPoint::default(); 2], ..Sum::default() })),
            named(Data::Histogram(Histogram {
                data_points: vec![HistogramDataPoint::default(); 2],
                ..Default::default()
            })),
            named(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![ExponentialHistogramDataPoint::default(); 2],
                ..Default::default()
            })),
            named(Data::Summary(Summary { data_points: vec![SummaryDataPoint::default(); 2] })),
        ]
    };
    let scope = || ScopeMetrics { scope: Some(Default::default()), metrics: metrics(), ..Default::default() };
    let resource = || ResourceMetrics {
        resource: Some(Resource::default()),
        scope_metrics: vec![scope(), scope()],
        ..Default::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource(), resource()] }
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

/// What is dropped, and how many items are left.
fn dropped(signal: Signal, request: &[u8]) -> (Vec<Range<u64>>, u64) {
    let (bytes, masked) = mask_by(&policy(MaskAction::DropItem), signal, request);
    let mut edits = EditList::default();
    leave_out(signal, &bytes, &masked.dropped, &mut edits).unwrap();
    let left = edits.apply(&bytes);
    walk::validate(signal, &left).unwrap();
    (masked.dropped, crate::otlp::count_items(signal, &left).unwrap())
}

/// Plants a secret in a scope of a request.
type Plant = fn(&mut ExportMetricsServiceRequest);

#[test]
fn a_value_takes_along_all_items_of_the_message_that_it_belongs_to() {
    fn second(request: &mut ExportMetricsServiceRequest) -> &mut ScopeMetrics {
        &mut request.resource_metrics[0].scope_metrics[1]
    }
    let cases: [(&str, Plant, Range<u64>); 9] = [
        ("resource", |request| request.resource_metrics[1].resource.as_mut().unwrap().attributes = secret(), 20..40),
        ("scope", |request| second(request).scope.as_mut().unwrap().attributes = secret(), 10..20),
        ("metadata", |request| second(request).metrics[1].metadata = secret(), 12..14),
        ("metric name", |request| second(request).metrics[4].name = "a@b.co".to_owned(), 18..20),
        (
            "gauge",
            |request| {
                let Some(Data::Gauge(gauge)) = &mut second(request).metrics[0].data else { unreachable!() };
                gauge.data_points[1].attributes = secret();
            },
            11..12,
        ),
        (
            "exemplar",
            |request| {
                let Some(Data::Sum(sum)) = &mut second(request).metrics[1].data else { unreachable!() };
                sum.data_points[0].exemplars = vec![Exemplar { filtered_attributes: secret(), ..Default::default() }];
            },
            12..13,
        ),
        (
            "histogram",
            |request| {
                let Some(Data::Histogram(histogram)) = &mut second(request).metrics[2].data else { unreachable!() };
                histogram.data_points[1].attributes = secret();
            },
            15..16,
        ),
        (
            "exponential histogram",
            |request| {
                let Some(Data::ExponentialHistogram(histogram)) = &mut second(request).metrics[3].data else {
                    unreachable!()
                };
                histogram.data_points[0].attributes = secret();
            },
            16..17,
        ),
        (
            "summary",
            |request| {
                let Some(Data::Summary(summary)) = &mut second(request).metrics[4].data else { unreachable!() };
                summary.data_points[1].attributes = secret();
            },
            19..20,
        ),
    ];
    for (place, plant, expected) in cases {
        let mut request = metrics();
        plant(&mut request);
        let left = 40 - (expected.end - expected.start);
        assert_eq!(dropped(Signal::Metrics, &request.encode_to_vec()), (vec![expected], left), "{place}");
    }
}

#[test]
fn several_values_at_several_levels_drop_each_item_once() {
    let mut request = metrics();
    let scope = &mut request.resource_metrics[0].scope_metrics[0];
    scope.metrics[2].metadata = secret();
    let Some(Data::Gauge(gauge)) = &mut scope.metrics[0].data else { unreachable!() };
    gauge.data_points[0].attributes = secret();
    request.resource_metrics[1].scope_metrics[0].metrics[0].metadata = secret();
    request.resource_metrics[1].scope_metrics[0].scope =
        Some(InstrumentationScope { attributes: secret(), ..Default::default() });
    assert_eq!(dropped(Signal::Metrics, &request.encode_to_vec()), (vec![0..1, 4..6, 20..30], 27));
}

#[test]
fn indices_count_all_data_fields_of_a_metric_in_any_order() {
    let points = |out: &mut Vec<u8>, data: u32, secrets: &[bool]| {
        put_message_field(out, data, |out| {
            for &is_secret in secrets {
                let attributes = if is_secret { secret() } else { Vec::new() };
                put_bytes_field(out, 1, &NumberDataPoint { attributes, ..Default::default() }.encode_to_vec());
            }
        });
    };
    let mut request = Vec::new();
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 2, |out| {
            put_message_field(out, 2, |_| {});
            put_message_field(out, 2, |out| {
                points(out, 7, &[false, true]);
                points(out, 5, &[]);
                points(out, 5, &[true, false, false]);
                put_bytes_field(out, 1, b"m");
            });
        });
        // Behind its scopes, and it holds no item of its own.
        put_message_field(out, 1, |_| {});
    });
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 1, |out| put_bytes_field(out, 1, &secret()[0].encode_to_vec()))
    });
    assert_eq!(dropped(Signal::Metrics, &request).1, 3);
    assert_eq!(mask_by(&policy(MaskAction::DropItem), Signal::Metrics, &request).1.dropped, [1..2, 2..3]);
}

#[test]
fn a_resource_behind_its_scopes_takes_them_along() {
    let mut request = Vec::new();
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 2, |out| (0..3).for_each(|_| put_message_field(out, 2, |_| {})));
        put_message_field(out, 1, |out| put_bytes_field(out, 1, &secret()[0].encode_to_vec()));
    });
    assert_eq!(dropped(Signal::Logs, &request), (one(0..3), 0));
}

#[test]
fn an_event_takes_its_span_along() {
    let span = |attributes| {
        let events = vec![Event { attributes, ..Event::default() }];
        Span { trace_id: vec![1; 16], span_id: vec![1; 8], events, ..Span::default() }
    };
    let spans = vec![span(vec![]), span(secret()), span(vec![])];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    assert_eq!(dropped(Signal::Traces, &request), (one(1..2), 2));
}
