use super::*;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

fn sampler(ratio: f64) -> RatioSampler {
    RatioSampler::compile(&policy::Sample { ratio }).unwrap()
}

fn span(trace_id: [u8; 16], trace_state: &str) -> Span {
    Span {
        trace_id: trace_id.to_vec(),
        span_id: vec![1; 8],
        trace_state: trace_state.to_owned(),
        name: "work".to_owned(),
        ..Span::default()
    }
}

/// One resource a group, one scope with the group's spans.
fn request(groups: &[Vec<Span>]) -> Vec<u8> {
    let resource_spans = groups.iter().map(|spans| ResourceSpans {
        scope_spans: vec![ScopeSpans { spans: spans.clone(), ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
}

/// The kept spans, how many were removed, and the bytes.
fn run(request: &[u8], ratio: f64) -> (Vec<Span>, u64, Vec<u8>) {
    let mut edits = EditList::default();
    let removed = sample(request, &sampler(ratio), &mut edits).unwrap();
    let bytes = edits.apply(request).into_owned();
    let decoded = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    let spans =
        decoded.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    (spans.collect(), removed, bytes)
}

/// A trace id whose randomness is `bits`.
fn trace_id(bits: u64) -> [u8; 16] {
    let mut id = [0xab; 16];
    id[9..].copy_from_slice(&bits.to_be_bytes()[1..]);
    id
}

const HALF: u64 = 1 << 55;

#[test]
fn a_ratio_outside_of_0_to_1_is_refused() {
    for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(RatioSampler::compile(&policy::Sample { ratio }).unwrap_err().starts_with("sample.ratio: "));
    }
}

#[test]
fn one_span_is_kept_by_its_randomness_and_threshold() {
    // ratio, trace's randomness, tracestate, tracestate afterwards
    for (ratio, randomness, before, after) in [
        (0.5, HALF, "", Some("ot=th:8")),
        (0.5, HALF - 1, "", None),
        (0.25, HALF, "", None),
        (1.0, 0, "", Some("")),
        (1.0, 0, "ot=th:8", Some("ot=th:8")),
        (0.0, u64::MAX, "", None),
        // explicit randomness wins over the trace id
        (0.5, 0, "ot=rv:80000000000000", Some("ot=th:8;rv:80000000000000")),
        (0.5, u64::MAX, "ot=rv:7fffffffffffff", None),
        // a threshold is raised, never lowered, and rewritten only if raised
        (0.5, u64::MAX, "a=1,ot=th:4", Some("ot=th:8,a=1")),
        (0.5, u64::MAX, "a=1,ot=th:8", Some("a=1,ot=th:8")),
        (0.5, u64::MAX, "a=1,ot=th:c", Some("a=1,ot=th:c")),
        (0.5, HALF, "ot=th:c", None),
        // malformed: as if it were not there, and left
        (0.5, HALF, "ot=th:XYZ", Some("ot=th:XYZ")),
        (0.5, HALF - 1, "ot=rv:1,ot=rv:2", None),
    ] {
        let (kept, removed, _) = run(&request(&[vec![span(trace_id(randomness), before)]]), ratio);
        let states: Vec<_> = kept.iter().map(|span| span.trace_state.as_str()).collect();
        assert_eq!(states, after.into_iter().collect::<Vec<_>>(), "{ratio} {randomness:x} {before}");
        assert_eq!(removed, u64::from(after.is_none()));
    }
}

#[test]
fn ratio_one_edits_nothing() {
    let request = request(&[vec![span(trace_id(0), ""), span(trace_id(1), "x")], vec![]]);
    let mut edits = EditList::default();
    assert_eq!(sample(&request, &sampler(1.0), &mut edits), Ok(0));
    assert!(edits.is_empty());
}

#[test]
fn messages_without_spans_go_and_so_the_whole_request() {
    let dropped = || span(trace_id(0), "");
    let kept = || span(trace_id(u64::MAX), "ot=th:8");
    let all_dropped = request(&[vec![dropped(), dropped()], vec![], vec![dropped()]]);
    assert_eq!(run(&all_dropped, 0.5), (vec![], 3, vec![]));
    let mixed = request(&[vec![dropped()], vec![dropped(), kept()], vec![dropped()]]);
    assert_eq!(run(&mixed, 0.5), (vec![kept()], 3, request(&[vec![kept()]])));
}

#[test]
fn of_a_repeated_tracestate_the_last_counts() {
    let mut fields = span(trace_id(HALF), "ot=th:4").encode_to_vec();
    fields.extend_from_slice(&span(trace_id(HALF), "ot=th:2").encode_to_vec());
    let mut request = Vec::new();
    crate::otlp::wire::put_message_field(&mut request, REQUEST_RESOURCES, |out| {
        crate::otlp::wire::put_message_field(out, SCOPES, |out| {
            crate::otlp::wire::put_bytes_field(out, ITEMS, &fields);
        });
    });
    assert_eq!(run(&request, 0.5).0[0].trace_state, "ot=th:8");
}

#[test]
fn the_kept_share_is_the_ratio_and_the_spans_of_a_trace_agree() {
    // A multiplicative sequence of trace ids: random enough, and the same in every run.
    let ids = (1..=20_000u64).map(|index| trace_id(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8));
    let groups: Vec<Vec<Span>> = ids.map(|id| vec![span(id, ""), span(id, "vendor=x")]).collect();
    let request = request(&groups);
    for ratio in [0.01, 0.1, 0.5, 0.9] {
        let (kept, removed, _) = run(&request, ratio);
        assert_eq!(kept.len() as u64 + removed, 40_000);
        let share = kept.len() as f64 / 40_000.0;
        assert!((share - ratio).abs() < 0.01, "{share} for {ratio}");
        for pair in kept.chunks(2) {
            assert_eq!(pair[0].trace_id, pair[1].trace_id);
        }
    }
}

#[test]
fn a_lower_ratio_keeps_a_part_of_what_a_higher_one_keeps_in_one_step_or_two() {
    let ids = (1..=2_000u64).map(|index| trace_id(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8));
    let request = request(&[ids.map(|id| span(id, "")).collect()]);
    let (_, _, half) = run(&request, 0.5);
    assert_eq!(run(&half, 0.25).0, run(&request, 0.25).0);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = sample(&bytes, &sampler(0.5), &mut EditList::default());
    }

    #[test]
    fn truncated_requests_never_panic(cut in 0usize..200, state in "[a-z=:;,0-9 ]{0,60}") {
        let request = request(&[vec![span(trace_id(HALF), &state), span(trace_id(0), &state)]]);
        let _ = sample(&request[..cut.min(request.len())], &sampler(0.5), &mut EditList::default());
    }

    #[test]
    fn kept_spans_differ_in_nothing_but_the_threshold(state in "((ot=(th:[0-9a-f]{1,14}|rv:[0-9a-f]{14}|x:y)|[a-z]{1,4}=[a-z]{1,9}),?){0,5}", bits: u64) {
        let before = span(trace_id(bits), &state);
        for mut after in run(&request(&[vec![before.clone()]]), 0.3).0 {
            after.trace_state = state.clone();
            prop_assert_eq!(&after, &before);
        }
    }
}
