//! What quotas cost: the budget of one request with every limit on, and the label limits on 512 typical spans.

use _engine::admit::labels::refuse_items;
use _engine::admit::volume::{Periods, Volume};
use _engine::admit::{Budget, Cost, Surroundings};
use _engine::mask::check_and_mask;
use _engine::otlp::edit::EditList;
use _engine::otlp::items::Prefix;
use _engine::otlp::wire::{put_bytes_field, put_message_field};
use _engine::otlp::{count_items, Signal};
use _engine::policy::{LabelLimits, OverLimit, Quota, Rate, VolumeLimits};
use criterion::{criterion_group, criterion_main, Criterion};

const SPANS: u64 = 512;

fn request() -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| {
        put_message_field(out, 2, |out| {
            for index in 0..SPANS {
                put_message_field(out, 2, |out| {
                    let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                    put_bytes_field(out, 1, &[id, id].concat());
                    put_bytes_field(out, 2, &id);
                    put_bytes_field(out, 5, b"POST /api/v1/checkout");
                    for attribute in 0..10 {
                        put_message_field(out, 9, |out| {
                            put_bytes_field(out, 1, format!("http.request.attribute.{attribute}").as_bytes());
                            put_message_field(out, 2, |out| {
                                put_bytes_field(out, 1, b"shop.example.com/api/v1/checkout")
                            });
                        });
                    }
                });
            }
        });
    });
    out
}

fn quotas(criterion: &mut Criterion) {
    let limit = Some(Rate { per_second: 1e12, burst: 1e12 });
    let volume_limits = VolumeLimits { daily_bytes: Some(u64::MAX), monthly_bytes: Some(u64::MAX) };
    let (volume, periods) = (Volume::default(), Periods::default());
    volume.limit(volume_limits);
    let around = Surroundings { signal: Signal::Traces, volume: &volume, periods: &periods };
    let mut group = criterion.benchmark_group("quotas");
    for (name, over_limit) in
        [("reject", OverLimit::Reject), ("trim", OverLimit::Trim), ("downsample", OverLimit::Downsample)]
    {
        let quota = Quota {
            requests: limit,
            items: limit,
            bytes: limit,
            volume: volume_limits,
            over_limit,
            ..Quota::default()
        };
        let budget = Budget::new(&quota);
        let mut now = 0;
        group.bench_function(format!("budget, every limit, {name}"), |bencher| {
            bencher.iter(|| {
                now += 1_000;
                let cost = Cost { items: SPANS, bytes: 400_000 };
                budget.take(now, cost, around, |_, _| Prefix::default()).is_ok()
            });
        });
    }
    let request = request();
    let mut edits = EditList::default();
    group.sample_size(50).bench_function("count and validate 512 spans", |bencher| {
        bencher.iter(|| {
            count_items(Signal::Traces, &request).expect("valid");
            check_and_mask(Signal::Traces, &request, None, None, &mut edits, None).expect("valid").extent
        });
    });
    let limits = LabelLimits {
        max_attributes: Some(128),
        max_attribute_key_bytes: Some(256),
        max_attribute_value_bytes: Some(4096),
    };
    let extent = check_and_mask(Signal::Traces, &request, None, None, &mut edits, None).expect("valid").extent;
    assert!(!limits.may_refuse(&extent), "typical attributes pass at a glance");
    group.bench_function("label limits, closer look at 512 spans", |bencher| {
        bencher.iter(|| refuse_items(Signal::Traces, &request, &limits, &mut edits).expect("valid"));
    });
    group.finish();
}

criterion_group!(benches, quotas);
criterion_main!(benches);
