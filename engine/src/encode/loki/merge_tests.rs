//! Requests joined in one push.

use super::super::merge::merge;
use super::*;

fn stream(labels: &str, entries: &[(u64, &str)]) -> Stream {
    let entry = |&(nanos, line): &(u64, &str)| Entry {
        timestamp: Some(Timestamp { seconds: (nanos / 10) as i64, nanos: (nanos % 10) as i32 }),
        line: line.into(),
        metadata: vec![LabelPair { name: "n".into(), value: line.into() }],
    };
    Stream { labels: labels.into(), entries: entries.iter().map(entry).collect() }
}

fn push(streams: Vec<Stream>) -> Vec<u8> {
    PushRequest { streams }.encode_to_vec()
}

fn merged(parts: &[Vec<u8>]) -> Option<PushRequest> {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    merge(&parts).map(|bytes| PushRequest::decode(bytes.as_slice()).unwrap())
}

#[test]
fn a_stream_of_several_requests_becomes_one_in_order_of_time() {
    let first = push(vec![stream("{a}", &[(11, "b"), (30, "d")]), stream("{b}", &[(5, "x")])]);
    let second = push(vec![stream("{a}", &[(9, "a"), (11, "c")])]);
    let expected = vec![stream("{a}", &[(9, "a"), (11, "b"), (11, "c"), (30, "d")]), stream("{b}", &[(5, "x")])];
    assert_eq!(merged(&[first, second]).unwrap().streams, expected);
}

#[test]
fn a_push_in_order_is_left_alone() {
    let parts = [push(vec![stream("{a}", &[(1, "a"), (1, "b")])]), push(vec![stream("{b}", &[(0, "c")])])];
    assert_eq!(merged(&parts), None);
    assert_eq!(merged(&[]), None);
    assert_eq!(merged(&[push(vec![stream("{a}", &[(2, "b"), (1, "a")])])]).unwrap().streams[0].entries[0].line, "a");
}

#[test]
fn what_is_no_push_is_left_alone() {
    let good = push(vec![stream("{a}", &[(1, "a")])]);
    assert_eq!(merged(&[b"some".to_vec(), b"thing".to_vec()]), None);
    assert_eq!(merged(&[good.clone(), good[..good.len() - 1].to_vec()]), None);
}

#[test]
fn fields_that_we_do_not_know_are_kept() {
    // StreamAdapter.hash = 3, and something of PushRequest that there is not yet.
    let with_hash = |entries: &[(u64, &str)]| {
        let mut inner = stream("{a}", entries).encode_to_vec();
        inner.extend([0x18, 0x2a]);
        let mut out = Vec::new();
        put_bytes_field(&mut out, STREAMS, &inner);
        put_bytes_field(&mut out, 9, b"later");
        out
    };
    let (one, two) = (with_hash(&[(2, "b")]), with_hash(&[(1, "a")]));
    let out = merge(&[&one, &two]).unwrap();
    let mut fields = Reader::new(&out);
    let first = fields.next_field().unwrap().unwrap();
    assert!(first.bytes().unwrap().ends_with(&[0x18, 0x2a, 0x18, 0x2a]));
    let rest: Vec<_> =
        std::iter::from_fn(|| fields.next_field().unwrap()).map(|field| field.bytes().unwrap()).collect();
    assert_eq!(rest, [b"later", b"later"]);
}

proptest! {
    #[test]
    fn nothing_is_lost_and_everything_in_order(
        parts in vec(vec((0usize..3, vec(0u64..40, 0..5)), 0..4), 0..5)
    ) {
        let mut number = 0;
        let parts: Vec<PushRequest> = parts.into_iter().map(|streams| PushRequest {
            streams: streams.into_iter().map(|(labels, times)| {
                let lines: Vec<(u64, String)> = times.into_iter().map(|time| { number += 1; (time, number.to_string()) }).collect();
                let lines: Vec<(u64, &str)> = lines.iter().map(|(time, line)| (*time, line.as_str())).collect();
                stream(["{a}", "{b}", "{c}"][labels], &lines)
            }).collect(),
        }).collect();
        let encoded: Vec<Vec<u8>> = parts.iter().map(Message::encode_to_vec).collect();
        // By stream, in order of time, those of one instant as they came.
        let mut expected: Vec<Stream> = Vec::new();
        for one in parts.into_iter().flat_map(|part| part.streams) {
            match expected.iter_mut().find(|known| known.labels == one.labels) {
                Some(known) => known.entries.extend(one.entries),
                None => expected.push(one),
            }
        }
        for stream in &mut expected {
            stream.entries.sort_by_key(|entry| entry.timestamp.as_ref().map(|time| (time.seconds, time.nanos)));
        }
        let left = || PushRequest::decode(encoded.concat().as_slice()).unwrap();
        prop_assert_eq!(merged(&encoded).unwrap_or_else(left).streams, expected);
    }

    #[test]
    fn bytes_that_are_no_push_do_no_harm_in_joining(parts in vec(vec(any::<u8>(), 0..60), 0..4)) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let _ = merge(&parts);
    }
}
