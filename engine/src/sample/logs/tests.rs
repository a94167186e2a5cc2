use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::prelude::*;
use prost::Message;

fn request(log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
        .encode_to_vec()
}

fn run(request: &[u8], threshold: Threshold) -> (Vec<LogRecord>, u64) {
    let mut edits = EditList::default();
    let removed = sample_logs(request, threshold, &mut edits).unwrap();
    let decoded = ExportLogsServiceRequest::decode(edits.apply(request).as_ref()).unwrap();
    let scopes = decoded.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    (scopes.flat_map(|scope| scope.log_records).collect(), removed)
}

fn published(threshold: &str) -> KeyValue {
    KeyValue {
        key: "sampling.threshold".to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(threshold.to_owned())) }),
        ..KeyValue::default()
    }
}

fn record(index: u64, trace: Option<u64>) -> LogRecord {
    LogRecord {
        time_unix_nano: index,
        trace_id: trace.map_or_else(Vec::new, |bits| [[0xab; 8], bits.to_be_bytes()].concat()),
        body: Some(AnyValue { value: Some(Value::StringValue(format!("line {}", index % 10))) }),
        ..LogRecord::default()
    }
}

const HALF: Threshold = Threshold(1 << 55);

#[test]
fn a_record_of_a_trace_goes_with_its_trace() {
    let low = run(&request(vec![record(1, Some((1 << 55) - 1)), record(2, Some((1 << 55) - 1))]), HALF);
    assert_eq!(low, (vec![], 2));
    let (kept, removed) = run(&request(vec![record(1, Some(1 << 55))]), HALF);
    assert_eq!((kept.len(), removed), (1, 0));
    assert_eq!(kept[0].attributes, vec![published("8")]);
}

#[test]
fn a_threshold_is_raised_and_never_lowered() {
    for (before, after) in [("4", "8"), ("8", "8"), ("c", "c"), ("nonsense", "8")] {
        let with = LogRecord { attributes: vec![published(before)], ..record(1, Some(u64::MAX)) };
        assert_eq!(run(&request(vec![with]), HALF).0[0].attributes, vec![published(after)], "{before}");
    }
    let passed_more = LogRecord { attributes: vec![published("c")], ..record(1, Some(1 << 55)) };
    assert_eq!(run(&request(vec![passed_more]), HALF).1, 1, "the record could not have passed what it says");
}

#[test]
fn counts_scaled_by_the_published_threshold_are_those_that_were_sent() {
    let records: Vec<LogRecord> = (0..40_000).map(|index| record(index, None)).collect();
    let request = request(records);
    for share in [0.5, 0.1, 0.01] {
        let threshold = Threshold::keeping(share);
        let (kept, removed) = run(&request, threshold);
        assert_eq!(kept.len() as u64 + removed, 40_000);
        let scaled = kept.len() as f64 / threshold.probability();
        // Four standard deviations of a binomial.
        let spread = 4.0 * (40_000.0 * (1.0 - share) / share).sqrt();
        assert!((scaled - 40_000.0).abs() < spread, "{scaled} at {share}");
    }
}

#[test]
fn a_stricter_threshold_keeps_a_part_of_what_a_milder_one_keeps() {
    let records: Vec<LogRecord> = (0..2_000).map(|index| record(index, None)).collect();
    let times = |threshold| -> Vec<u64> {
        run(&request(records.clone()), threshold).0.iter().map(|record| record.time_unix_nano).collect()
    };
    let mild = times(HALF);
    assert!(times(Threshold::keeping(0.1)).iter().all(|time| mild.contains(time)));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = sample_logs(&bytes, HALF, &mut EditList::default());
    }

    #[test]
    fn a_measured_threshold_keeps_at_most_its_share_and_hardly_less(share in 0.001f64..1.0) {
        let kept = Threshold::keeping(share).probability();
        prop_assert!(kept <= share && share - kept <= 1.0 / 65536.0 + 1e-12);
    }
}
