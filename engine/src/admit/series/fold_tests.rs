//! What an overflow series grows by.

use super::*;

const SECOND: u64 = 1_000_000_000;
const NOW_S: u32 = 10_000;
const VIEW: View = View { window: Window { now_s: NOW_S, length_s: 3600 }, since_ns: 5_000 * SECOND, max_folded: 3 };
const COUNTER: Family<'static> = Family { job: "shop", metric: "c", unit: "", description: "", histogram: false };
const HISTOGRAM: Family<'static> = Family { histogram: true, ..COUNTER };

fn number(start_s: u64, time_s: u64, value: f64) -> Point<'static> {
    Point { start_ns: start_s * SECOND, time_ns: time_s * SECOND, value: Value::Number(value) }
}

fn fold(folder: &mut Folder, series: u64, point: &Point<'_>) -> Fold {
    let family = if matches!(point.value, Value::Histogram { .. }) { HISTOGRAM } else { COUNTER };
    folder.fold(Fingerprint::new(series), &family, 1, point, &VIEW)
}

fn total(folder: &Folder) -> f64 {
    match &folder.overflows[&1].totals {
        Totals::Number(total) => *total,
        other => panic!("{other:?}"),
    }
}

/// What one series makes the overflow grow, point by point.
fn growth_of(points: &[(u64, u64, f64)]) -> Vec<f64> {
    let mut folder = Folder::default();
    let mut before = 0.0;
    let grown = points.iter().map(|&(start, time, value)| {
        assert!(matches!(fold(&mut folder, 7, &number(start, time, value)), Fold::Taken { overflow: 1, .. }));
        let grown = total(&folder) - before;
        before = total(&folder);
        grown
    });
    grown.collect()
}

#[test]
fn an_overflow_series_grows_by_what_its_series_grow() {
    type Case = (&'static str, &'static [(u64, u64, f64)], &'static [f64]);
    let cases: &[Case] = &[
        ("started in our view: from its start", &[(9_000, 9_100, 5.0), (9_000, 9_200, 8.0)], &[5.0, 3.0]),
        ("no start time: from its first value", &[(0, 9_100, 5.0), (0, 9_200, 8.0)], &[0.0, 3.0]),
        ("started before we looked: from its first value", &[(4_999, 9_100, 5.0), (4_999, 9_200, 8.0)], &[0.0, 3.0]),
        ("started more than a window ago: likewise", &[(6_399, 9_100, 5.0), (6_399, 9_200, 8.0)], &[0.0, 3.0]),
        ("a start in the future is not believed", &[(10_002, 10_003, 5.0)], &[0.0]),
        ("a start behind its point neither", &[(9_200, 9_100, 5.0)], &[0.0]),
        ("a smaller value is a reset", &[(9_000, 9_100, 5.0), (9_000, 9_200, 2.0)], &[5.0, 2.0]),
        ("so is a later start", &[(9_000, 9_100, 5.0), (9_150, 9_200, 7.0)], &[5.0, 7.0]),
        ("the same point again is nothing", &[(9_000, 9_100, 5.0), (9_000, 9_100, 5.0)], &[5.0, 0.0]),
        (
            "a late point is nothing, nor a reset",
            &[(9_000, 9_200, 5.0), (9_000, 9_100, 2.0), (9_000, 9_300, 6.0)],
            &[5.0, 0.0, 1.0],
        ),
    ];
    for (case, points, expected) in cases {
        assert_eq!(growth_of(points), *expected, "{case}");
    }
}

#[test]
fn what_cannot_be_summed_is_refused() {
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        assert_eq!(fold(&mut Folder::default(), 1, &number(0, 1, value)), Fold::Refused, "{value}");
    }
    let unfit = Value::Histogram { counts: &[1, 2], bounds: &[0, 1], sum: None };
    let point = Point { start_ns: 0, time_ns: 1, value: unfit };
    assert_eq!(fold(&mut Folder::default(), 1, &point), Fold::Refused);
}

#[test]
fn there_is_a_bound_on_what_is_folded() {
    let mut folder = Folder::default();
    for series in 1..=3 {
        assert_eq!(fold(&mut folder, series, &number(9_000, 9_001, 1.0)), Fold::Taken { overflow: 1, new: true });
    }
    assert_eq!(fold(&mut folder, 4, &number(9_000, 9_001, 1.0)), Fold::Refused);
    assert_eq!(fold(&mut folder, 3, &number(9_000, 9_002, 2.0)), Fold::Taken { overflow: 1, new: false });
    assert_eq!((folder.folded(), total(&folder)), (3, 4.0));
}

fn bits(bounds: &[f64]) -> Vec<u64> {
    bounds.iter().map(|bound| bound.to_bits()).collect()
}

#[test]
fn histograms_are_summed_bucket_by_bucket() {
    let mut folder = Folder::default();
    let bounds = bits(&[1.0, 5.0]);
    let mut send = |series, time_s: u64, counts: &[u64], sum| {
        let value = Value::Histogram { counts, bounds: &bounds, sum: Some(sum) };
        fold(&mut folder, series, &Point { start_ns: 9_000 * SECOND, time_ns: time_s * SECOND, value })
    };
    let taken = |new| Fold::Taken { overflow: 1, new };
    assert_eq!(send(1, 9_001, &[1, 2, 3, 6], 30.0), taken(true));
    assert_eq!(send(2, 9_001, &[0, 1, 0, 1], 4.0), taken(true));
    assert_eq!(send(1, 9_002, &[1, 4, 3, 8], 38.0), taken(false));
    // A reset: fewer in any bucket.
    assert_eq!(send(1, 9_003, &[2, 0, 0, 2], 1.5), taken(false));
    let totals = &folder.overflows[&1].totals;
    let expected = Totals::Histogram { counts: vec![3, 5, 3, 11], bounds: bounds.clone(), sum: Some(43.5) };
    assert_eq!(*totals, expected);
    let other = bits(&[1.0, 6.0]);
    for (bounds, sum) in [(&other, Some(1.0)), (&bounds, None)] {
        let value = Value::Histogram { counts: &[1, 1, 1, 3], bounds, sum };
        let point = Point { start_ns: 0, time_ns: 9_001 * SECOND, value };
        assert_eq!(fold(&mut folder, 3, &point), Fold::Refused, "other buckets cannot be added");
    }
}

#[test]
fn a_series_that_gets_room_leaves_what_it_grew_behind() {
    let mut folder = Folder::default();
    fold(&mut folder, 1, &number(9_000, 9_001, 5.0));
    assert_eq!(folder.graduate(Fingerprint::new(1), &number(9_000, 9_002, 9.0)), Some(1));
    assert_eq!((folder.folded(), total(&folder)), (0, 9.0));
    assert_eq!(folder.graduate(Fingerprint::new(1), &number(9_000, 9_003, 12.0)), None);
}

#[test]
fn what_is_folded_is_forgotten_a_window_after_its_last_point() {
    let mut folder = Folder::default();
    fold(&mut folder, 1, &number(9_000, 9_001, 5.0));
    let later = View { window: Window { now_s: NOW_S + 3601, length_s: 3600 }, ..VIEW };
    let other = Family { metric: "d", ..COUNTER };
    folder.fold(Fingerprint::new(2), &other, 2, &number(9_000, 9_001, 5.0), &later);
    assert_eq!((folder.folded(), folder.overflows()), (1, 1));
}
