mod caches;
mod dropping;
mod json_values;
mod keys_and_services;
mod mutation;
mod random;
mod rule_order;
mod rules;
mod time;

use self::random::Random;
use super::*;
use crate::otlp::wire::{put_bytes_field, put_message_field};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::prelude::*;
use prost::Message;

const KEYS: [&str; 2] = ["password", "*token*"];

/// Keys and two detectors, as the simple form of the configuration has them.
fn policy(action: MaskAction) -> policy::Mask {
    let rule = |name: &str, find| policy::MaskRule { name: name.to_owned(), find, action };
    policy::Mask {
        rules: vec![
            rule("keys", Find::Keys(KEYS.map(String::from).to_vec())),
            rule("detectors", Find::Detectors(["email", "credit_card"].map(String::from).to_vec())),
        ],
        allow_keys: Vec::new(),
        allow_services: Vec::new(),
        budget: MaskBudget::default(),
        dry_run: false,
        pseudonym_key: None,
    }
}

/// A request after masking, and what masking says of it.
fn mask_by(policy: &policy::Mask, signal: Signal, request: &[u8]) -> (Vec<u8>, Masked) {
    let masker = Masker::compile(policy).unwrap();
    let key = PseudonymKey::new(1, &[7; 32]);
    let mut edits = EditList::default();
    let masked = check_and_mask(signal, request, Some(&masker), key.as_ref(), &mut edits, None).unwrap();
    (edits.apply(request).into_owned(), masked)
}

fn mask(signal: Signal, request: &[u8], action: MaskAction) -> (Vec<u8>, MaskCounts) {
    let (bytes, masked) = mask_by(&policy(action), signal, request);
    (bytes, masked.counts)
}

fn rule(name: &str, find: Find, action: MaskAction) -> policy::MaskRule {
    policy::MaskRule { name: name.to_owned(), find, action }
}

fn keys(keys: &[&str]) -> Find {
    Find::Keys(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn detectors(names: &[&str]) -> Find {
    Find::Detectors(names.iter().map(|name| (*name).to_owned()).collect())
}

fn policy_of(rules: Vec<policy::MaskRule>) -> policy::Mask {
    policy::Mask { rules, pseudonym_key: Some("main".to_owned()), ..policy(MaskAction::Redact) }
}

/// Every detector there is, a regex, a list of words, and keys.
fn everything(action: MaskAction) -> policy::Mask {
    let words = ["Project Blue", "acme-internal"].map(String::from).to_vec();
    policy_of(vec![
        rule("keys", keys(&["password", "*token*", "authorization"]), action),
        rule("detectors", detectors(&detectors::names().collect::<Vec<_>>()), action),
        rule("passports", Find::Passports(vec!["US".to_owned(), "DE".to_owned()]), action),
        rule("ticket", Find::Regex(r"TICKET-\d+".to_owned()), action),
        rule("words", Find::Literals { values: words, ignore_case: true }, action),
    ])
}

fn wrap(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(wrap(value)), ..KeyValue::default() }
}

fn log(record: LogRecord) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn mask_body(body: Value, action: MaskAction) -> (Option<Value>, MaskCounts) {
    let (bytes, counts) =
        mask(Signal::Logs, &log(LogRecord { body: Some(wrap(body)), ..LogRecord::default() }), action);
    let decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    (decoded.resource_logs[0].scope_logs[0].log_records[0].body.clone().and_then(|body| body.value), counts)
}

fn mask_attributes(attributes: Vec<KeyValue>, action: MaskAction) -> Vec<KeyValue> {
    let (bytes, _) = mask(Signal::Logs, &log(LogRecord { attributes, ..LogRecord::default() }), action);
    let decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    decoded.resource_logs[0].scope_logs[0].log_records[0].attributes.clone()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn texts_are_redacted_or_cut() {
    for (before, redacted, removed) in [
        ("bob@example.com paid", "[email] paid", " paid"),
        ("a@b.co 4111-1111-1111-1111 c@d.org", "[email] [credit_card] [email]", "  "),
        ("4111111111111111@example.com", "[email]", ""),
        (r#"{"password":"x","n":4111111111111111}"#, r#"{"password":"[redacted]","n":"[credit_card]"}"#, r#"{"n":""}"#),
        (r#"{"password":"bob@example.com","n":1}"#, r#"{"password":"[redacted]","n":1}"#, r#"{"n":1}"#),
        (r#"{"access_token":4111111111111111}"#, r#"{"access_token":"[redacted]"}"#, "{}"),
        (r#"{"m":"{\"password\":[1]}"}"#, r#"{"m":"{\"password\":\"[redacted]\"}"}"#, r#"{"m":"{}"}"#),
        (r#"{"a":"bob@example.com"}"#, r#"{"a":"[email]"}"#, r#"{"a":""}"#),
        (r#"{"a":"bob@example.com","password":"#, r#"{"a":"[email]","password":"#, r#"{"a":"","password":"#),
        ("nothing", "nothing", "nothing"),
    ] {
        assert_eq!(mask_body(text(before), MaskAction::Redact).0, Some(text(redacted)), "{before}");
        assert_eq!(mask_body(text(before), MaskAction::Remove).0, Some(text(removed)), "{before}");
    }
}

#[test]
fn bytes_and_numbers_are_searched_too() {
    let redact = |value| mask_body(value, MaskAction::Redact).0.unwrap();
    assert_eq!(
        redact(Value::BytesValue(b"\xff bob@example.com \x00".to_vec())),
        Value::BytesValue(b"\xff [email] \x00".to_vec())
    );
    assert_eq!(redact(Value::IntValue(4_111_111_111_111_111)), text("[credit_card]"));
    assert_eq!(redact(Value::DoubleValue(4_111_111_111_111_111.0)), text("[credit_card]"));
    for kept in [
        Value::IntValue(42),
        Value::IntValue(-4_111_111_111_111_111),
        Value::DoubleValue(f64::NAN.abs().min(1.5)),
        Value::BoolValue(true),
    ] {
        assert_eq!(redact(kept.clone()), kept);
    }
    assert_eq!(mask_body(Value::IntValue(4_111_111_111_111_111), MaskAction::Remove).0, Some(text("")));
}

#[test]
fn values_of_sensitive_keys_go_whole_at_any_depth() {
    let list = |values: Vec<KeyValue>| Value::KvlistValue(KeyValueList { values });
    let before = || {
        vec![
            attribute("a", text("x")),
            attribute("PassWord", Value::IntValue(1)),
            attribute(
                "nested",
                list(vec![attribute("my-token-1", list(vec![attribute("b", text("y"))])), attribute("c", text("z"))]),
            ),
            attribute("bob@example.com password", text("w")),
            KeyValue { key: "token".to_owned(), ..KeyValue::default() },
        ]
    };
    let redacted = vec![
        attribute("a", text("x")),
        attribute("PassWord", text("[redacted]")),
        attribute("nested", list(vec![attribute("my-token-1", text("[redacted]")), attribute("c", text("z"))])),
        attribute("[email] password", text("w")),
        KeyValue { key: "token".to_owned(), ..KeyValue::default() },
    ];
    let removed = vec![
        attribute("a", text("x")),
        attribute("nested", list(vec![attribute("c", text("z"))])),
        attribute(" password", text("w")),
    ];
    assert_eq!(mask_attributes(before(), MaskAction::Redact), redacted);
    assert_eq!(mask_attributes(before(), MaskAction::Remove), removed);
}

#[test]
fn masked_values_are_counted_by_what_found_them() {
    let body = r#"a@b.co c@d.org 4111111111111111 {"password":"e@f.com"}"#;
    assert_eq!(
        mask_body(text(body), MaskAction::Redact).1,
        MaskCounts { values: vec![1, 2, 1], ..MaskCounts::default() }
    );
}

#[test]
fn a_sampling_randomness_is_no_card_number() {
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    let trace_state = "ot=rv:30569309025904,v=bob@example.com".to_owned();
    let span = Span { trace_id: vec![1; 16], span_id: vec![1; 8], trace_state, ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let (bytes, _) =
        mask(Signal::Traces, &ExportTraceServiceRequest { resource_spans }.encode_to_vec(), MaskAction::Redact);
    let decoded = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(decoded.resource_spans[0].scope_spans[0].spans[0].trace_state, "ot=rv:30569309025904,v=[email]");
}

#[test]
fn detectors_that_are_not_asked_for_find_nothing() {
    let rules = vec![policy::MaskRule {
        name: "cards".to_owned(),
        find: Find::Detectors(vec!["credit_card".to_owned()]),
        action: MaskAction::Redact,
    }];
    let only_cards = policy::Mask { rules, ..policy(MaskAction::Redact) };
    let request =
        log(LogRecord { body: Some(wrap(text(r#"bob@example.com {"password":"x"}"#))), ..LogRecord::default() });
    let (masked, _) = mask_by(&only_cards, Signal::Logs, &request);
    assert_eq!(masked, request);
}

/// The secrets that `Random` plants, none of which may be left.
fn assert_no_secret(bytes: &[u8]) {
    for secret in random::SECRETS {
        assert!(memchr::memmem::find(bytes, secret.as_bytes()).is_none(), "{secret}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn without_a_masker_nothing_is_edited(seed: u64) {
        for (signal, request) in Random::requests(seed, false) {
            let mut edits = EditList::default();
            prop_assert!(check_and_mask(signal, &request, None, None, &mut edits, None).is_ok());
            prop_assert!(edits.is_empty());
        }
    }

    #[test]
    fn only_secrets_are_masked_and_all_of_them(seed: u64) {
        for ((signal, request), (_, expected)) in Random::requests(seed, false).into_iter().zip(Random::requests(seed, true)) {
            let (masked, counts) = mask(signal, &request, MaskAction::Redact);
            match signal {
                Signal::Traces => prop_assert_eq!(ExportTraceServiceRequest::decode(masked.as_slice()), ExportTraceServiceRequest::decode(expected.as_slice())),
                Signal::Metrics => prop_assert_eq!(ExportMetricsServiceRequest::decode(masked.as_slice()), ExportMetricsServiceRequest::decode(expected.as_slice())),
                Signal::Logs => prop_assert_eq!(ExportLogsServiceRequest::decode(masked.as_slice()), ExportLogsServiceRequest::decode(expected.as_slice())),
            }
            assert_no_secret(&masked);
            prop_assert_eq!(request == masked, counts == MaskCounts::default());
            // Masking again changes nothing but the redacted values of keys, into themselves.
            prop_assert_eq!(&mask(signal, &masked, MaskAction::Redact).0, &masked);
            assert_no_secret(&mask(signal, &request, MaskAction::Remove).0);
        }
    }

    #[test]
    fn truncated_and_damaged_requests_never_panic(seed: u64, cut in 0.0f64..1.0, damage in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 0..4)) {
        for (signal, mut request) in Random::requests(seed, false) {
            let length = request.len() as f64;
            for (at, byte) in damage.iter().filter(|_| length > 0.0) {
                request[(at * length) as usize] = *byte;
            }
            request.truncate((cut * length) as usize);
            let mut edits = EditList::default();
            let masker = Masker::compile(&policy(MaskAction::Remove)).unwrap();
            if check_and_mask(signal, &request, Some(&masker), None, &mut edits, None).is_ok() {
                let masked = edits.apply(&request).into_owned();
                prop_assert!(walk::validate(signal, &masked).is_ok());
            }
        }
    }

    #[test]
    fn any_text_stays_text(before in r#"([a-z"\\{}:,@%é4 -]|password|@a\.bc|4111111111111111|\\"|%40){0,40}"#) {
        for action in [MaskAction::Redact, MaskAction::Remove] {
            let (after, _) = mask_body(text(&before), action);
            prop_assert!(matches!(after, Some(Value::StringValue(_))));
        }
    }
}
