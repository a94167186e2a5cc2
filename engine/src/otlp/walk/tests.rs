//! What the walk refuses, and what it lets through.

use super::super::wire::{put_bytes_field, put_message_field, put_varint_field};
use super::*;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

fn with_span(span: Span) -> Vec<u8> {
    let scope = ScopeSpans { spans: vec![span], ..Default::default() };
    let spans = ResourceSpans { scope_spans: vec![scope], ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
}

fn span() -> Span {
    Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "GET".into(), ..Default::default() }
}

#[test]
fn ids_must_have_their_length() {
    for (span, expected) in [
        (span(), Ok(())),
        (Span { trace_id: vec![1; 15], ..span() }, Err(Malformed::IdLength)),
        (Span { trace_id: vec![], ..span() }, Err(Malformed::IdLength)),
        (Span { span_id: vec![1; 16], ..span() }, Err(Malformed::IdLength)),
        (Span { parent_span_id: vec![1; 8], ..span() }, Ok(())),
        (Span { parent_span_id: vec![1; 7], ..span() }, Err(Malformed::IdLength)),
    ] {
        assert_eq!(validate(Signal::Traces, &with_span(span.clone())), expected, "{span:?}");
    }
}

#[test]
fn nesting_is_bounded_without_recursion_running_away() {
    let mut value = Vec::new();
    put_bytes_field(&mut value, any_value::STRING, b"deep");
    let at_depth = |levels: usize| {
        let mut value = value.clone();
        for _ in 0..levels {
            let mut array = Vec::new();
            put_message_field(&mut array, any_value::ARRAY, |out| put_bytes_field(out, LIST_VALUES, &value));
            value = array;
        }
        let mut request = Vec::new();
        put_message_field(&mut request, 1, |out| {
            put_message_field(out, 2, |out| put_message_field(out, 2, |out| put_bytes_field(out, 5, &value)));
        });
        request
    };
    assert_eq!(validate(Signal::Logs, &at_depth(MAX_DEPTH - 1)), Ok(()));
    assert_eq!(validate(Signal::Logs, &at_depth(MAX_DEPTH)), Err(Malformed::TooDeep));
    assert_eq!(validate(Signal::Logs, &at_depth(5000)), Err(Malformed::TooDeep));
}

#[test]
fn text_must_be_utf8_and_fields_of_their_type() {
    let raw = |write: fn(&mut Vec<u8>)| {
        let mut request = Vec::new();
        put_message_field(&mut request, 1, |out| put_message_field(out, 2, |out| put_message_field(out, 2, write)));
        request
    };
    let not_utf8 = raw(|out| put_bytes_field(out, 3, b"\xff\xfe"));
    assert_eq!(validate(Signal::Logs, &not_utf8), Err(Malformed::Utf8));
    let wrong_type = raw(|out| put_varint_field(out, 3, 7));
    assert_eq!(validate(Signal::Logs, &wrong_type), Err(Malformed::Wire(WireError::WrongType)));
    let unknown = raw(|out| put_bytes_field(out, 900, b"\xff"));
    assert_eq!(validate(Signal::Logs, &unknown), Ok(()));
}
