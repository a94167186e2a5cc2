//! Rules: which one counts, what each action leaves, who is spared, what is dropped, and what is removed unseen.

use super::*;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{
    metric::Data, Exemplar, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{span::Event, ResourceSpans, ScopeSpans, Span};

const CARD: &str = "4111 1111 1111 1111";

fn detectors(names: &[&str]) -> Find {
    Find::Detectors(names.iter().map(|name| name.to_string()).collect())
}

fn keys(patterns: &[&str]) -> Find {
    Find::Keys(patterns.iter().map(|pattern| pattern.to_string()).collect())
}

fn rules(rules: Vec<(Find, MaskAction)>) -> policy::Mask {
    let rules = rules.into_iter().enumerate().map(|(index, (find, action))| policy::MaskRule {
        name: format!("rule_{index}"),
        find,
        action,
    });
    policy::Mask { rules: rules.collect(), pseudonym_key: Some("main".to_owned()), ..policy(MaskAction::Redact) }
}

/// The attributes of a log record after masking.
fn attributes_by(policy: &policy::Mask, attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let (bytes, _) = mask_by(policy, Signal::Logs, &log(LogRecord { attributes, ..LogRecord::default() }));
    let mut decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    decoded.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0).attributes
}

fn text_by(policy: &policy::Mask, body: &str) -> String {
    let masked = attributes_by(policy, vec![attribute("body", text(body))]);
    match masked.into_iter().next().and_then(|pair| pair.value).and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_equal_matches_the_first_rule_counts_and_of_others_the_widest() {
    use MaskAction::{Partial, Redact, Remove};
    let regex = |pattern: &str| Find::Regex(pattern.to_owned());
    for (first, second, body, expected) in [
        (detectors(&["email"]), regex("[a-z]+@[a-z.]+"), "to bob@example.com", "to [email]"),
        (regex("[a-z]+@[a-z.]+"), detectors(&["email"]), "to bob@example.com", "to [rule_0]"),
        (regex("@"), detectors(&["email"]), "to bob@example.com", "to [email]"),
        (regex("example.com is"), detectors(&["email"]), "bob@example.com is", "[rule_0]"),
        (regex("none"), regex("also none"), "bob@example.com", "bob@example.com"),
    ] {
        assert_eq!(text_by(&rules(vec![(first, Redact), (second, Redact)]), body), expected, "{body}");
    }
    // Of a union nothing is shown.
    let overlapping = rules(vec![(detectors(&["credit_card"]), Partial), (regex("1111 [a-z]+"), Redact)]);
    assert_eq!(text_by(&overlapping, &format!("{CARD} visa")), "[credit_card]");
    let removed = rules(vec![(detectors(&["credit_card"]), Remove), (regex("1111 [a-z]+"), Redact)]);
    assert_eq!(text_by(&removed, &format!("{CARD} visa")), "");
}

#[test]
fn a_rule_before_that_of_the_key_takes_what_is_all_of_the_value() {
    use MaskAction::{Pseudonymise, Redact};
    let policy = rules(vec![(detectors(&["email"]), Pseudonymise), (keys(&["user"]), Redact)]);
    let masked = attributes_by(
        &policy,
        vec![attribute("user", text("bob@example.com")), attribute("user", text("bob@example.com (Bob)"))],
    );
    let shown: Vec<_> = masked.into_iter().map(|pair| pair.value.and_then(|value| value.value)).collect();
    assert!(matches!(&shown[0], Some(Value::StringValue(text)) if text.starts_with("h1:")), "{shown:?}");
    assert_eq!(shown[1], Some(text("[redacted]")));
}

#[test]
fn each_action_leaves_what_it_says() {
    use MaskAction::{DropItem, FormatPreserving, Partial, Pseudonymise, Redact, Remove};
    let number = || Value::IntValue(4_111_111_111_111_111);
    let json = r#"{"n":4111111111111111}"#;
    for (action, of_text, of_number, of_json) in [
        (Redact, "[credit_card]", Some(text("[credit_card]")), r#"{"n":"[credit_card]"}"#),
        (Remove, "", Some(text("")), r#"{"n":""}"#),
        (Partial, "****1111", Some(text("****1111")), r#"{"n":"****1111"}"#),
        (DropItem, "[credit_card]", Some(text("[credit_card]")), r#"{"n":"[credit_card]"}"#),
        (Pseudonymise, "h1:", None, r#"{"n":"h1:"#),
        (FormatPreserving, "4", None, r#"{"n":"4"#),
    ] {
        let policy = rules(vec![(detectors(&["credit_card"]), action)]);
        let exact = of_number.is_some();
        for (body, expected) in [(CARD, of_text), (json, of_json)] {
            let masked = text_by(&policy, body);
            assert!(if exact { masked == expected } else { masked.starts_with(expected) }, "{action:?}: {masked}");
            assert!(!masked.contains("1111 1111") && !masked.contains("11111111"), "{action:?}: {masked}");
        }
        let masked = attributes_by(&policy, vec![attribute("n", number())]).remove(0).value.unwrap().value;
        match (action, masked) {
            // The number stays one.
            (FormatPreserving, Some(Value::IntValue(other))) => assert_ne!(Value::IntValue(other), number()),
            (Pseudonymise, Some(Value::StringValue(pseudonym))) => {
                // However it is written, a card has one pseudonym.
                assert_eq!(pseudonym, text_by(&policy, CARD));
            }
            (_, masked) => assert_eq!(masked, of_number, "{action:?}"),
        }
    }
}

#[test]
fn allowed_keys_spare_their_values_and_nothing_else() {
    let policy =
        policy::Mask { allow_keys: vec!["support.*".to_owned(), "password".to_owned()], ..policy(MaskAction::Redact) };
    let nested = |key: &str| {
        let values = vec![attribute("inner", text("a@b.co"))];
        attribute(key, Value::KvlistValue(KeyValueList { values }))
    };
    let mail = || text("bob@example.com");
    let doubled = KeyValue { key: "support.mail".to_owned(), ..attribute("", mail()) };
    let before = vec![
        attribute("support.mail", mail()),
        attribute("password", mail()),
        attribute("user", mail()),
        nested("support.x"),
    ];
    let after = vec![
        attribute("support.mail", mail()),
        attribute("password", mail()),
        attribute("user", text("[email]")),
        nested("support.x"),
    ];
    assert_eq!(attributes_by(&policy, before), after);
    assert_eq!(attributes_by(&policy, vec![doubled.clone()]), vec![doubled]);

    // A key that is given twice is the last one; whoever hides a secret behind an allowed one is not spared.
    use crate::otlp::wire::{put_bytes_field, put_message_field};
    use crate::otlp::{any_value, KEY, VALUE};
    let mut request = Vec::new();
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 2, |out| {
            put_message_field(out, 2, |out| {
                put_message_field(out, 6, |out| {
                    put_bytes_field(out, KEY, b"support.mail");
                    put_message_field(out, VALUE, |out| put_bytes_field(out, any_value::STRING, b"bob@example.com"));
                    put_bytes_field(out, KEY, b"user");
                });
            });
        });
    });
    let (masked, _) = mask_by(&policy, Signal::Logs, &request);
    assert!(memchr::memmem::find(&masked, b"bob@").is_none());
}

fn span(name: &str) -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![1; 8], name: name.to_owned(), ..Span::default() }
}

fn resource(services: &[&str], spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: services.iter().map(|name| attribute("service.name", text(name))).collect(),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn traces(resource_spans: Vec<ResourceSpans>) -> Vec<u8> {
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn span_names(request: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    let spans =
        request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    spans.map(|span| span.name).collect()
}

#[test]
fn allowed_services_spare_their_own_resources_only() {
    let policy = policy::Mask { allow_services: vec!["mailer".to_owned()], ..policy(MaskAction::Redact) };
    let mail = || vec![span("a@b.co")];
    let request = traces(vec![
        resource(&["mailer"], mail()),
        resource(&["shop"], mail()),
        resource(&["mailer", "shop"], mail()),
        resource(&[], mail()),
        ResourceSpans { resource: None, ..resource(&[], mail()) },
        resource(&["mailer"], mail()),
    ]);
    let expected = ["a@b.co", "[email]", "[email]", "[email]", "[email]", "a@b.co"];
    assert_eq!(span_names(&mask_by(&policy, Signal::Traces, &request).0), expected);
}

#[test]
fn an_item_is_dropped_for_what_is_in_it_or_around_it() {
    let policy = rules(vec![(detectors(&["email"]), MaskAction::DropItem)]);
    let event = Event { name: "a@b.co".to_owned(), ..Event::default() };
    let with_event = Span { events: vec![event], ..span("event") };
    let scope = InstrumentationScope { name: "a@b.co".to_owned(), ..InstrumentationScope::default() };
    let mut of_scope = resource(&["shop"], vec![span("x"), span("y")]);
    of_scope.scope_spans[0].scope = Some(scope);
    of_scope.scope_spans.push(ScopeSpans { spans: vec![span("kept")], ..ScopeSpans::default() });
    let request = traces(vec![
        resource(&["shop"], vec![span("kept"), with_event, span("a@b.co"), span("kept")]),
        resource(&["a@b.co"], vec![span("x"), span("y")]),
        of_scope,
        resource(&["shop"], vec![]),
        resource(&["a@b.co"], vec![]),
    ]);
    let (bytes, masked) = mask_by(&policy, Signal::Traces, &request);
    let dropped: Vec<_> = masked.dropped.iter().filter(|range| !range.is_empty()).cloned().collect();
    assert_eq!(dropped, [1..2, 2..3, 4..6, 6..8]);
    let mut edits = EditList::default();
    let left_out = crate::otlp::items::leave_out(Signal::Traces, &bytes, &masked.dropped, &mut edits).unwrap();
    let left = edits.apply(&bytes);
    assert_eq!((left_out, span_names(&left)), (6, ["kept", "kept", "kept"].map(String::from).to_vec()));
    assert!(memchr::memmem::find(&left, b"a@b.co").is_none());
}

#[test]
fn points_are_dropped_one_by_one_and_with_their_metric() {
    let policy = rules(vec![(detectors(&["email"]), MaskAction::DropItem)]);
    let point = |secret: bool| {
        let filtered_attributes = if secret { vec![attribute("k", text("a@b.co"))] } else { vec![] };
        NumberDataPoint {
            exemplars: vec![Exemplar { filtered_attributes, ..Exemplar::default() }],
            ..Default::default()
        }
    };
    let metric = |name: &str, data_points| Metric {
        name: name.to_owned(),
        data: Some(Data::Gauge(Gauge { data_points })),
        ..Metric::default()
    };
    let metrics = vec![
        metric("g", vec![point(false), point(true), point(false)]),
        metric("a@b.co", vec![point(false), point(true)]),
        metric("h", vec![point(true)]),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let request = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let (_, masked) = mask_by(&policy, Signal::Metrics, &request);
    assert_eq!(masked.dropped, [1..2, 3..5, 5..6]);
}

#[test]
fn what_is_over_the_budget_is_removed_unseen_and_counted() {
    let budget = MaskBudget { item_bytes: 40, item_us: 1_000_000 };
    let policy = policy::Mask { budget, ..policy(MaskAction::Redact) };
    let record = |body: String| LogRecord { body: Some(wrap(Value::StringValue(body))), ..LogRecord::default() };
    let body = |length: usize| format!("{}a@b.co", " ".repeat(length - 6));
    let scope_logs = vec![ScopeLogs {
        log_records: vec![record(body(41)), record(body(40)), record("hunter2".repeat(8)), record("a@b.co".to_owned())],
        ..ScopeLogs::default()
    }];
    let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
    let (bytes, masked) = mask_by(&policy, Signal::Logs, &request.encode_to_vec());
    let decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    let bodies: Vec<_> = decoded.resource_logs[0].scope_logs[0]
        .log_records
        .iter()
        .map(|record| record.body.clone().and_then(|body| body.value))
        .collect();
    let within = format!("{}[email]", " ".repeat(34));
    // Each item has its own budget.
    assert_eq!(bodies, [text("[removed]"), text(&within), text("[removed]"), text("[email]")].map(Some));
    assert_eq!(masked.counts.failures[Failure::Size as usize], 2);
}

#[test]
fn time_is_bounded_as_well() {
    let budget = MaskBudget { item_us: 0, ..MaskBudget::default() };
    let policy = policy::Mask { budget, ..policy(MaskAction::Redact) };
    let long = format!("a@b.co {}", "x ".repeat(20_000));
    let request = log(LogRecord { body: Some(wrap(text(&long))), ..LogRecord::default() });
    let (bytes, masked) = mask_by(&policy, Signal::Logs, &request);
    assert!(memchr::memmem::find(&bytes, b"a@b.co").is_none());
    assert_eq!(masked.counts.failures[Failure::Time as usize], 1);
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let body = wrap(text(r#"a@b.co {"password":"x"}"#));
    let mut request = log(LogRecord { body: Some(body), ..LogRecord::default() });
    // A field that nobody knows.
    request.extend_from_slice(b"\xc2\x0c\x01x");
    let dry = policy::Mask { dry_run: true, ..policy(MaskAction::Redact) };
    let (bytes, masked) = mask_by(&dry, Signal::Logs, &request);
    assert_eq!(bytes, request);
    assert_eq!(masked.counts.values, [1, 1]);
    let (bytes, _) = mask_by(&policy(MaskAction::Redact), Signal::Logs, &request);
    assert!(!bytes.ends_with(b"x"));
}

#[test]
fn secrets_in_an_encoding_are_redacted_whatever_the_action_is() {
    use base64::Engine;
    let in_base64 = base64::engine::general_purpose::STANDARD.encode(format!(r#"{{"card":"{CARD}"}}"#));
    for action in [MaskAction::Redact, MaskAction::Partial, MaskAction::Pseudonymise, MaskAction::FormatPreserving] {
        let policy = rules(vec![(detectors(&["credit_card"]), action)]);
        for (body, expected) in [
            (in_base64.as_str(), "[credit_card]"),
            ("/pay?n=4111%201111%201111%201111&x=1", "/pay?n=[credit_card]&x=1"),
            (r"411111111111111\u0031", "[credit_card]"),
            ("x%3D4111%25201111%25201111%25201111", "x%3D[credit_card]"),
        ] {
            assert_eq!(text_by(&policy, body), expected, "{action:?}");
        }
    }
}

#[test]
fn base64_that_is_too_long_to_be_decoded_is_not_passed_unseen() {
    use base64::Engine;
    let encode =
        |length: usize| base64::engine::general_purpose::STANDARD.encode("words and words ".repeat(length / 16));
    let (short, long) = (encode(32 << 10), encode(80 << 10));
    let policy = policy(MaskAction::Redact);
    assert_eq!(text_by(&policy, &short), short);
    assert_eq!(text_by(&policy, &format!("blob {long} end")), "blob [redacted] end");
}

#[test]
fn what_stays_in_a_trace_state_is_masked_elsewhere() {
    let state = "ot=rv:30569309025904";
    let spans = vec![Span { trace_state: state.to_owned(), ..span("a") }, span(state)];
    let (bytes, _) = mask(Signal::Traces, &traces(vec![resource(&["shop"], spans)]), MaskAction::Redact);
    assert_eq!(span_names(&bytes), ["a", "ot=rv:[credit_card]"]);
}

#[test]
fn a_policy_that_cannot_work_is_refused_by_name() {
    for (find, action, expected) in [
        (keys(&["a", ""]), MaskAction::Redact, "rules[0].keys[1]: a key must not be empty"),
        (detectors(&["e-mail"]), MaskAction::Redact, "rules[0].detectors: there is no detector e-mail"),
        (Find::Regex("(".to_owned()), MaskAction::Redact, "rules[0].regex: "),
        (Find::Regex("a{1000}{1000}".to_owned()), MaskAction::Redact, "rules[0].regex: "),
    ] {
        let error = Masker::compile(&rules(vec![(find, action)])).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let keyless =
        policy::Mask { pseudonym_key: None, ..rules(vec![(detectors(&["email"]), MaskAction::Pseudonymise)]) };
    assert!(Masker::compile(&keyless).unwrap_err().contains("rule_0 needs a pseudonym key"));
    let many = (0..65).map(|_| (detectors(&["email"]), MaskAction::Redact)).collect();
    assert!(Masker::compile(&rules(many)).unwrap_err().contains("more than 64"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What is remembered of one item must not change what becomes of the next.
    #[test]
    fn items_are_masked_together_as_they_are_alone(
        bodies in proptest::collection::vec("(a@b\\.co|4111111111111111|password|[a-z=: \"]{0,4}|ot=rv:30569309025904|%40){0,4}", 1..12)
    ) {
        let record = |body: &String| LogRecord {
            body: Some(wrap(text(body))),
            attributes: vec![attribute(body, text(body)), attribute("password", text(body)), attribute("k", Value::BytesValue(body.clone().into_bytes()))],
            ..LogRecord::default()
        };
        let masked_records = |log_records: Vec<LogRecord>| {
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
            let (bytes, _) = mask(Signal::Logs, &request.encode_to_vec(), MaskAction::Redact);
            ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap().resource_logs[0].scope_logs[0].log_records.clone()
        };
        let together = masked_records(bodies.iter().map(record).collect());
        let alone: Vec<_> = bodies.iter().flat_map(|body| masked_records(vec![record(body)])).collect();
        prop_assert_eq!(together, alone);
    }
}
