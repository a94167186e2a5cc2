use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    metric::Data, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use proptest::prelude::*;
use prost::Message;

use crate::otlp::count_items;

/// Records by resource and scope, numbered through.
fn logs(shape: &[Vec<usize>]) -> ExportLogsServiceRequest {
    let mut number = 0;
    let mut record = || {
        number += 1;
        LogRecord { time_unix_nano: number, ..LogRecord::default() }
    };
    let resource_logs = shape.iter().map(|scopes| ResourceLogs {
        scope_logs: scopes
            .iter()
            .map(|&records| ScopeLogs { log_records: (0..records).map(|_| record()).collect(), ..ScopeLogs::default() })
            .collect(),
        ..ResourceLogs::default()
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

/// Points by scope and metric, gauges and sums in turn.
fn metrics(shape: &[Vec<usize>]) -> ExportMetricsServiceRequest {
    let mut number = 0;
    let mut metric = |points: usize| {
        let data_points = (0..points)
            .map(|_| {
                number += 1;
                NumberDataPoint { time_unix_nano: number, ..NumberDataPoint::default() }
            })
            .collect();
        let data = match points % 2 {
            0 => Data::Gauge(Gauge { data_points }),
            _ => Data::Sum(Sum { data_points, ..Sum::default() }),
        };
        Metric { name: "m".to_owned(), data: Some(data), ..Metric::default() }
    };
    let scopes = shape.iter().map(|points| ScopeMetrics {
        metrics: points.iter().map(|&points| metric(points)).collect(),
        ..ScopeMetrics::default()
    });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics: scopes.collect(), ..ResourceMetrics::default() }],
    }
}

fn record_times(request: &[u8]) -> Vec<u64> {
    let request = ExportLogsServiceRequest::decode(request).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| record.time_unix_nano).collect()
}

fn point_times(request: &[u8]) -> Vec<u64> {
    let request = ExportMetricsServiceRequest::decode(request).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics);
    let points = metrics.flat_map(|metric| match metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points,
        Some(Data::Sum(sum)) => sum.data_points,
        _ => Vec::new(),
    });
    points.map(|point| point.time_unix_nano).collect()
}

#[test]
fn messages_that_lose_all_their_items_go_and_those_that_had_none_stay() {
    let request = logs(&[vec![0, 2], vec![3], vec![1]]).encode_to_vec();
    let mut edits = EditList::default();
    assert_eq!(keep_first(Signal::Logs, &request, 2, &mut edits), Ok(4));
    let mut expected = logs(&[vec![0, 2]]);
    assert_eq!(edits.apply(&request).into_owned(), expected.encode_to_vec());
    edits.clear();
    assert_eq!(keep_first(Signal::Logs, &request, 0, &mut edits), Ok(6));
    expected.resource_logs.clear();
    assert_eq!(ExportLogsServiceRequest::decode(edits.apply(&request).as_ref()).unwrap(), expected);
}

proptest! {
    #[test]
    fn the_first_items_stay_in_order(
        shape in proptest::collection::vec(proptest::collection::vec(0usize..5, 0..4), 0..4), keep in 0u64..40
    ) {
        for (signal, request) in
            [(Signal::Logs, logs(&shape).encode_to_vec()), (Signal::Metrics, metrics(&shape).encode_to_vec())]
        {
            let all = count_items(signal, &request).unwrap();
            let mut edits = EditList::default();
            let removed = keep_first(signal, &request, keep, &mut edits).unwrap();
            let kept = edits.apply(&request);
            prop_assert_eq!(removed, all.saturating_sub(keep));
            prop_assert_eq!(count_items(signal, &kept).unwrap(), all.min(keep));
            let times = if signal == Signal::Logs { record_times(&kept) } else { point_times(&kept) };
            prop_assert_eq!(times, (1..=all.min(keep)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_prefix_is_the_longest_that_fits(
        shape in proptest::collection::vec(proptest::collection::vec(0usize..5, 0..4), 0..4),
        max_items in 0u64..30, max_bytes in 0u64..400
    ) {
        let request = metrics(&shape).encode_to_vec();
        let all = count_items(Signal::Metrics, &request).unwrap();
        let prefix = prefix_within(Signal::Metrics, &request, max_items, max_bytes).unwrap();
        prop_assert!(prefix.items <= max_items.min(all) && prefix.bytes <= max_bytes);
        let one_more = prefix_within(Signal::Metrics, &request, prefix.items + 1, u64::MAX).unwrap();
        prop_assert!(prefix.items == all.min(max_items) || one_more.bytes > max_bytes);
        if all > 0 && all <= max_items && request.len() as u64 <= max_bytes {
            prop_assert_eq!(prefix.bytes, request.len() as u64);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for signal in Signal::ALL {
            let _ = keep_first(signal, &bytes, 1, &mut EditList::default());
            let _ = prefix_within(signal, &bytes, 3, 100);
        }
    }
}
