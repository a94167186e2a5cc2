//! A request in which nothing is to mask is validated, masked and sampled in place: no memory that grows with it is taken,
//! and what comes out are its own bytes.

use std::borrow::Cow;

use _engine::mask::{check_and_mask, Masker};
use _engine::otlp::edit::EditList;
use _engine::otlp::Signal;
use _engine::policy::{Find, Mask, MaskAction, MaskBudget, MaskRule};
use _engine::sample::{sample, sample_logs, RatioSampler, Threshold};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

fn text(text: String) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text)) })
}

fn attributes(index: usize) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue { key: key.into(), value: text(value), ..Default::default() };
    vec![pair("http.route", "/api/checkout".into()), pair("shop.order", format!("order-{index}"))]
}

fn logs(items: usize, who: &str) -> Vec<u8> {
    let record = |index| LogRecord {
        body: text(format!("order {index} of {who} paid by invoice, took 12 ms")),
        attributes: attributes(index),
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: (0..items).map(record).collect(), ..Default::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] }.encode_to_vec()
}

fn traces(items: usize, who: &str) -> Vec<u8> {
    let span = |index| Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        name: format!("checkout of {who}"),
        attributes: attributes(index),
        ..Default::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..items).map(span).collect(), ..Default::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..Default::default() }] }
        .encode_to_vec()
}

fn masker() -> Masker {
    let find = [
        Find::Keys(["*password", "*token", "*authorization"].map(String::from).to_vec()),
        Find::Detectors(
            ["email", "credit_card", "phone", "iban", "us_ssn", "ipv4", "secret_token"].map(String::from).to_vec(),
        ),
    ];
    let rules = find.into_iter().enumerate();
    let rule = |(index, find)| MaskRule { name: format!("rule-{index}"), find, action: MaskAction::Redact };
    Masker::compile(&Mask {
        rules: rules.map(rule).collect(),
        allow_keys: Vec::new(),
        allow_services: Vec::new(),
        budget: MaskBudget::default(),
        dry_run: false,
        pseudonym_key: None,
    })
    .unwrap()
}

/// Whether a request that was validated, masked and sampled is still where it was.
fn stays_in_place(signal: Signal, request: &[u8], masker: &Masker) -> bool {
    let mut edits = EditList::default();
    check_and_mask(signal, request, Some(masker), None, &mut edits, None).unwrap();
    let masked = edits.apply(request);
    edits.clear();
    match signal {
        Signal::Traces => sample(&masked, &RatioSampler::default(), &mut edits),
        _ => sample_logs(&masked, Threshold::KEEP_ALL, &mut edits),
    }
    .unwrap();
    let sampled = edits.apply(&masked);
    matches!(masked, Cow::Borrowed(_)) && matches!(sampled, Cow::Borrowed(_)) && std::ptr::eq(&*sampled, request)
}

#[test]
fn a_clean_request_is_not_copied() {
    let masker = masker();
    assert!(stays_in_place(Signal::Logs, &logs(1000, "user-20481"), &masker));
    assert!(stays_in_place(Signal::Traces, &traces(1000, "user-20481"), &masker));
}

#[test]
fn a_copy_would_be_seen() {
    let masker = masker();
    assert!(!stays_in_place(Signal::Logs, &logs(1000, "bob@example.com"), &masker));
    assert!(!stays_in_place(Signal::Traces, &traces(1000, "bob@example.com"), &masker));
}
