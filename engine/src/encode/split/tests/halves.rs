use super::*;
use crate::otlp::count_items;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_varint_field};

proptest! {
    #[test]
    fn the_halves_hold_every_item_with_its_surroundings_in_order(format in formats(), shape in shapes()) {
        let whole = request(format, &shape);
        let expected = items(format, &whole);
        let total: usize = shape.iter().flatten().flatten().sum();
        prop_assert_eq!(expected.len(), total);
        match halve(format, &whole).unwrap() {
            None => prop_assert!(total <= 1),
            Some((left, right)) => {
                let mut both = items(format, &left.payload);
                prop_assert_eq!(both.len() as u64, left.items);
                both.extend(items(format, &right.payload));
                prop_assert_eq!(&both, &expected);
                prop_assert_eq!(left.items + right.items, total as u64);
                prop_assert!(left.items.min(right.items) * 4 >= total as u64 || left.items == total as u64 / 2);
                let joined = [left.payload.as_slice(), &right.payload].concat();
                prop_assert_eq!(items(format, &joined), expected);
                if format == Format::RemoteWrite {
                    prop_assert_eq!(beside(&joined), beside(&whole));
                }
                if let Format::Otlp(signal) = format {
                    prop_assert_eq!(count_items(signal, &left.payload), Ok(left.items));
                }
            }
        }
    }

    #[test]
    fn halving_the_halves_ends_with_single_items(format in formats(), shape in shapes()) {
        let whole = request(format, &shape);
        let total: usize = shape.iter().flatten().flatten().sum();
        let mut singles = Vec::new();
        let mut rest = vec![(whole.clone(), 0)];
        while let Some((payload, depth)) = rest.pop() {
            match halve(format, &payload).unwrap() {
                // Three quarters, again and again, and rounded up at the end.
                Some((left, right)) => {
                    prop_assert!(depth < 3 + (total as f64).log(4.0 / 3.0) as usize);
                    rest.extend([(right.payload, depth + 1), (left.payload, depth + 1)]);
                }
                None => singles.push(items(format, &payload)),
            }
        }
        prop_assert!(total < 2 || singles.iter().all(|single| single.len() == 1));
        prop_assert_eq!(singles.concat(), items(format, &whole));
    }

    #[test]
    fn broken_requests_are_refused_or_halved_but_never_panic(
        format in formats(), shape in shapes(), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = request(format, &shape);
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(Some((left, right))) = halve(format, &bytes) {
            prop_assert!(left.items > 0 && right.items > 0);
            for half in [left, right] {
                let level = Level::of(format);
                prop_assert_eq!(count(level, Reader::new(&half.payload)), Ok(half.items));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(format in formats(), bytes in vec(any::<u8>(), 0..300)) {
        let _either = halve(format, &bytes);
    }
}

#[test]
fn the_cut_is_between_messages_unless_one_of_them_dominates() {
    for (shape, left) in [
        (vec![vec![vec![3]], vec![vec![3]]], 3),
        (vec![vec![vec![1]], vec![vec![2]], vec![vec![4]]], 3),
        (vec![vec![vec![1]], vec![vec![3]]], 1),
        (vec![vec![vec![1]], vec![vec![4]]], 2),
        (vec![vec![vec![8]]], 4),
        (vec![vec![], vec![vec![1]], vec![], vec![vec![1]]], 1),
    ] {
        for format in FORMATS {
            let (half, _) = halve(format, &request(format, &shape)).unwrap().unwrap();
            assert_eq!(half.items, left, "{format:?} {shape:?}");
        }
    }
}

#[test]
fn exemplars_go_with_the_samples_of_their_time() {
    let series = TimeSeries {
        labels: vec![],
        samples: [10, 20, 30, 40].map(|timestamp| Sample { timestamp }).into(),
        exemplars: [5, 20, 21, 45].map(|timestamp| Exemplar { timestamp }).into(),
    };
    let whole = WriteRequest { timeseries: vec![series], metadata: vec![] }.encode_to_vec();
    let (left, right) = halve(Format::RemoteWrite, &whole).unwrap().unwrap();
    assert_eq!(beside(&left.payload).1, [5, 20].map(|timestamp| Exemplar { timestamp }));
    assert_eq!(beside(&right.payload).1, [21, 45].map(|timestamp| Exemplar { timestamp }));
}

#[test]
fn what_nobody_knows_stays_around_both_halves() {
    const UNKNOWN: u32 = 999;
    let mut whole = Vec::new();
    put_varint_field(&mut whole, UNKNOWN, 1);
    put_message_field(&mut whole, 1, |out| {
        put_varint_field(out, UNKNOWN, 2);
        put_message_field(out, 2, |out| {
            put_varint_field(out, UNKNOWN, 3);
            put_bytes_field(out, 2, b"");
            put_bytes_field(out, 2, b"");
        });
    });
    let (left, right) = halve(Format::Otlp(Signal::Logs), &whole).unwrap().unwrap();
    let half = {
        let mut half = Vec::new();
        put_varint_field(&mut half, UNKNOWN, 1);
        put_message_field(&mut half, 1, |out| {
            put_varint_field(out, UNKNOWN, 2);
            put_message_field(out, 2, |out| {
                put_varint_field(out, UNKNOWN, 3);
                put_bytes_field(out, 2, b"");
            });
        });
        half
    };
    assert_eq!((left.payload, right.payload), (half.clone(), half));
}

#[test]
fn two_huge_items_come_apart() {
    let entries = vec![vec![7; 3 << 20], vec![8; 3 << 20]];
    let stream = Stream { labels: "{}".into(), entries, hash: 0 };
    let whole = PushRequest { streams: vec![stream] }.encode_to_vec();
    let (left, right) = halve(Format::Loki, &whole).unwrap().unwrap();
    assert_eq!((left.items, right.items), (1, 1));
    assert!(left.payload.len() < 4 << 20 && right.payload.len() < 4 << 20);
    assert_eq!(halve(Format::Loki, &left.payload), Ok(None));
}
