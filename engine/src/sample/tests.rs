//! Sampling as a tenant sees it.

use super::*;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan};
use prost::Message;
use proptest::prelude::*;

/// One scope a list of spans, all in one resource.
fn request(scopes: Vec<Vec<ProtoSpan>>) -> ExportTraceServiceRequest {
    let scope_spans = scopes.into_iter().map(|spans| ScopeSpans { spans, ..Default::default() }).collect();
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..Default::default() }] }
}

fn span(trace_id: u128, tracestate: &str) -> ProtoSpan {
    ProtoSpan {
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: vec![1; 8],
        trace_state: tracestate.into(),
        name: "GET".into(),
        ..Default::default()
    }
}

fn sampled(input: &ExportTraceServiceRequest, ratio: f64) -> (ExportTraceServiceRequest, u64) {
    let bytes = input.encode_to_vec();
    let mut edits = EditList::default();
    let sampler = RatioSampler::compile(&policy::Sample { ratio }).unwrap();
    let left_out = sample(&bytes, &sampler, &mut edits).unwrap();
    (ExportTraceServiceRequest::decode(edits.apply(&bytes).as_ref()).unwrap(), left_out)
}

fn tracestate_of(input: &str, trace_id: u128, ratio: f64) -> Option<String> {
    let (output, _) = sampled(&request(vec![vec![span(trace_id, input)]]), ratio);
    Some(output.resource_spans.first()?.scope_spans[0].spans[0].trace_state.clone())
}

const HIGH: u128 = 0x00ff_ffff_ffff_ffff;
const LOW: u128 = 0x0000_0000_0000_0001;

#[test]
fn tracestate_is_honoured_and_raised() {
    for (input, trace_id, ratio, expected) in [
        ("", HIGH, 0.5, Some("ot=th:8")),
        ("", LOW, 0.5, None),
        ("", LOW, 1.0, Some("")),
        ("", HIGH, 0.0, None),
        ("a=b,c=d", HIGH, 0.25, Some("ot=th:c,a=b,c=d")),
        ("a=b,ot=rv:ffffffffffffff;x:y", LOW, 0.5, Some("ot=th:8;rv:ffffffffffffff;x:y,a=b")),
        ("ot=rv:00000000000001", HIGH, 0.5, None),
        // Sampled stricter before: nothing to add.
        ("ot=th:c", HIGH, 0.5, Some("ot=th:c")),
        // Sampled less strictly before: raised.
        ("ot=th:4", HIGH, 0.5, Some("ot=th:8")),
        // Not a threshold: as if absent.
        ("ot=th:zz", HIGH, 0.5, Some("ot=th:8")),
    ] {
        assert_eq!(tracestate_of(input, trace_id, ratio).as_deref(), expected, "{input:?} at {ratio}");
    }
}

#[test]
fn what_lost_all_its_spans_goes_whole() {
    let (output, left_out) = sampled(&request(vec![vec![span(LOW, ""), span(LOW, "")], vec![span(HIGH, "")]]), 0.5);
    assert_eq!((output.resource_spans[0].scope_spans.len(), left_out), (1, 2));
    let (output, left_out) = sampled(&request(vec![vec![span(LOW, "")]]), 0.5);
    assert_eq!((output.resource_spans.len(), left_out), (0, 1));
}

#[test]
fn the_kept_share_is_the_ratio() {
    let spans = (0..20_000u128).map(|n| span(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), "")).collect();
    let (_, left_out) = sampled(&request(vec![spans]), 0.25);
    assert!((14_600..15_400).contains(&left_out), "{left_out}");
}

proptest! {
    #[test]
    fn kept_and_left_out_are_all_and_traces_stay_whole(ids in proptest::collection::vec(any::<u128>(), 1..40), ratio in 0.0f64..1.0) {
        let spans: Vec<_> = ids.iter().flat_map(|id| [span(*id, ""), span(*id, "")]).collect();
        let (output, left_out) = sampled(&request(vec![spans]), ratio);
        let kept: Vec<_> = output.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
        prop_assert_eq!(kept.len() as u64 + left_out, ids.len() as u64 * 2);
        for pair in kept.chunks(2) {
            prop_assert_eq!(&pair[0].trace_id, &pair[1].trace_id);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let sampler = RatioSampler::compile(&policy::Sample { ratio: 0.5 }).unwrap();
        let _answered = sample(&bytes, &sampler, &mut EditList::default());
    }
}
