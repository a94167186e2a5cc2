//! A request in which nothing is to mask goes the whole path where it lies: the batch for an OTLP destination holds its own
//! bytes, and the tenant's stamp between them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use _engine::admit::inflight::{Inflight, Reservation};
use _engine::batch::Batches;
use _engine::generation::{Generation, TenantStates};
use _engine::mask::PseudonymKeys;
use _engine::otlp::Signal;
use _engine::pipeline::{process, Path};
use _engine::policy::{Find, Mask, MaskAction, MaskBudget, MaskRule, Table};
use bytes::Bytes;
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

fn mask() -> Mask {
    let find = [
        Find::Keys(["*password", "*token", "*authorization"].map(String::from).to_vec()),
        Find::Detectors(
            ["email", "credit_card", "phone", "iban", "us_ssn", "ipv4", "secret_token"].map(String::from).to_vec(),
        ),
    ];
    let rules = find.into_iter().enumerate();
    let rule = |(index, find)| MaskRule { name: format!("rule-{index}"), find, action: MaskAction::Redact };
    Mask {
        rules: rules.map(rule).collect(),
        allow_keys: Vec::new(),
        allow_services: Vec::new(),
        budget: MaskBudget::default(),
        dry_run: false,
        pseudonym_key: None,
    }
}

/// A tenant whose traces and logs are masked, of whose traces all are sampled, and who has an OTLP backend.
fn generation() -> Generation {
    let signal = serde_json::json!({
        "routes": [{"to": 0}], "quota": {}, "mask": null, "relabel": {"resource": [], "series": []}, "sample": null,
    });
    let mut traces = signal.clone();
    traces["sample"] = serde_json::json!({"ratio": 1.0});
    let mut table: Table = serde_json::from_value(serde_json::json!({
        "generation": 1,
        "ack": "memory",
        "batch": {"max_bytes": 64 << 20, "max_items": 1_000_000, "max_age_ms": 1000},
        "identity": [{"type": "anonymous", "tenant": "acme"}],
        "destinations": [{"name": "backend", "encoding": {"type": "otlp"}}],
        "policies": [{"traces": traces, "metrics": null, "logs": signal, "claims": "overwrite"}],
        "tenants": [{"id": "acme", "disabled": false, "api_keys": [], "policy": 0}],
    }))
    .unwrap();
    let policy = &mut table.policies[0];
    for signal in [&mut policy.traces, &mut policy.logs] {
        signal.as_mut().unwrap().mask = Some(mask());
    }
    Generation::compile(&table, &TenantStates::default()).unwrap()
}

/// The batch of one request.
fn batch(generation: &Generation, signal: Signal, request: Bytes) -> Vec<Bytes> {
    let batches = Batches::new().unwrap();
    let path = Path {
        generation,
        batches: &batches,
        periods: &Default::default(),
        pseudonym_keys: &PseudonymKeys::default(),
        epoch: Instant::now(),
    };
    let tenant = &generation.tenants[0];
    let inflight = Arc::new(Inflight::new(u64::MAX));
    let reservation = Reservation::empty(&inflight, &inflight);
    let rules = tenant.rules(signal).unwrap();
    process(&path, tenant, signal, rules, request, reservation).unwrap_or_else(|_| panic!("the request was refused"));
    batches.flush();
    batches.drain().remove(0).parts
}

fn place(bytes: &[u8]) -> Range<usize> {
    let begin = bytes.as_ptr().addr();
    begin..begin + bytes.len()
}

/// How many bytes of a request's batch lie elsewhere than in the request; the batch must be right.
fn copied(generation: &Generation, signal: Signal, request: Vec<u8>) -> usize {
    let request = Bytes::from(request);
    let parts = batch(generation, signal, request.clone());
    let joined = parts.concat();
    match signal {
        Signal::Traces => {
            let sent = ExportTraceServiceRequest::decode(joined.as_slice()).unwrap();
            assert_eq!(sent.resource_spans[0].resource.as_ref().unwrap().attributes, stamp());
        }
        _ => {
            let sent = ExportLogsServiceRequest::decode(joined.as_slice()).unwrap();
            assert_eq!(sent.resource_logs[0].resource.as_ref().unwrap().attributes, stamp());
        }
    }
    let own = place(&request);
    parts.iter().filter(|part| !own.contains(&place(part).start)).map(|part| part.len()).sum()
}

fn stamp() -> Vec<KeyValue> {
    vec![KeyValue { key: "tenant".into(), value: text("acme".into()), ..Default::default() }]
}

#[test]
fn a_clean_request_is_not_copied() {
    let generation = generation();
    // The stamp, and the bytes before it.
    let few = 64;
    assert!(copied(&generation, Signal::Logs, logs(1000, "user-20481")) < few);
    assert!(copied(&generation, Signal::Traces, traces(1000, "user-20481")) < few);
}

#[test]
fn a_copy_would_be_seen() {
    let masked = generation();
    let (dirty_logs, dirty_traces) = (logs(1000, "bob@example.com"), traces(1000, "bob@example.com"));
    let (least_logs, least_traces) = (dirty_logs.len() / 2, dirty_traces.len() / 2);
    assert!(copied(&masked, Signal::Logs, dirty_logs) > least_logs);
    assert!(copied(&masked, Signal::Traces, dirty_traces) > least_traces);
}
