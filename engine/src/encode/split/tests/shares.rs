use std::collections::BTreeMap;

use super::*;

/// The items, by what a shard must keep together: labels, stream or resource.
fn by_identity(format: Format, payload: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in items(format, payload) {
        let identity = match format {
            // What stands around an item begins with the resource; its debug form is one line.
            Format::Otlp(_) => item.split("schema_url").next().unwrap_or_default().split(", \"https").next(),
            Format::RemoteWrite | Format::Loki => item.split("] ").next(),
        };
        kept.entry(identity.unwrap_or_default().to_owned()).or_default().push(item);
    }
    kept
}

proptest! {
    #[test]
    fn every_item_is_in_one_share_and_what_belongs_together_in_order_in_one(
        format in formats(), shape in shapes(), shards in 1usize..9
    ) {
        let whole = request(format, &shape);
        let total: usize = shape.iter().flatten().flatten().sum();
        let dealt = deal(format, shards, whole.clone()).unwrap();
        prop_assert_eq!(dealt.iter().map(|share| share.items).sum::<u64>(), total as u64);
        prop_assert!(dealt.windows(2).all(|pair| pair[0].shard < pair[1].shard));
        prop_assert!(dealt.iter().all(|share| share.shard < shards && (share.items > 0 || dealt.len() == 1)));
        prop_assert_eq!(dealt.iter().map(|share| share.payload.len()).sum::<usize>(), whole.len());
        let expected = by_identity(format, &whole);
        let mut found = BTreeMap::new();
        for share in &dealt {
            prop_assert_eq!(items(format, &share.payload).len() as u64, share.items);
            for (identity, items) in by_identity(format, &share.payload) {
                prop_assert!(found.insert(identity, items).is_none(), "in two shards");
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn random_bytes_never_panic(format in formats(), shards in 1usize..9, bytes in vec(any::<u8>(), 0..300)) {
        let _either = deal(format, shards, bytes);
    }
}

fn series(label: &str) -> TimeSeries {
    TimeSeries { labels: vec![label.into(), b"job".into()], samples: vec![Sample { timestamp: 1 }], exemplars: vec![] }
}

/// Of one series by itself.
fn shard(label: &str, shards: usize) -> usize {
    let whole = WriteRequest { timeseries: vec![series(label)], metadata: vec![] }.encode_to_vec();
    deal(Format::RemoteWrite, shards, whole).unwrap()[0].shard
}

#[test]
fn a_series_stays_in_its_shard_over_restarts_and_versions() {
    // What is queued was dealt by these numbers: they never change.
    let shards = ["up", "http_requests_total", "memory_bytes", "queue_length", ""].map(|label| shard(label, 64));
    assert_eq!(shards, [62, 8, 51, 42, 43]);
}

#[test]
fn shards_get_about_the_same() {
    let mut counts = [0; 4];
    (0..4000).for_each(|index| counts[shard(&format!("series {index}"), 4)] += 1);
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn metadata_goes_with_the_series_before_it() {
    let mut whole = WriteRequest { timeseries: vec![], metadata: vec![b"first".into()] }.encode_to_vec();
    for index in 0..20 {
        let request = WriteRequest {
            timeseries: vec![series(&format!("series {index}"))],
            metadata: vec![format!("of series {index}").into_bytes()],
        };
        whole.extend(request.encode_to_vec());
    }
    let dealt = deal(Format::RemoteWrite, 4, whole).unwrap();
    assert_eq!(dealt.len(), 4);
    for share in dealt {
        let request = WriteRequest::decode(share.payload.as_slice()).unwrap();
        let metadata: Vec<_> = request.metadata.into_iter().filter(|metadata| metadata != b"first").collect();
        let expected: Vec<_> =
            request.timeseries.iter().map(|series| [b"of ", series.labels[0].as_slice()].concat()).collect();
        assert_eq!(metadata, expected);
    }
}

#[test]
fn what_is_of_one_shard_is_handed_on_as_it_is() {
    let whole = WriteRequest { timeseries: vec![series("a"), series("a")], metadata: vec![] }.encode_to_vec();
    let place = whole.as_ptr();
    let dealt = deal(Format::RemoteWrite, 4, whole).unwrap();
    assert_eq!((dealt.len(), dealt[0].payload.as_ptr()), (1, place));
}

#[test]
fn what_holds_no_item_is_one_share() {
    assert_eq!(deal(Format::Loki, 4, Vec::new()), Ok(vec![Dealt { shard: 0, payload: Vec::new(), items: 0 }]));
}
