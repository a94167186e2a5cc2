//! What is remembered of a request changes nothing: an item is masked as if it were alone.

use super::*;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use rule_order::body_by;

const TEXTS: [&str; 9] = [
    "GET",
    "bob@example.com",
    "password",
    "th:30569309025904",
    "ot=rv:30569309025904",
    "ot=th:0;rv:30569309025904",
    "30569309025904",
    "ünï",
    "password=hunter2",
];

fn span(picks: [usize; 4]) -> Span {
    let [state, name, key, value] = picks.map(|pick| TEXTS[pick % TEXTS.len()]);
    Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        trace_state: state.to_owned(),
        name: name.to_owned(),
        attributes: vec![attribute(key, text(value)), attribute(value, Value::BytesValue(name.as_bytes().to_vec()))],
        ..Span::default()
    }
}

fn mask_spans(spans: Vec<Span>) -> (Vec<Span>, MaskCounts) {
    let resource_spans =
        vec![ResourceSpans { scope_spans: vec![ScopeSpans { spans, ..Default::default() }], ..Default::default() }];
    let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let (bytes, masked) = mask_by(&everything(MaskAction::Redact), Signal::Traces, &request);
    let decoded = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    (decoded.resource_spans[0].scope_spans[0].spans.clone(), masked.counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn many_items_are_masked_as_each_of_them_alone(picks in proptest::collection::vec(any::<[usize; 4]>(), 1..12)) {
        let spans: Vec<Span> = picks.iter().map(|picks| span(*picks)).collect();
        let (together, counts) = mask_spans(spans.clone());
        let alone: Vec<_> = spans.into_iter().map(|span| mask_spans(vec![span])).collect();
        prop_assert_eq!(together, alone.iter().map(|(spans, _)| spans[0].clone()).collect::<Vec<_>>());
        let sum = |counts: &MaskCounts| counts.values.iter().sum::<u64>();
        prop_assert_eq!(sum(&counts), alone.iter().map(|(_, counts)| sum(counts)).sum::<u64>());
    }
}

#[test]
fn a_sampling_state_is_spared_in_a_trace_state_only() {
    let state = "ot=rv:30569309025904";
    let mut span = span([0; 4]);
    (span.trace_state, span.name) = (state.to_owned(), state.to_owned());
    let (spans, _) = mask_spans(vec![span]);
    assert_eq!((spans[0].trace_state.as_str(), spans[0].name.as_str()), (state, "ot=rv:[credit_card]"));
}

#[test]
fn only_a_sampling_state_is_spared_in_a_trace_state() {
    for (state, expected) in [
        ("ot=th:30569309025904", "ot=th:30569309025904"),
        ("ot=p:8;rv:30569309025904,x=1", "ot=p:8;rv:30569309025904,x=1"),
        ("ot=rv:bob@example.com", "ot=rv:[email]"),
        ("ot=rv:4111111111111111", "ot=rv:[credit_card]"),
        ("x=srv:30569309025904", "x=srv:[credit_card]"),
    ] {
        let mut span = span([0; 4]);
        span.trace_state = state.to_owned();
        assert_eq!(mask_spans(vec![span]).0[0].trace_state, expected);
    }
}

#[test]
fn a_key_that_is_clean_is_not_taken_for_a_value_that_is() {
    let masked = mask_attributes(
        vec![attribute("password", text("password")), attribute("password", text("x"))],
        MaskAction::Redact,
    );
    assert!(masked.iter().all(|pair| *pair == attribute("password", text("[redacted]"))));
    assert_eq!(body_by(&policy(MaskAction::Redact), text("password")).0, text("password"));
}
