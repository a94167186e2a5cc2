//! Masking as a tenant sees it: requests in, requests out.

use super::*;
use crate::policy::Detector;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use proptest::prelude::*;

fn masker(action: MaskAction) -> Masker {
    Masker::compile(&policy::Mask {
        keys: vec!["password".into(), "*_token".into()],
        detectors: vec![Detector::Email, Detector::CreditCard],
        action,
    })
    .unwrap()
}

fn request(body: Option<Value>, attributes: Vec<KeyValue>) -> ExportLogsServiceRequest {
    let record = LogRecord { body: body.map(|value| AnyValue { value: Some(value) }), attributes, ..Default::default() };
    let scope = ScopeLogs { log_records: vec![record], ..Default::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..Default::default() }],
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.into())
}

fn masked_with(action: MaskAction, request: &ExportLogsServiceRequest) -> (LogRecord, MaskCounts) {
    let bytes = request.encode_to_vec();
    let (mut edits, mut counts) = (EditList::default(), MaskCounts::default());
    check_and_mask(Signal::Logs, &bytes, Some(&masker(action)), &mut edits, &mut counts).unwrap();
    let output = ExportLogsServiceRequest::decode(edits.apply(&bytes).as_ref()).unwrap();
    (output.resource_logs[0].scope_logs[0].log_records[0].clone(), counts)
}

fn masked_body(body: &str) -> String {
    let (record, _) = masked_with(MaskAction::Redact, &request(Some(text(body)), vec![]));
    match record.body.unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_lose_their_secrets_and_keep_the_rest() {
    for (body, expected) in [
        ("charged jane.doe@example.com on 4111 1111 1111 1111", "charged [email] on [credit_card]"),
        ("nothing here", "nothing here"),
        (r#"{"user": "bob", "password": "hunter2", "n": 1}"#, r#"{"user": "bob", "password": "[redacted]", "n": 1}"#),
        (r#"{"password":"a\"b\\","x":"y"}"#, r#"{"password":"[redacted]","x":"y"}"#),
        (r#"{"api_token": 12345}"#, r#"{"api_token": "[redacted]"}"#),
        (r#"{"password": {"a": ["}", 1]}, "b": 2}"#, r#"{"password": "[redacted]", "b": 2}"#),
        (r#"req body {"password": "cut of"#, r#"req body {"password": "[redacted]"#),
        (r#"{"m": "{\"password\": \"hunter2\", \"k\": 1}"}"#, r#"{"m": "{\"password\": \"[redacted]\", \"k\": 1}"}"#),
        (r#"{"m": "{\"password\": 77, \"k\": 1}"}"#, r#"{"m": "{\"password\": \"[redacted]\", \"k\": 1}"}"#),
        (r#"{"password":""}"#, r#"{"password":"[redacted]"}"#),
        (r#"{"card": 4111111111111111}"#, r#"{"card": "[credit_card]"}"#),
        (r#"say "hi" to "password" now"#, r#"say "hi" to "password" now"#),
    ] {
        assert_eq!(masked_body(body), expected, "{body}");
    }
}

#[test]
fn values_of_sensitive_keys_go_whatever_their_type_and_depth() {
    let nested = Value::KvlistValue(KeyValueList {
        values: vec![pair("PASSWORD", Value::BoolValue(true)), pair("kept", Value::IntValue(1))],
    });
    let input = request(None, vec![pair("auth_token", Value::DoubleValue(1.5)), pair("deep", nested)]);
    let redacted = || text("[redacted]");
    let (record, counts) = masked_with(MaskAction::Redact, &input);
    let expected = Value::KvlistValue(KeyValueList {
        values: vec![pair("PASSWORD", redacted()), pair("kept", Value::IntValue(1))],
    });
    assert_eq!(record.attributes, vec![pair("auth_token", redacted()), pair("deep", expected)]);
    assert_eq!(counts, MaskCounts { key: 2, ..Default::default() });
    let (record, _) = masked_with(MaskAction::Remove, &input);
    let expected = Value::KvlistValue(KeyValueList { values: vec![pair("kept", Value::IntValue(1))] });
    assert_eq!(record.attributes, vec![pair("deep", expected)]);
}

#[test]
fn numbers_bytes_and_keys_are_looked_at_too() {
    let input = request(
        None,
        vec![
            pair("n", Value::IntValue(4_111_111_111_111_111)),
            pair("b", Value::BytesValue(b"\xff jane@example.com \xff".to_vec())),
            pair("of jane@example.com", Value::IntValue(1)),
            pair("list", Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text("x@y.io")) }] })),
        ],
    );
    let (record, counts) = masked_with(MaskAction::Redact, &input);
    let list = Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text("[email]")) }] });
    let expected = vec![
        pair("n", text("[credit_card]")),
        pair("b", Value::BytesValue(b"\xff [email] \xff".to_vec())),
        pair("of [email]", Value::IntValue(1)),
        pair("list", list),
    ];
    assert_eq!(record.attributes, expected);
    assert_eq!(counts, MaskCounts { email: 3, credit_card: 1, key: 0 });
}

#[test]
fn a_clean_request_has_no_edits() {
    let bytes = request(Some(text("GET /index.html 200 in 12ms id 550e8400-e29b-41d4-a716-446655440000")), vec![]).encode_to_vec();
    let (mut edits, mut counts) = (EditList::default(), MaskCounts::default());
    check_and_mask(Signal::Logs, &bytes, Some(&masker(MaskAction::Redact)), &mut edits, &mut counts).unwrap();
    assert!(edits.is_empty());
}

#[test]
fn pathological_texts_take_linear_time() {
    for unit in ["@", "4", "4 ", "{", "\"", "\\\"", "\"password\":{", "a@", "4111 ", "[\"password\""] {
        let body = unit.repeat((1 << 20) / unit.len());
        let started = std::time::Instant::now();
        masked_body(&body);
        assert!(started.elapsed().as_secs() < 5, "{unit:?} took {:?}", started.elapsed());
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[ -~]{0,40}".prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        (-1000i64..1000).prop_map(Value::IntValue),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::BytesValue),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let value = inner.prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            proptest::collection::vec(value.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            proptest::collection::vec(("[a-z._]{0,8}", value), 0..4).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| KeyValue { key, value: Some(value), ..Default::default() });
                Value::KvlistValue(KeyValueList { values: values.collect() })
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_planted_secret_never_stays_wherever_it_is(
        outer in proptest::collection::vec(("[a-z]{1,6}", any_value()), 0..5),
        before in "[ -~]{0,20}[ \"(,]",
        after in "[ ,;)\"][ -~]{0,20}",
    ) {
        let secret = format!("{before}planted.secret@example.com{after}");
        let mut attributes: Vec<_> = outer.into_iter().map(|(key, value)| pair(&key, value)).collect();
        attributes.push(pair("plain", text(&secret)));
        attributes.push(pair("list", Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text(&secret)) }] })));
        let (record, _) = masked_with(MaskAction::Redact, &request(Some(text(&secret)), attributes));
        prop_assert!(!String::from_utf8_lossy(&record.encode_to_vec()).contains("planted.secret"));
    }

    #[test]
    fn random_and_truncated_bytes_are_answered_not_panicked_on(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let valid = request(Some(text("a@b.cd")), vec![pair("password", text("x"))]).encode_to_vec();
        for input in [&bytes[..], &valid[..cut.min(valid.len())]] {
            for signal in Signal::ALL {
                let (mut edits, mut counts) = (EditList::default(), MaskCounts::default());
                let checked = check_and_mask(signal, input, Some(&masker(MaskAction::Redact)), &mut edits, &mut counts);
                let (mut none, mut nothing) = (EditList::default(), MaskCounts::default());
                let validated = check_and_mask(signal, input, None, &mut none, &mut nothing);
                prop_assert_eq!(checked.is_ok(), validated.is_ok());
                prop_assert!(none.is_empty());
            }
        }
    }
}
