//! Names, and which labels a series has.

use super::*;
use crate::policy::{RelabelAction, RelabelRule};
use opentelemetry_proto::tonic::common::v1::{ArrayValue, InstrumentationScope, KeyValueList};
use opentelemetry_proto::tonic::metrics::v1::Summary;

/// The labels of the one series of a gauge with these attributes, without its name and tenant.
fn labels_of(resource: Vec<Pair>, attributes: Vec<Pair>) -> (Vec<(String, String)>, Encoded) {
    let point = NumberDataPoint { attributes, ..number(1.0, &[]) };
    let written = written(&request(resource, vec![gauge("g", vec![point])]));
    (own_labels(&written.request.timeseries[0]), written.encoded)
}

fn own_labels(series: &TimeSeries) -> Vec<(String, String)> {
    let labels = series.labels.iter().filter(|label| label.name != "__name__" && label.name != "tenant");
    labels.map(|label| (label.name.clone(), label.value.clone())).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn names_carry_unit_and_type() {
    let point = || vec![number(1.0, &[])];
    let gauge = || Data::Gauge(otlp::Gauge { data_points: point() });
    let sum =
        |is_monotonic| Data::Sum(otlp::Sum { data_points: point(), aggregation_temporality: CUMULATIVE, is_monotonic });
    for (name, unit, data, expected) in [
        ("http.server.active", "{request}", gauge(), "http_server_active"),
        ("queue.fill", "1", gauge(), "queue_fill_ratio"),
        ("fill_ratio", "1", gauge(), "fill_ratio"),
        ("memory", "MiBy", gauge(), "memory_mebibytes"),
        ("speed", "m/s", gauge(), "speed_meters_per_second"),
        ("humidity", "%", gauge(), "humidity_percent"),
        ("orders", "", sum(true), "orders_total"),
        ("orders.total", "", sum(true), "orders_total"),
        ("orders", "1", sum(true), "orders_total"),
        ("network.io", "By", sum(true), "network_io_bytes_total"),
        ("network.io.bytes", "By", sum(true), "network_io_bytes_total"),
        ("queue.length", "1", sum(false), "queue_length"),
        ("queue.size", "By", sum(false), "queue_size_bytes"),
        ("namespace:metric:rate", "", gauge(), "namespace:metric:rate"),
        ("2xx responses", "", gauge(), "_2xx_responses"),
        ("größe", "", gauge(), "gr_e"),
        ("..weird--name..", "", gauge(), "weird_name"),
    ] {
        let written = written(&request(vec![], vec![metric(name, unit, data)]));
        let names: Vec<_> = written.request.timeseries.iter().map(|s| value_of(&s.labels, "__name__")).collect();
        assert_eq!(names, [Some(expected)], "{name} in {unit:?}");
        assert_eq!(written.request.metadata[0].family, expected);
    }
}

#[test]
fn job_and_instance_come_from_the_service() {
    for (resource, expected) in [
        (vec![], vec![]),
        (texts(&[("service.name", "shop")]), vec![("job", "shop")]),
        (texts(&[("service.namespace", "eu"), ("service.name", "shop")]), vec![("job", "eu/shop")]),
        (texts(&[("service.namespace", ""), ("service.name", "shop")]), vec![("job", "shop")]),
        (texts(&[("service.namespace", "eu")]), vec![]),
        (texts(&[("service.instance.id", "pod-0")]), vec![("instance", "pod-0")]),
        (vec![typed("service.instance.id", Any::IntValue(7))], vec![("instance", "7")]),
    ] {
        assert_eq!(labels_of(resource.clone(), vec![]).0, owned(&expected), "{resource:?}");
    }
}

#[test]
fn a_resource_attribute_is_a_label_only_of_target_info() {
    let resource = texts(&[("service.name", "shop"), ("host.name", "h1"), ("cloud.region", ""), ("tenant", "acme")]);
    let points = vec![
        NumberDataPoint { time_unix_nano: TIME_NANOS + 5_000_000, ..number(1.0, &[("n", "1")]) },
        number(2.0, &[("n", "2")]),
    ];
    let written = written(&request(resource, vec![gauge("g", points)]));
    let expected =
        [r#"g{job="shop",n="1"} 1"#, r#"g{job="shop",n="2"} 2"#, r#"target_info{host_name="h1",job="shop"} 1"#];
    assert_eq!(written.lines(), expected);
    assert_eq!(written.request.timeseries[2].samples[0].timestamp, TIME_MS + 5, "the latest point's");
    assert_eq!(written.encoded.items, 3);
}

#[test]
fn there_is_no_target_info_without_anything_to_say_or_to_join_with() {
    let point = || vec![gauge("g", vec![number(1.0, &[])])];
    let delta = otlp::Sum { data_points: vec![number(1.0, &[])], aggregation_temporality: DELTA, is_monotonic: true };
    for (case, input) in [
        ("only identifying", request(texts(&[("service.name", "shop"), ("service.instance.id", "0")]), point())),
        ("no job, no instance", request(texts(&[("host.name", "h1")]), point())),
        ("no metric", request(texts(&[("service.name", "shop"), ("host.name", "h1")]), vec![])),
        (
            "no point written",
            request(texts(&[("service.name", "a"), ("host.name", "h")]), vec![metric("d", "", Data::Sum(delta))]),
        ),
    ] {
        let lines = written(&input).lines();
        assert!(lines.iter().all(|line| !line.starts_with("target_info")), "{case}: {lines:?}");
    }
}

#[test]
fn promoted_resource_attributes_are_labels_of_every_series() {
    let wanted = ["cloud.region", "host.id", "absent", "service.name", "service.instance.id"];
    let encoder = RemoteWriteEncoder::new(&wanted.map(str::to_owned));
    let resource = vec![
        text("service.name", "shop"),
        text("cloud.region", "eu"),
        typed("host.id", Any::IntValue(7)),
        text("host.name", "h1"),
    ];
    let points = vec![number(1.0, &[]), number(2.0, &[("cloud_region", "us")])];
    let written = written_with(&encoder, &Rules::default(), &request(resource, vec![gauge("g", points)]));
    let expected = [
        r#"g{cloud_region="eu",host_id="7",job="shop",service_name="shop"} 1"#,
        // The point's own attribute is the nearer one.
        r#"g{cloud_region="us",host_id="7",job="shop",service_name="shop"} 2"#,
        // As without promotion.
        r#"target_info{cloud_region="eu",host_id="7",host_name="h1",job="shop"} 1"#,
    ];
    assert_eq!(written.lines(), expected);
}

#[test]
fn attributes_of_every_type_are_text() {
    let list = |values: &[&str]| ArrayValue {
        values: values.iter().map(|v| AnyValue { value: Some(Any::StringValue((*v).into())) }).collect(),
    };
    let attributes = vec![
        text("s", "a\"b\\c\nd é"),
        typed("b", Any::BoolValue(true)),
        typed("i", Any::IntValue(-5)),
        typed("d", Any::DoubleValue(2.50)),
        typed("bytes", Any::BytesValue(vec![1, 2, 3])),
        typed("list", Any::ArrayValue(list(&["x", "y"]))),
        typed("map", Any::KvlistValue(KeyValueList { values: texts(&[("k", "v")]) })),
        text("empty", ""),
        Pair { key: "none".into(), ..Default::default() },
        text("", "no name"),
    ];
    let expected = [
        ("b", "true"),
        ("bytes", "AQID"),
        ("d", "2.5"),
        ("i", "-5"),
        ("list", r#"["x","y"]"#),
        ("map", r#"{"k":"v"}"#),
        ("s", "a\"b\\c\nd é"),
    ];
    assert_eq!(labels_of(vec![], attributes).0, owned(&expected));
}

#[test]
fn odd_keys_become_label_names_and_none_is_lost() {
    for (key, expected) in [
        ("http.request.method", "http_request_method"),
        ("Case-Kept", "Case_Kept"),
        ("1st", "key_1st"),
        ("_one", "key_one"),
        ("größe", "gr__e"),
        ("é", "key_"),
        ("..", "key__"),
        ("___", "key___"),
    ] {
        assert_eq!(labels_of(vec![], texts(&[(key, "v")])).0, owned(&[(expected, "v")]), "{key}");
    }
}

#[test]
fn keys_that_become_equal_are_joined_in_the_order_of_their_keys_and_counted() {
    for keys in [["a.b", "a/b", "a_b"], ["a_b", "a/b", "a.b"], ["a/b", "a_b", "a.b"]] {
        let attributes = keys.map(|key| text(key, key)).to_vec();
        let (labels, encoded) = labels_of(vec![], attributes);
        assert_eq!(labels, owned(&[("a_b", "a.b;a/b;a_b")]), "whatever the order of {keys:?}");
        assert_eq!(encoded.label_collisions, 2);
    }
}

#[test]
fn the_service_of_the_resource_wins_over_a_points_attribute_and_that_is_counted() {
    let service = || texts(&[("service.name", "shop"), ("service.instance.id", "pod-0")]);
    let expected = owned(&[("instance", "pod-0"), ("job", "shop")]);
    for (attributes, collisions) in [
        (&[("job", "batch"), ("instance", "i")][..], 2),
        (&[("job", "batch")], 1),
        (&[("job", "shop"), ("instance", "")], 0),
        (&[("__name__", "spoofed")], 1),
    ] {
        let (labels, encoded) = labels_of(service(), texts(attributes));
        assert_eq!((labels, encoded.label_collisions), (expected.clone(), collisions), "{attributes:?}");
    }
    let (labels, encoded) = labels_of(vec![], texts(&[("job", "batch"), ("instance", "i")]));
    assert_eq!((labels, encoded.label_collisions), (owned(&[("instance", "i"), ("job", "batch")]), 0));
}

#[test]
fn a_label_of_ones_own_cannot_claim_another_tenant() {
    for (value, claims) in [("globex", 1), ("acme", 0), ("", 0)] {
        let (labels, encoded) = labels_of(vec![], texts(&[("tenant", value), ("n", "1")]));
        assert_eq!((labels, encoded.tenant_claims), (owned(&[("n", "1")]), claims), "tenant={value:?}");
    }
}

/// A rule on `route`; what it does not say is Prometheus' default.
fn rule(action: RelabelAction, regex: &str, target_label: &str, replacement: &str) -> RelabelRule {
    RelabelRule {
        action,
        source_labels: vec!["route".into()],
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: target_label.into(),
        replacement: replacement.into(),
    }
}

#[test]
fn rules_see_the_final_labels_and_a_series_stays_its_tenants() {
    use RelabelAction::{LabelDrop, LabelKeep, Replace};
    let point = || vec![gauge("g", vec![number(1.0, &[("route", "/a"), ("zone", "z")])])];
    for (rules, expected) in [
        (vec![rule(Replace, "/(.*)", "kind", "$1")], Some(r#"g{job="shop",kind="a",route="/a",zone="z"} 1"#)),
        (vec![rule(Replace, ".*", "__name__", "renamed")], Some(r#"renamed{job="shop",route="/a",zone="z"} 1"#)),
        (vec![rule(Replace, ".*", "tenant", "globex")], Some(r#"g{job="shop",route="/a",zone="z"} 1"#)),
        (vec![rule(Replace, ".*", "__tmp", "x")], Some(r#"g{job="shop",route="/a",zone="z"} 1"#)),
        (vec![rule(Replace, ".*", "job", "")], Some(r#"g{route="/a",zone="z"} 1"#)),
        (vec![rule(LabelDrop, "job|tenant", "", "")], Some(r#"g{route="/a",zone="z"} 1"#)),
        (vec![rule(LabelKeep, "__name__|zone", "", "")], Some(r#"g{zone="z"} 1"#)),
        // A series without a name is none.
        (vec![rule(LabelKeep, "zone", "", "")], None),
        (vec![rule(Replace, ".*", "__name__", "")], None),
    ] {
        let compiled = Rules::compile(&rules).unwrap();
        let input = request(texts(&[("service.name", "shop")]), point());
        let written = written_with(&RemoteWriteEncoder::default(), &compiled, &input);
        assert_eq!(written.lines(), Vec::from_iter(expected), "{rules:?}");
        assert_eq!(written.encoded.filtered, u64::from(expected.is_none()), "{rules:?}");
    }
}

#[test]
fn le_and_quantile_are_the_encoders_where_it_needs_them() {
    let attributes = &[("le", "mine"), ("quantile", "mine")];
    let summary = Summary {
        data_points: vec![otlp::SummaryDataPoint {
            attributes: texts(attributes),
            time_unix_nano: TIME_NANOS,
            quantile_values: vec![otlp::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 3.0 }],
            ..Default::default()
        }],
    };
    let written = written(&request(
        vec![],
        vec![gauge("g", vec![number(1.0, attributes)]), metric("s", "", Data::Summary(summary))],
    ));
    let expected = [
        r#"g{le="mine",quantile="mine"} 1"#,
        r#"s_sum{le="mine",quantile="mine"} 0"#,
        r#"s_count{le="mine",quantile="mine"} 0"#,
        r#"s{le="mine",quantile="0.5"} 3"#,
    ];
    assert_eq!(written.lines(), expected);
}

#[test]
fn the_scope_is_no_label() {
    let mut input = request(vec![], vec![gauge("g", vec![number(1.0, &[])])]);
    let scope = InstrumentationScope { name: "lib".into(), version: "1".into(), ..Default::default() };
    input.resource_metrics[0].scope_metrics[0].scope = Some(scope);
    assert_eq!(written(&input).lines(), ["g{} 1"]);
}

#[test]
fn a_resource_in_two_parts_is_one() {
    let input = request(texts(&[("service.name", "shop")]), vec![gauge("g", vec![number(1.0, &[])])]);
    let mut entry = input.resource_metrics[0].encode_to_vec();
    // Protobuf: a singular message field that comes again is merged.
    let more = Resource { attributes: texts(&[("host.name", "h1")]), ..Default::default() };
    prost::encoding::message::encode(1, &more, &mut entry);
    let merged = ResourceMetrics::decode(entry.as_slice()).unwrap();
    assert_eq!(merged.resource.unwrap().attributes, texts(&[("service.name", "shop"), ("host.name", "h1")]));

    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    prost::encoding::bytes::encode(1, &entry, &mut bytes);
    RemoteWriteEncoder::default().encode(&bytes, TENANT, &Rules::default(), &mut out).unwrap();
    let lines: Vec<String> = WriteRequest::decode(out.as_slice()).unwrap().timeseries.iter().map(line).collect();
    assert_eq!(lines, [r#"g{job="shop"} 1"#, r#"target_info{host_name="h1",job="shop"} 1"#]);
}
