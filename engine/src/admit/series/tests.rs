//! The stage on real requests: what stays, what is folded, what is rejected.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value as Any, AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::*;
use crate::encode::remote_write::RemoteWriteEncoder;
use crate::otlp::edit::EditList;
use crate::policy::{RelabelAction, RelabelRule};
use crate::relabel::Rules;

pub(super) const TENANT: &str = "acme";
pub(super) const SECOND: u64 = 1_000_000_000;
/// When the tests' budgets begin.
pub(super) const BEGIN_S: u64 = 1_700_000_000;
pub(super) const QUOTA: SeriesQuota =
    SeriesQuota { max_active: Some(2), new_per_minute: None, window_s: 3600, max_folded: 100 };

pub(super) fn now(after_s: u64) -> Now {
    Now { unix: Duration::from_secs(BEGIN_S + after_s), monotonic_ns: after_s * SECOND }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

/// Times in seconds after the beginning; a start of `None` is unknown.
pub(super) fn point(id: &str, start_s: Option<u64>, time_s: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![text("id", id)],
        start_time_unix_nano: start_s.map_or(0, |start| (BEGIN_S + start) * SECOND),
        time_unix_nano: (BEGIN_S + time_s) * SECOND,
        value: Some(Number::AsDouble(value)),
        ..Default::default()
    }
}

pub(super) fn sum(data_points: Vec<NumberDataPoint>) -> Metric {
    let data = Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true });
    Metric { name: "c".into(), data: Some(data), ..Default::default() }
}

fn gauge(data_points: Vec<NumberDataPoint>) -> Metric {
    Metric { name: "g".into(), data: Some(Data::Gauge(Gauge { data_points })), ..Default::default() }
}

pub(super) fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let attributes = vec![text("service.name", "shop"), text("service.instance.id", "i1")];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..Default::default() }],
            ..Default::default()
        }],
    }
}

/// What is left of a request, and what was written for it.
pub(super) struct Outcome {
    pub(super) left: ExportMetricsServiceRequest,
    pub(super) overflow: ExportMetricsServiceRequest,
    held: Held,
}

impl Outcome {
    /// `name{id} value` of what is left.
    pub(super) fn left(&self) -> Vec<String> {
        lines(&self.left)
    }

    fn overflow(&self) -> Vec<String> {
        lines(&self.overflow)
    }
}

fn lines(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let mut lines = Vec::new();
    for metric in metrics {
        match metric.data.as_ref().unwrap() {
            Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. }) => {
                lines.extend(data_points.iter().map(|point| {
                    let Some(Number::AsDouble(value)) = point.value else { panic!("{point:?}") };
                    format!("{}{{{}}} {value}", metric.name, attributes(&point.attributes))
                }));
            }
            Data::Histogram(Histogram { data_points, .. }) => {
                lines.extend(data_points.iter().map(|point| {
                    let labels = attributes(&point.attributes);
                    format!("{}{{{labels}}} {:?} {:?}", metric.name, point.bucket_counts, point.sum)
                }));
            }
            other => lines.push(format!("{} {other:?}", metric.name)),
        }
    }
    lines
}

fn attributes(pairs: &[KeyValue]) -> String {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(value)) => value.clone(),
        Some(Any::BoolValue(value)) => format!("{}={value}", pair.key),
        other => panic!("{other:?}"),
    };
    pairs.iter().map(value).collect::<Vec<_>>().join(",")
}

pub(super) fn hold(
    budget: &SeriesBudget,
    quota: &SeriesQuota,
    rules: &Rules,
    now: Now,
    input: &ExportMetricsServiceRequest,
) -> Outcome {
    let bytes = input.encode_to_vec();
    let (encoder, mut gate, mut payload) = (RemoteWriteEncoder::default(), budget.gate(quota, now), Vec::new());
    let encoded = encoder.encode_through(&mut gate, &bytes, TENANT, rules, &mut payload).unwrap();
    let held = gate.close();
    let mut edits = EditList::default();
    held.take_out(&bytes, &mut edits).unwrap();
    let left = edits.apply(&bytes);
    let mut plain = Vec::new();
    assert_eq!(encoder.encode(&left, TENANT, rules, &mut plain).unwrap(), encoded);
    assert_eq!(plain, payload, "what is left is what was written");
    let left = ExportMetricsServiceRequest::decode(left.as_ref()).unwrap();
    let overflow = budget.emit(&held.grown, TENANT, now, |samples| samples.to_vec());
    Outcome { left, overflow: ExportMetricsServiceRequest::decode(overflow.as_slice()).unwrap(), held }
}

fn held(budget: &SeriesBudget, after_s: u64, metrics: Vec<Metric>) -> Outcome {
    hold(budget, &QUOTA, &Rules::default(), now(after_s), &request(metrics))
}

fn budget() -> SeriesBudget {
    SeriesBudget::new(now(0))
}

#[test]
fn known_series_flow_and_new_counters_over_budget_are_summed() {
    let budget = budget();
    let ids = |values: [f64; 4], time| {
        let named = ["a", "b", "x", "y"].iter().zip(values);
        vec![sum(named.map(|(id, value)| point(id, Some(1), time, value)).collect())]
    };
    let first = held(&budget, 10, ids([1.0, 2.0, 3.0, 4.0], 10));
    assert_eq!(first.left(), ["c{a} 1", "c{b} 2"]);
    let zero_first = ["c{otel.metric.overflow=true} 0", "c{otel.metric.overflow=true} 7"];
    assert_eq!(first.overflow(), zero_first);
    let second = held(&budget, 20, ids([5.0, 5.0, 5.0, 1.0], 20));
    assert_eq!(second.left(), ["c{a} 5", "c{b} 5"]);
    assert_eq!(second.overflow(), ["c{otel.metric.overflow=true} 10"], "two more of x, a reset of y");
    assert_eq!((second.held.folded, second.held.rejected), (2, 0));
    assert_eq!(budget.table.active(), 2);
}

#[test]
fn an_overflow_series_has_its_service_its_tenant_and_an_instance_of_its_own() {
    let (left, right) = (budget(), budget());
    let resource = |budget: &SeriesBudget| {
        let points = ["a", "b", "x"].map(|id| point(id, Some(1), 10, 1.0)).to_vec();
        let mut outcome = held(budget, 10, vec![sum(points)]);
        let resource = outcome.overflow.resource_metrics.remove(0).resource.unwrap();
        resource
            .attributes
            .iter()
            .map(|pair| format!("{}={}", pair.key, attributes(std::slice::from_ref(pair))))
            .collect::<Vec<_>>()
    };
    let (left, right) = (resource(&left), resource(&right));
    assert_eq!((left[0].as_str(), left[2].as_str()), ("service.name=shop", "tenant=acme"));
    assert!(left[1].starts_with("service.instance.id=overflow-"), "{left:?}");
    assert_ne!(left[1], right[1], "two gateways write two series");
}

#[test]
fn gauges_and_what_else_cannot_be_summed_are_rejected() {
    let budget = budget();
    held(&budget, 1, vec![gauge(vec![point("a", None, 1, 1.0), point("b", None, 1, 1.0)])]);
    let delta = Sum { data_points: vec![point("x", None, 2, 1.0)], aggregation_temporality: 1, is_monotonic: true };
    let up_and_down = Sum { is_monotonic: false, aggregation_temporality: 2, ..delta.clone() };
    let summary = Summary { data_points: vec![SummaryDataPoint::default()] };
    for data in [Data::Sum(delta), Data::Sum(up_and_down), Data::Summary(summary)] {
        let metric = Metric { name: "m".into(), data: Some(data), ..Default::default() };
        let outcome = held(&budget, 2, vec![metric, gauge(vec![point("a", None, 2, 2.0), point("y", None, 2, 3.0)])]);
        assert_eq!(outcome.left(), ["g{a} 2"]);
        assert_eq!((outcome.held.rejected, outcome.held.folded), (2, 0));
    }
    let nothing_left = held(&budget, 3, vec![gauge(vec![point("y", None, 3, 3.0)])]);
    assert!(nothing_left.left.resource_metrics.is_empty(), "empty messages go with their points");
}

#[test]
fn a_histogram_counts_for_its_series_and_is_folded_whole() {
    let budget = budget();
    let histogram = |id: &str, time: u64, counts: &[u64]| {
        let data_point = HistogramDataPoint {
            attributes: vec![text("id", id)],
            start_time_unix_nano: (BEGIN_S + 1) * SECOND,
            time_unix_nano: (BEGIN_S + time) * SECOND,
            count: counts.iter().sum(),
            sum: Some(2.5),
            bucket_counts: counts.to_vec(),
            explicit_bounds: vec![1.0],
            ..Default::default()
        };
        let data = Histogram { data_points: vec![data_point], aggregation_temporality: 2 };
        Metric { name: "h".into(), data: Some(Data::Histogram(data)), ..Default::default() }
    };
    let quota = SeriesQuota { max_active: Some(5), ..QUOTA };
    let send = |time, id, counts: &[u64]| {
        hold(&budget, &quota, &Rules::default(), now(time), &request(vec![histogram(id, time, counts)]))
    };
    assert_eq!(send(2, "a", &[1, 2]).left(), ["h{a} [1, 2] Some(2.5)"]);
    assert_eq!(budget.table.active(), 4, "two buckets, sum, count");
    assert_eq!(send(2, "x", &[1, 1]).overflow().last().unwrap(), "h{otel.metric.overflow=true} [1, 1] Some(2.5)");
    assert_eq!(send(3, "y", &[0, 4]).overflow(), ["h{otel.metric.overflow=true} [1, 5] Some(5.0)"]);
}

#[test]
fn new_series_a_minute_are_limited_and_a_folded_one_gets_its_turn() {
    let budget = budget();
    let quota = SeriesQuota { max_active: None, new_per_minute: Some(2.0), ..QUOTA };
    budget.update(0, &quota);
    let send = |time, ids: &[&str], value| {
        let points = ids.iter().map(|id| point(id, Some(1), time, value)).collect();
        hold(&budget, &quota, &Rules::default(), now(time), &request(vec![sum(points)]))
    };
    assert_eq!(send(2, &["a", "b", "c"], 1.0).left(), ["c{a} 1", "c{b} 1"]);
    let later = send(32, &["c", "d"], 5.0);
    assert_eq!(later.left(), ["c{c} 5"], "half a minute, one more");
    assert_eq!(later.overflow(), ["c{otel.metric.overflow=true} 10"], "what c grew until here, and d");
    assert_eq!(send(33, &["c"], 8.0).overflow(), [""; 0]);
}

#[test]
fn series_are_told_apart_as_remote_write_will_name_them() {
    let rule = |action, regex: &str| RelabelRule {
        action,
        source_labels: vec!["id".into()],
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
    };
    let points = || vec![gauge(["a", "b", "x"].map(|id| point(id, None, 1, 1.0)).to_vec())];
    let one = Rules::compile(&[rule(RelabelAction::LabelDrop, "id")]).unwrap();
    let same = budget();
    assert_eq!(hold(&same, &QUOTA, &one, now(1), &request(points())).left().len(), 3, "three of one series");
    assert_eq!(same.table.active(), 1);
    let dropped = Rules::compile(&[rule(RelabelAction::Drop, "a|x")]).unwrap();
    let fewer = budget();
    assert_eq!(hold(&fewer, &QUOTA, &dropped, now(1), &request(points())).held.rejected, 0);
    assert_eq!(fewer.table.active(), 1, "what relabelling drops later is no series");
}

#[test]
fn the_label_that_grew_is_named() {
    let budget = budget();
    let points = (0..500).map(|id| point(&format!("user-{id}"), None, 1, 1.0)).collect();
    held(&budget, 1, vec![gauge(points)]);
    let (label, values) = budget.offending_labels().remove(0);
    assert_eq!(label, "id");
    assert!(values.abs_diff(498) < 200, "{values}");
}

#[test]
fn samples_of_an_overflow_series_never_share_a_time_or_run_away() {
    let mut overflow = {
        let budget = budget();
        held(&budget, 1, vec![sum(["a", "b", "x"].map(|id| point(id, Some(0), 1, 1.0)).to_vec())]);
        let mut folder = lock(&budget.folder);
        let id = *folder.overflows.keys().next().unwrap();
        folder.overflows.remove(&id).unwrap()
    };
    let mut times = Vec::new();
    for _ in 0..70_000 {
        let mut out = Vec::new();
        overflow.write(TENANT, "i", now(1).unix_ms(), &mut out);
        if !out.is_empty() {
            times.push(overflow.written_ms);
        }
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(times.last(), Some(&(now(61).unix_ms())), "at most a minute ahead");
}

#[test]
fn damaged_state_is_refused_not_believed() {
    let state = ActiveState::default();
    state.update(0, Some(&QUOTA), Some(&StreamQuota { max_active: 1, window_s: 60 }));
    let budget = state.series().unwrap();
    let points = ["a", "b", "x"].map(|id| point(id, Some(0), 1, 1.0)).to_vec();
    hold(&budget, &QUOTA, &Rules::default(), now(1), &request(vec![sum(points)]));
    let bytes = dump(TENANT, &state, true).unwrap();
    assert!(restore(&bytes, now(2)).is_ok());
    for length in 0..bytes.len() {
        assert!(restore(&bytes[..length], now(2)).is_err(), "cut at {length}");
    }
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x40;
        assert!(restore(&damaged, now(2)).is_err(), "flipped at {index}");
    }
}

#[test]
fn a_state_of_the_first_version_is_refused_by_name() {
    let state = ActiveState::default();
    state.update(0, Some(&QUOTA), None);
    let bytes = dump(TENANT, &state, true).unwrap();
    let mut former = bytes[..bytes.len() - 8].to_vec();
    former[8] = 1;
    former.extend(state::checksum(&former).to_le_bytes());
    assert_eq!(restore(&former, now(2)).err().unwrap(), "its version is 1; this gateway reads 2");
}

#[test]
fn a_reload_changes_limits_and_forgets_nothing_until_there_is_no_limit() {
    let state = ActiveState::default();
    state.update(0, Some(&QUOTA), None);
    let points = || request(vec![sum(["a", "b", "x"].map(|id| point(id, Some(0), 1, 1.0)).to_vec())]);
    let send = |quota: &SeriesQuota| hold(&state.series().unwrap(), quota, &Rules::default(), now(1), &points()).left();
    assert_eq!(send(&QUOTA).len(), 2);
    let less = SeriesQuota { max_active: Some(1), ..QUOTA };
    state.update(0, Some(&less), None);
    assert_eq!(send(&less), ["c{a} 1", "c{b} 1"], "what is known flows");
    let more = SeriesQuota { max_active: Some(3), ..QUOTA };
    state.update(0, Some(&more), None);
    assert_eq!(send(&more).len(), 3, "there is room");
    state.update(0, None, None);
    assert!(state.series().is_none());
}
