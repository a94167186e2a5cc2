//! What Loki needs of a PushRequest, read back by prost from messages that this file declares.

use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    any_value::Value as Any, AnyValue as Value, ArrayValue, InstrumentationScope, KeyValue as Pair, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

/// The messages of `proto/loki_push.proto`.
#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<LabelPair>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

impl Entry {
    fn nanos(&self) -> u64 {
        let timestamp = self.timestamp.as_ref().expect("Loki refuses an entry without timestamp");
        timestamp.seconds as u64 * 1_000_000_000 + timestamp.nanos as u64
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.metadata.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect()
    }
}

const TIME: u64 = 1_700_000_000_123_456_789;
const NOW: u64 = 1_800_000_000_000_000_001;

fn text(key: &str, value: &str) -> Pair {
    typed(key, Any::StringValue(value.into()))
}

fn typed(key: &str, value: Any) -> Pair {
    Pair { key: key.into(), value: given(value), ..Default::default() }
}

fn given(value: Any) -> Option<Value> {
    Some(Value { value: Some(value) })
}

fn texts(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs.iter().map(|(key, value)| text(key, value)).collect()
}

fn map(pairs: Vec<Pair>) -> Any {
    Any::KvlistValue(KeyValueList { values: pairs })
}

fn record(body: &str) -> LogRecord {
    LogRecord { time_unix_nano: TIME, body: given(Any::StringValue(body.into())), ..Default::default() }
}

fn resource_logs(resource: Vec<Pair>, log_records: Vec<LogRecord>) -> ResourceLogs {
    ResourceLogs {
        resource: Some(OtlpResource { attributes: resource, ..Default::default() }),
        scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
        ..Default::default()
    }
}

fn encoder() -> LokiEncoder {
    encoder_of(LokiEntries::default())
}

fn encoder_of(entries: LokiEntries) -> LokiEncoder {
    let label = |label: &str, attribute: &str| StreamLabel { label: label.into(), attribute: attribute.into() };
    let labels =
        [label("tenant", "tenant"), label("service", "service.name"), label("instance", "service.instance.id")];
    LokiEncoder::new(&labels, entries)
}

fn pushed(resource_logs: Vec<ResourceLogs>) -> (PushRequest, Encoded) {
    pushed_with(&encoder(), resource_logs)
}

/// What is pushed for tenant acme, checked to be what Loki takes, and counted as it is.
fn pushed_with(encoder: &LokiEncoder, resource_logs: Vec<ResourceLogs>) -> (PushRequest, Encoded) {
    let bytes = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    crate::otlp::walk::validate(crate::otlp::Signal::Logs, &bytes).expect("the encoder is only given valid requests");
    let mut out = Vec::new();
    let encoded = encoder.encode(&bytes, "acme", NOW, None, &mut out).unwrap();
    let push = PushRequest::decode(out.as_slice()).unwrap();
    for stream in &push.streams {
        assert!(stream.labels.starts_with('{') && stream.labels.ends_with("\"}"), "{}", stream.labels);
        assert!(stream.entries.is_sorted_by_key(Entry::nanos), "{stream:?}");
        for entry in &stream.entries {
            let mut names: Vec<&str> = entry.pairs().iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "each name once: {entry:?}");
            assert!(entry.pairs().iter().all(|(name, value)| is_word(name) && !value.is_empty()), "{entry:?}");
        }
    }
    let lines: usize = push.streams.iter().map(|stream| stream.entries.len()).sum();
    let dropped: u64 = encoded.dropped.iter().map(|(_, items)| items).sum();
    assert_eq!(encoded.items - dropped, lines as u64, "the ledger is told what is written");
    (push, encoded)
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The one entry of a record that comes alone.
fn entry_of(record: LogRecord) -> Entry {
    let (mut push, _) = pushed(vec![resource_logs(vec![], vec![record])]);
    push.streams.remove(0).entries.remove(0)
}

#[test]
fn stream_labels_are_few_sorted_and_quoted() {
    for (resource, expected) in [
        (vec![], r#"{tenant="acme"}"#),
        (texts(&[("service.name", "shop"), ("cloud.region", "eu")]), r#"{service="shop", tenant="acme"}"#),
        (
            vec![text("service.name", "shop"), typed("service.instance.id", Any::IntValue(7))],
            r#"{instance="7", service="shop", tenant="acme"}"#,
        ),
        (texts(&[("service.name", "")]), r#"{tenant="acme"}"#),
        (texts(&[("tenant", "globex")]), r#"{tenant="acme"}"#),
        (texts(&[("service.name", "a\"b\\c\n\r\t\u{1}é")]), r#"{service="a\"b\\c\n\r\t\u0001é", tenant="acme"}"#),
    ] {
        let (push, _) = pushed(vec![resource_logs(resource.clone(), vec![record("hi")])]);
        assert_eq!(push.streams[0].labels, expected, "{resource:?}");
    }
    let (push, _) =
        pushed_with(&LokiEncoder::new(&[], LokiEntries::default()), vec![resource_logs(vec![], vec![record("hi")])]);
    assert_eq!(push.streams[0].labels, r#"{service="unknown_service"}"#, "Loki refuses a stream without labels");
    assert_eq!(push.streams[0].entries[0].pairs(), [("tenant", "acme")], "said here if no label says it");
}

#[test]
fn each_resource_is_a_stream_with_its_scopes_and_an_empty_one_is_none() {
    let mut two_scopes = resource_logs(texts(&[("service.name", "a")]), vec![record("1")]);
    two_scopes.scope_logs.push(ScopeLogs { log_records: vec![record("2")], ..Default::default() });
    let (push, encoded) = pushed(vec![
        two_scopes,
        resource_logs(texts(&[("service.name", "empty")]), vec![]),
        resource_logs(texts(&[("service.name", "b")]), vec![record("3")]),
    ]);
    let lines = |stream: &Stream| stream.entries.iter().map(|entry| entry.line.clone()).collect::<Vec<_>>();
    assert_eq!(push.streams.iter().map(lines).collect::<Vec<_>>(), [vec!["1", "2"], vec!["3"]]);
    assert_eq!(encoded, Encoded { items: 3, ..Encoded::default() });
}

#[test]
fn the_line_is_the_body_whatever_its_type() {
    let list =
        ArrayValue { values: vec![given(Any::IntValue(1)).unwrap(), given(Any::StringValue("x".into())).unwrap()] };
    for (body, expected) in [
        (given(Any::StringValue("two\nlines \"é\"".into())), "two\nlines \"é\""),
        (given(Any::StringValue(String::new())), ""),
        (given(Any::BoolValue(false)), "false"),
        (given(Any::IntValue(-7)), "-7"),
        (given(Any::DoubleValue(0.5)), "0.5"),
        (given(Any::BytesValue(vec![255, 0])), "/wA="),
        (given(Any::ArrayValue(list)), r#"[1,"x"]"#),
        (given(map(vec![text("a", "b"), typed("c", map(vec![]))])), r#"{"a":"b","c":{}}"#),
        (Some(Value { value: None }), "checkout.done"),
        (None, "checkout.done"),
    ] {
        let entry = entry_of(LogRecord { body: body.clone(), event_name: "checkout.done".into(), ..record("") });
        assert_eq!(entry.line, expected, "{body:?}");
    }
}

#[test]
fn the_timestamp_is_the_first_that_is_known() {
    for (time, observed, expected, also) in [
        (TIME, 0, TIME, None),
        (TIME, TIME + 5, TIME, Some("1700000000123456794")),
        (TIME, TIME, TIME, None),
        (0, TIME + 5, TIME + 5, None),
        (0, 0, NOW, None),
    ] {
        let record = LogRecord { time_unix_nano: time, observed_time_unix_nano: observed, ..record("hi") };
        let entry = entry_of(record);
        let observed_later = entry.pairs().into_iter().find(|(name, _)| *name == "observed_timestamp");
        assert_eq!((entry.nanos(), observed_later.map(|(_, value)| value)), (expected, also));
    }
}

#[test]
fn the_fields_of_a_record_are_metadata() {
    let entry = entry_of(LogRecord {
        severity_number: 17,
        severity_text: "ERROR".into(),
        trace_id: (0xf0..=0xff).collect(),
        span_id: (0..8).collect(),
        flags: 1,
        event_name: "checkout".into(),
        ..record("hi")
    });
    let expected = [
        ("trace_id", "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"),
        ("span_id", "0001020304050607"),
        ("severity_text", "ERROR"),
        ("severity_number", "17"),
        ("flags", "1"),
        ("event_name", "checkout"),
    ];
    assert_eq!(entry.pairs(), expected);
    assert_eq!(entry_of(record("hi")).pairs(), []);
}

#[test]
fn attributes_are_metadata_and_maps_are_flat() {
    let inner = map(vec![text("id", "7"), typed("deep", map(vec![typed("n", Any::IntValue(1))]))]);
    let attributes = vec![
        text("http.route", "/"),
        typed("user", inner),
        typed("list", Any::ArrayValue(ArrayValue { values: vec![given(Any::BoolValue(true)).unwrap()] })),
        text("1st", "x"),
        text("é", "kept"),
        text("empty", ""),
        typed("nothing", map(vec![])),
    ];
    let expected = [
        ("http_route", "/"),
        ("user_id", "7"),
        ("user_deep_n", "1"),
        ("list", "[true]"),
        ("key_1st", "x"),
        ("key_", "kept"),
    ];
    assert_eq!(entry_of(LogRecord { attributes, ..record("hi") }).pairs(), expected);
}

#[test]
fn scope_and_resource_are_metadata_and_the_nearest_name_wins_and_is_counted() {
    let mut logs = resource_logs(
        texts(&[("service.name", "shop"), ("host.name", "h1"), ("host_name", "h2"), ("zone", "far")]),
        vec![LogRecord { attributes: texts(&[("zone", "near"), ("zone", "again")]), ..record("hi") }],
    );
    logs.scope_logs[0].scope = Some(InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: texts(&[("zone", "middle"), ("side", "b")]),
        ..Default::default()
    });
    let (push, encoded) = pushed(vec![logs]);
    let expected =
        [("zone", "near"), ("scope_name", "lib"), ("scope_version", "1.2"), ("side", "b"), ("host_name", "h1")];
    assert_eq!(push.streams[0].entries[0].pairs(), expected);
    assert_eq!(encoded.label_collisions, 4, "zone three times, host_name once");
}

#[test]
fn an_attribute_gives_way_to_a_field_only_if_the_record_has_that_field() {
    let attributes = || texts(&[("trace_id", "mine"), ("severity_text", "mine"), ("event.name", "mine")]);
    let (push, encoded) = pushed(vec![resource_logs(
        texts(&[("flags", "of the resource")]),
        vec![
            LogRecord { attributes: attributes(), ..record("hi") },
            LogRecord {
                attributes: attributes(),
                trace_id: vec![1; 16],
                severity_text: "WARN".into(),
                event_name: "e".into(),
                flags: 1,
                ..record("hi")
            },
        ],
    )]);
    let [without, with] = push.streams[0].entries.as_slice() else { panic!("two entries") };
    let expected =
        [("trace_id", "mine"), ("severity_text", "mine"), ("event_name", "mine"), ("flags", "of the resource")];
    assert_eq!(without.pairs(), expected);
    let trace = "01".repeat(16);
    let expected = [("trace_id", trace.as_str()), ("severity_text", "WARN"), ("flags", "1"), ("event_name", "e")];
    assert_eq!(with.pairs(), expected);
    assert_eq!(encoded.label_collisions, 4);
}

#[test]
fn a_record_or_scope_cannot_claim_another_tenant() {
    let claiming = |value: &str| LogRecord { attributes: texts(&[("tenant", value), ("n", "1")]), ..record("hi") };
    let mut logs = resource_logs(vec![], vec![claiming("globex"), claiming("acme"), record("none")]);
    let pairs = |push: &PushRequest| -> Vec<Vec<(String, String)>> {
        let entries = push.streams[0].entries.iter();
        entries.map(|e| e.pairs().iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()).collect()
    };
    let n = || vec![("n".to_owned(), "1".to_owned())];
    let (push, encoded) = pushed(vec![logs.clone()]);
    assert_eq!(pairs(&push), [n(), n(), vec![]]);
    assert_eq!((encoded.tenant_claims, encoded.label_collisions), (1, 0));

    let attributes = texts(&[("tenant", "globex")]);
    logs.scope_logs[0].scope = Some(InstrumentationScope { attributes, ..Default::default() });
    let (push, encoded) = pushed(vec![logs]);
    assert_eq!(pairs(&push), [n(), n(), vec![]]);
    assert_eq!(encoded.tenant_claims, 3, "every record of the scope claims, one of them twice");
}

#[test]
fn the_entries_of_a_stream_are_in_order_of_time() {
    let at = |offset: u64, body: &str| LogRecord { time_unix_nano: TIME + offset, ..record(body) };
    let records = vec![at(2, "c"), at(0, "a"), at(2, "d"), at(1, "b")];
    let (push, _) = pushed(vec![resource_logs(vec![], records)]);
    let lines: Vec<&str> = push.streams[0].entries.iter().map(|entry| entry.line.as_str()).collect();
    assert_eq!(lines, ["a", "b", "c", "d"], "records of one instant stay in their order");
}

fn attributes() -> impl Strategy<Value = Vec<Pair>> {
    let key = prop_oneof![
        "[a-c]([._][a-c])?",
        "trace_id|severity_text|tenant|scope_name|service\\.name",
        "[_.]{0,3}",
        ".{0,5}",
    ];
    let leaf = prop_oneof![".{0,4}".prop_map(Any::StringValue), any::<f64>().prop_map(Any::DoubleValue)];
    let value = leaf.prop_recursive(3, 8, 3, |inner| {
        vec(("[a-c._]{0,2}", inner), 0..3)
            .prop_map(|members| map(members.into_iter().map(|(key, value)| typed(&key, value)).collect()))
    });
    vec((key, value).prop_map(|(key, value)| typed(&key, value)), 0..5)
}

fn requests() -> impl Strategy<Value = Vec<ResourceLogs>> {
    let id = |length| prop_oneof![Just(vec![]), vec![any::<u8>(); length]];
    let record = (any::<u64>(), any::<i32>(), attributes(), id(16), id(8), any::<u32>(), ".{0,4}").prop_map(
        |(time_unix_nano, severity_number, attributes, trace_id, span_id, flags, event_name)| LogRecord {
            time_unix_nano,
            severity_number,
            attributes,
            trace_id,
            span_id,
            flags,
            event_name,
            ..Default::default()
        },
    );
    let entry = (attributes(), attributes(), vec(record, 0..4)).prop_map(|(resource, scope, records)| {
        let mut logs = resource_logs(resource, records);
        logs.scope_logs[0].scope = Some(InstrumentationScope { attributes: scope, ..Default::default() });
        logs
    });
    vec(entry, 0..3)
}

proptest! {
    /// [`pushed_with`] checks every stream and entry, and the count.
    #[test]
    fn every_stream_is_well_formed_and_counted(input in requests()) {
        pushed(input);
    }

    #[test]
    fn bytes_that_are_no_request_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        // An error or not: that it comes back is what counts.
        let _ = encoder().encode(&bytes, "acme", NOW, None, &mut Vec::new());
    }

    #[test]
    fn a_request_cut_short_or_changed_does_no_harm(input in requests(), at: prop::sample::Index, byte: u8) {
        let mut bytes = ExportLogsServiceRequest { resource_logs: input }.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = encoder().encode(&bytes, "acme", NOW, None, &mut Vec::new());
            let _ = encoder().encode(&bytes[..at], "acme", NOW, None, &mut Vec::new());
        }
    }

    /// The names that are made once give what looking at each pair gives.
    #[test]
    fn names_made_once_give_what_pairs_one_by_one_give(
        records in vec(vec((0usize..6, 0usize..4), 0..4), 1..6),
        scope in vec(0usize..6, 0..3),
    ) {
        const KEYS: [&str; 6] = ["a.b", "a_b", "scope", "host", TENANT, "trace_id"];
        let value = |kind: usize| match kind {
            0 => Any::StringValue("x".repeat(kind + 1)),
            1 => Any::StringValue(String::new()),
            2 => Any::IntValue(42),
            _ => Any::KvlistValue(KeyValueList { values: vec![text("c", "d")] }),
        };
        let pairs = |keys: &[usize]| {
            let mut metadata = Metadata::default();
            metadata.pairs.extend(keys.iter().map(|&key| (metadata::attribute_name(KEYS[key].as_bytes()), "v".into())));
            metadata
        };
        let (scope, metadata) = (pairs(&scope), pairs(&[3]));
        let resource = Resource {
            labels: String::new(),
            pairs: Vec::new(),
            metadata,
            service: "".into(),
            tenant: "acme",
            tenant_is_label: true,
        };
        let limits = LokiEntries::default();
        let around = Surroundings::new(&scope, &resource, limits);
        let mut one_by_one = Surroundings::new(&scope, &resource, limits);
        one_by_one.special = true;
        let records: Vec<Vec<u8>> = records
            .iter()
            .map(|attributes| LogRecord {
                attributes: attributes.iter().map(|&(key, kind)| typed(KEYS[key], value(kind))).collect(),
                trace_id: vec![1; 16],
                ..Default::default()
            })
            .map(|record| record.encode_to_vec())
            .collect();
        let (mut names, mut record) = (AttributeNames::default(), Record::default());
        for bytes in &records {
            record.read(Reader::new(bytes)).unwrap();
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            let (mut encoded, mut expected_encoded) = (Encoded::default(), Encoded::default());
            record.put(TIME, b"", None, &around, &mut names, &mut out, &mut encoded).unwrap();
            let mut no_names = AttributeNames::default();
            record
                .put(TIME, b"", None, &one_by_one, &mut no_names, &mut expected, &mut expected_encoded)
                .unwrap();
            prop_assert_eq!(Entry::decode(&out[..]).unwrap(), Entry::decode(&expected[..]).unwrap());
            prop_assert_eq!(encoded, expected_encoded);
        }
    }
}

#[path = "overflow_tests.rs"]
mod overflow;

#[path = "merge_tests.rs"]
mod merged;

#[path = "limit_tests.rs"]
mod limits;

#[path = "log_form_tests.rs"]
mod log_form;
