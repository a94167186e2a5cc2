//! The promise as a property: what is delivered under own names and what the overflow series grew is what was counted.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::Sum;
use proptest::prelude::*;

use super::tests::{hold, now, point, request, sum, BEGIN_S, QUOTA, SECOND, TENANT};
use super::*;
use crate::relabel::Rules;

/// One series as its application counts.
#[derive(Debug, Clone, Copy)]
struct Client {
    start_s: u64,
    value: u32,
    sent_s: u64,
}

/// One step of a day: which series counts, how much, after which pause, and what else happens.
#[derive(Debug, Clone, Copy)]
struct Step {
    series: usize,
    grows: u32,
    pause_s: u64,
    client_restarts: bool,
    gateway: Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gateway {
    Runs,
    /// Stops in order and starts again.
    Restarts,
    /// Is killed; what it last saved is all there is.
    Crashes,
}

fn step(crashes: bool) -> impl Strategy<Value = Step> {
    let gateway = prop_oneof![
        20 => Just(Gateway::Runs),
        1 => Just(Gateway::Restarts),
        1 => Just(if crashes { Gateway::Crashes } else { Gateway::Restarts }),
    ];
    let pause = prop_oneof![10 => 1u64..120, 1 => 3000u64..5000];
    (0usize..12, 0u32..50, pause, prop::bool::weighted(0.1), gateway).prop_map(
        |(series, grows, pause_s, client_restarts, gateway)| Step { series, grows, pause_s, client_restarts, gateway },
    )
}

/// What a backend that knows start times counts: the increase of each series that it got.
#[derive(Default)]
struct Backend {
    /// By id or, for overflow series, by instance: start, last value.
    series: HashMap<String, (u64, f64)>,
    increase: f64,
}

impl Backend {
    fn take(&mut self, id: &str, start_ns: u64, value: f64, from_zero: bool) {
        let before = match self.series.get(id) {
            Some((start, last)) if *start == start_ns => *last,
            _ if from_zero => 0.0,
            _ => value,
        };
        assert!(value >= before, "{id} fell from {before} to {value}");
        self.increase += value - before;
        self.series.insert(id.to_owned(), (start_ns, value));
    }
}

/// Value and start of the counters in a request, with the instance of their resource.
fn counters(request: &ExportMetricsServiceRequest) -> Vec<(String, u64, f64)> {
    let mut counters = Vec::new();
    for resource in &request.resource_metrics {
        let instance = format!("{:?}", resource.resource);
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Sum(Sum { data_points, .. })) = &metric.data else { panic!("{metric:?}") };
            for point in data_points {
                let Some(Number::AsDouble(value)) = point.value else { panic!("{point:?}") };
                counters.push((instance.clone(), point.start_time_unix_nano, value));
            }
        }
    }
    counters
}

struct Day {
    counted: f64,
    delivered: f64,
    folded: u64,
}

fn run(steps: &[Step], max_active: u64) -> Day {
    let quota = SeriesQuota { max_active: Some(max_active), max_folded: 100, ..QUOTA };
    let mut state = ActiveState::default();
    state.series.store(Some(Arc::new(SeriesBudget::new(now(0)))));
    let mut saved = dump(TENANT, &state, false).unwrap();
    let mut clients: HashMap<usize, Client> = HashMap::new();
    // Series whose last point, and start, went into an overflow series.
    let mut folded: HashMap<usize, u64> = HashMap::new();
    let (mut backend, mut counted, mut points_folded, mut time_s) = (Backend::default(), 0.0, 0, 1);
    for (index, step) in steps.iter().enumerate() {
        time_s += step.pause_s;
        if step.gateway != Gateway::Runs {
            let bytes = match step.gateway {
                Gateway::Crashes => saved.clone(),
                _ => dump(TENANT, &state, true).unwrap(),
            };
            state = restore(&bytes, now(time_s)).unwrap().1;
        }
        let fresh = Client { start_s: time_s, value: 0, sent_s: time_s };
        let client = clients.entry(step.series).or_insert(fresh);
        // Whoever was silent for a window comes back as a new process: else nobody could know what it counted meanwhile.
        if step.client_restarts || time_s - client.sent_s > u64::from(QUOTA.window_s) {
            *client = fresh;
        }
        client.value += step.grows;
        client.sent_s = time_s;
        counted += f64::from(step.grows);
        let budget = state.series().unwrap();
        let id = step.series.to_string();
        let sent = request(vec![sum(vec![point(&id, Some(client.start_s), time_s, f64::from(client.value))])]);
        let outcome = hold(&budget, &quota, &Rules::default(), now(time_s), &sent);
        for (_, start, value) in counters(&outcome.left) {
            // What was folded until here is in the overflow series: the increase over that gap is not the series' own.
            let after_gap = folded.remove(&step.series) == Some(start);
            if after_gap {
                backend.series.remove(&id);
            }
            backend.take(&id, start, value, !after_gap);
        }
        for (instance, start, value) in counters(&outcome.overflow) {
            backend.take(&instance, start, value, false);
        }
        if outcome.left().is_empty() {
            points_folded += 1;
            folded.insert(step.series, (BEGIN_S + client.start_s) * SECOND);
        }
        if index % 7 == 0 {
            saved = dump(TENANT, &state, false).unwrap();
        }
    }
    Day { counted, delivered: backend.increase, folded: points_folded }
}

proptest! {
    #[test]
    fn kept_and_overflow_together_are_what_was_counted(
        steps in prop::collection::vec(step(false), 1..150), max_active in 0u64..8
    ) {
        let day = run(&steps, max_active);
        prop_assert_eq!(day.delivered, day.counted);
        prop_assert!(max_active > 0 || day.folded == steps.len() as u64);
    }

    #[test]
    fn after_a_crash_nothing_is_counted_twice(
        steps in prop::collection::vec(step(true), 1..150), max_active in 0u64..8
    ) {
        let day = run(&steps, max_active);
        prop_assert!(day.delivered <= day.counted, "{} of {}", day.delivered, day.counted);
    }
}
