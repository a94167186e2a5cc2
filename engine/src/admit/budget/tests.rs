use super::*;
use proptest::prelude::*;

/// Time steps, costs and reloads of the property tests.
const SECOND: u64 = 1_000_000_000;

fn rate(per_second: f64, burst: f64) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

fn items(per_second: f64, burst: f64) -> Quota {
    Quota { items: rate(per_second, burst), ..Quota::default() }
}

/// A budget with what it stands in; every item is ten bytes long.
struct Tenant {
    budget: Budget,
    volume: Volume,
    periods: Periods,
}

impl Tenant {
    fn new(quota: &Quota) -> Tenant {
        Tenant { budget: Budget::new(quota), volume: Volume::default(), periods: Periods::default() }
    }

    fn take(&self, now_ns: u64, items: u64, bytes: u64) -> Result<Grant, OverQuota> {
        let around = Surroundings { signal: Signal::Traces, volume: &self.volume, periods: &self.periods };
        self.budget.take(now_ns, Cost { items, bytes }, around, |max_items, max_bytes| {
            let fits = items.min(max_items).min(max_bytes / 10);
            Prefix { items: fits, bytes: fits * 10 }
        })
    }
}

#[test]
fn over_the_burst_the_delay_is_the_real_refill_time() {
    let tenant = Tenant::new(&items(10.0, 20.0));
    assert_eq!(tenant.take(0, 20, 0), Ok(Grant::Whole));
    let over = tenant.take(0, 5, 0).unwrap_err();
    assert_eq!(over.limit, Limit::ItemsPerSecond);
    assert!((over.retry_after.as_secs_f64() - 0.5).abs() < 1e-6);
    let later = over.retry_after.as_nanos() as u64;
    assert!(tenant.take(later - 10_000, 5, 0).is_err(), "a little early is refused");
    assert_eq!(tenant.take(later, 5, 0), Ok(Grant::Whole), "after the delay it is admitted");
}

#[test]
fn a_request_over_the_burst_passes_when_rested_and_leaves_a_debt() {
    let tenant = Tenant::new(&items(10.0, 20.0));
    assert_eq!(tenant.take(0, 100, 0), Ok(Grant::Whole));
    let over = tenant.take(0, 1, 0).unwrap_err();
    assert!((over.retry_after.as_secs_f64() - 8.1).abs() < 1e-6);
}

#[test]
fn limits_are_taken_together_or_not_at_all() {
    let quota = Quota {
        requests: rate(1.0, 4.0),
        items: rate(10.0, 10.0),
        bytes: rate(1.0, 100.0),
        volume: VolumeLimits { daily_bytes: Some(150), monthly_bytes: None },
        ..Quota::default()
    };
    let tenant = Tenant::new(&quota);
    assert_eq!(tenant.take(0, 1, 100), Ok(Grant::Whole));
    assert_eq!(tenant.take(0, 1, 100).unwrap_err().limit, Limit::BytesPerSecond);
    assert_eq!(tenant.take(0, 9, 0), Ok(Grant::Whole), "the refused request took no items");
    assert_eq!(tenant.take(0, 1, 0).unwrap_err().limit, Limit::ItemsPerSecond);
    assert_eq!(tenant.volume.lock().of(Signal::Traces, Period::Day), 100, "nor volume");
    assert_eq!(tenant.take(0, 0, 0), Ok(Grant::Whole));
    assert_eq!(tenant.take(0, 0, 0), Ok(Grant::Whole), "nor requests");
    assert_eq!(tenant.take(0, 0, 0).unwrap_err().limit, Limit::RequestsPerSecond);
}

#[test]
fn a_reload_leaves_the_bucket_as_full_as_it_was() {
    let tenant = Tenant::new(&items(10.0, 20.0));
    assert_eq!(tenant.take(0, 20, 0), Ok(Grant::Whole));
    tenant.budget.update(0, &items(100.0, 20.0));
    let over = tenant.take(0, 10, 0).unwrap_err();
    assert!((over.retry_after.as_secs_f64() - 0.1).abs() < 1e-6);
    // Half a second at 100/s would fill it; the time before the change counts at the old rate.
    tenant.budget.update(SECOND, &items(10.0, 40.0));
    tenant.budget.update(SECOND, &items(10.0, 4.0));
    assert_eq!(tenant.take(SECOND, 4, 0), Ok(Grant::Whole));
    tenant.budget.update(SECOND, &items(10.0, 4000.0));
    assert!(tenant.take(SECOND, 1, 0).is_err(), "an empty bucket stays empty, whatever its size");
}

#[test]
fn trimming_takes_what_fits_and_refuses_if_nothing_does() {
    let tenant = Tenant::new(&Quota { over_limit: OverLimit::Trim, bytes: rate(100.0, 150.0), ..items(10.0, 20.0) });
    let trimmed = |items, limit| Ok(Grant::Trimmed { items, limit });
    assert_eq!(tenant.take(0, 12, 120), Ok(Grant::Whole));
    assert_eq!(tenant.take(0, 12, 120), trimmed(3, Limit::BytesPerSecond), "30 bytes were left");
    let over = tenant.take(0, 12, 120).unwrap_err();
    assert_eq!(over.limit, Limit::BytesPerSecond);
    assert!((over.retry_after.as_secs_f64() - 1.2).abs() < 1e-6);
    assert_eq!(tenant.take(10 * SECOND, 100, 0), trimmed(15, Limit::ItemsPerSecond), "a full bucket makes no debt");
}

#[test]
fn an_item_larger_than_a_burst_is_taken_alone() {
    let tenant = Tenant::new(&Quota { over_limit: OverLimit::Trim, bytes: rate(5.0, 5.0), ..Quota::default() });
    assert_eq!(tenant.take(0, 3, 30), Ok(Grant::Trimmed { items: 1, limit: Limit::BytesPerSecond }));
    assert!((tenant.take(0, 3, 30).unwrap_err().retry_after.as_secs_f64() - 2.0).abs() < 1e-6);
}

#[test]
fn volume_is_of_the_signal_or_of_the_whole_tenant_and_ends_with_its_period() {
    let tenant = Tenant::new(&Quota {
        volume: VolumeLimits { daily_bytes: Some(1000), monthly_bytes: None },
        ..Quota::default()
    });
    tenant.volume.limit(VolumeLimits { daily_bytes: None, monthly_bytes: Some(1500) });
    tenant.periods.set_end(Period::Day, 60 * SECOND);
    assert_eq!(tenant.take(0, 1, 999), Ok(Grant::Whole));
    assert_eq!(tenant.take(0, 1, 400), Ok(Grant::Whole), "as long as something is left");
    let over = tenant.take(20 * SECOND, 1, 1).unwrap_err();
    let limit = Limit::Volume(VolumeLimit { period: Period::Day, signal: Some(Signal::Traces) });
    assert_eq!(over, OverQuota { limit, retry_after: Duration::from_secs(40) });
    tenant.volume.start(Period::Day);
    assert_eq!(tenant.take(60 * SECOND, 1, 101), Ok(Grant::Whole));
    let over = tenant.take(60 * SECOND, 1, 1).unwrap_err();
    let limit = Limit::Volume(VolumeLimit { period: Period::Month, signal: None });
    assert_eq!(over, OverQuota { limit, retry_after: MAX_RETRY_AFTER }, "nobody said when the month ends");
}

#[test]
fn what_was_used_before_the_start_counts() {
    let tenant = Tenant::new(&Quota {
        volume: VolumeLimits { daily_bytes: Some(100), ..VolumeLimits::default() },
        ..Quota::default()
    });
    assert_eq!(tenant.take(0, 1, 40), Ok(Grant::Whole));
    tenant.volume.set_before(Signal::Traces, 60, 60);
    assert!(tenant.take(0, 1, 1).is_err());
    tenant.volume.set_before(Signal::Traces, 59, 60);
    assert_eq!(tenant.take(0, 1, 1), Ok(Grant::Whole));
}

#[test]
fn trimming_stays_within_the_volume() {
    let tenant = Tenant::new(&Quota {
        over_limit: OverLimit::Trim,
        volume: VolumeLimits { daily_bytes: Some(100), monthly_bytes: None },
        ..Quota::default()
    });
    assert!(matches!(tenant.take(0, 30, 300), Ok(Grant::Trimmed { items: 10, limit: Limit::Volume(_) })));
    assert!(tenant.take(0, 1, 10).is_err());
}

/// Sends requests of `size` items at `offered` a second through a downsampling budget; the real outcome of each is what
/// `outcome` makes of the expected one. Returns (taken by second, refused, thresholds).
fn downsample(
    tenant: &Tenant,
    offered: f64,
    size: u64,
    seconds: f64,
    mut outcome: impl FnMut(u64, f64) -> u64,
) -> (Vec<u64>, u64, Vec<f64>) {
    let (mut taken, mut refused, mut shares) = (vec![0; seconds as usize + 1], 0, Vec::new());
    let step = size as f64 / offered;
    let mut now = 0.0;
    while now < seconds {
        match tenant.take((now * 1e9) as u64, size, 0) {
            Ok(Grant::Downsampled { threshold, expected }) => {
                let kept = outcome(size, threshold.probability());
                tenant.budget.settle(expected, kept);
                taken[now as usize] += kept;
                shares.push(threshold.probability());
            }
            Ok(_) => {
                taken[now as usize] += size;
                shares.push(1.0);
            }
            Err(_) => refused += 1,
        }
        now += step;
    }
    (taken, refused, shares)
}

fn downsampling(per_second: f64, burst: f64) -> Tenant {
    Tenant::new(&Quota { over_limit: OverLimit::Downsample, ..items(per_second, burst) })
}

#[test]
fn what_stays_of_an_overload_is_the_rate_and_nothing_is_refused() {
    for factor in [1.5, 10.0, 200.0] {
        let tenant = downsampling(1000.0, 1000.0);
        let mut carry = 0.0;
        let (taken, refused, shares) = downsample(&tenant, 1000.0 * factor, 50, 20.0, |size, share| {
            carry += size as f64 * share;
            let kept = carry as u64;
            carry -= kept as f64;
            kept
        });
        let steady: u64 = taken[5..20].iter().sum();
        assert!((steady as f64 / 15_000.0 - 1.0).abs() < 0.03, "{factor}: {taken:?}");
        assert_eq!(refused, 0, "{factor}");
        // Smooth: between two requests the share moves by little.
        let later = &shares[shares.len() / 2..];
        assert!(later.windows(2).all(|pair| (pair[1] / pair[0] - 1.0).abs() < 0.25), "{factor}");
        assert!(later.iter().all(|share| (share * factor - 1.0).abs() < 0.25), "{factor}: {:?}", &later[..20]);
    }
}

#[test]
fn under_the_rate_everything_stays_and_after_an_overload_it_does_so_again() {
    let tenant = downsampling(1000.0, 1000.0);
    let (_, _, shares) = downsample(&tenant, 900.0, 10, 10.0, |size, _| size);
    assert!(shares.iter().all(|share| *share == 1.0));
    let half = |size: u64, share: f64| (size as f64 * share) as u64;
    let tenant = downsampling(1000.0, 1000.0);
    downsample(&tenant, 50_000.0, 100, 10.0, half);
    let mut share = 0.0;
    for tick in 0..200 {
        let now = 10 * SECOND + tick * SECOND / 10;
        share = match tenant.take(now, 10, 0) {
            Ok(Grant::Downsampled { threshold, .. }) => threshold.probability(),
            _ => 1.0,
        };
    }
    assert_eq!(share, 1.0);
}

#[test]
fn a_burst_that_is_used_up_at_once_is_no_reason_to_refuse_the_next_request() {
    let tenant = downsampling(200.0, 200.0);
    assert_eq!(tenant.take(0, 200, 0), Ok(Grant::Whole));
    let Ok(Grant::Downsampled { threshold, expected }) = tenant.take(1000, 200, 0) else { panic!("refused") };
    assert!((threshold.probability() * 200.0 - expected).abs() < 1e-9);
    tenant.budget.settle(expected, 40);
    let over = tenant.take(2000, 200, 0).unwrap_err();
    assert!((over.retry_after.as_secs_f64() - 0.1).abs() < 0.01, "{over:?}: 20 of the 40 are too much of a debt");
}

#[test]
fn whoever_sends_only_what_always_stays_is_refused_with_the_honest_delay() {
    let tenant = downsampling(100.0, 100.0);
    let (taken, refused, shares) = downsample(&tenant, 10_000.0, 100, 20.0, |size, _| size);
    let total: u64 = taken.iter().sum();
    assert!(total as f64 <= 100.0 * 21.0 + 200.0, "{total}");
    assert!(refused > 0);
    assert!(shares.iter().all(|share| *share >= super::super::limiter::MIN_PROBABILITY));
    let over = tenant.take(20 * SECOND, 100, 0);
    if let Err(over) = over {
        let later = 20 * SECOND + over.retry_after.as_nanos() as u64;
        assert!(tenant.take(later, 100, 0).is_ok());
    }
}

#[test]
fn many_threads_never_get_more_than_burst_plus_rate() {
    let tenant = Tenant::new(&Quota { requests: rate(200.0, 100.0), ..items(1000.0, 500.0) });
    let started = std::time::Instant::now();
    let taken = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while started.elapsed() < Duration::from_millis(300) {
                    if tenant.take(started.elapsed().as_nanos() as u64, 3, 30).is_ok() {
                        taken.fetch_add(3, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = 100.0 + 200.0 * started.elapsed().as_secs_f64();
    let taken = taken.into_inner();
    assert!(taken as f64 <= 3.0 * most + 3.0, "{taken}");
    assert!(taken as f64 >= 3.0 * 150.0, "{taken}: and they get what there is");
    assert_eq!(tenant.volume.lock().of(Signal::Traces, Period::Day), taken * 10);
}

/// A bucket as one would write it down: no laziness, exact refill before every event.
struct Model {
    per_second: f64,
    burst: f64,
    level: f64,
    at: u64,
}

impl Model {
    fn advance(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.at) as f64 / 1e9;
        self.level = self.burst.min(self.level + elapsed * self.per_second);
        self.at = now;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Take { items: u64, bytes: u64 },
    Reload { items_per_second: f64, burst: f64 },
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        4 => (0u64..60, 0u64..600).prop_map(|(items, bytes)| Step::Take { items, bytes }),
        1 => (1.0f64..100.0, 1.0f64..200.0).prop_map(|(items_per_second, burst)| Step::Reload { items_per_second, burst }),
    ];
    proptest::collection::vec((0u64..2_000_000_000, step), 1..120)
}

proptest! {
    #[test]
    fn buckets_do_as_the_model_does(steps in steps()) {
        let bytes_rate = Rate { per_second: 250.0, burst: 900.0 };
        let tenant = Tenant::new(&Quota { bytes: Some(bytes_rate), ..items(25.0, 60.0) });
        let mut of_items = Model { per_second: 25.0, burst: 60.0, level: 60.0, at: 0 };
        let mut of_bytes = Model { per_second: 250.0, burst: 900.0, level: 900.0, at: 0 };
        let mut now = 0;
        for (pause, step) in steps {
            now += pause;
            of_items.advance(now);
            of_bytes.advance(now);
            match step {
                Step::Reload { items_per_second, burst } => {
                    tenant.budget.update(now, &Quota { bytes: Some(bytes_rate), ..items(items_per_second, burst) });
                    of_items.level *= burst / of_items.burst;
                    of_items.per_second = items_per_second;
                    of_items.burst = burst;
                }
                Step::Take { items, bytes } => {
                    let lacks = |model: &Model, cost: u64| (cost as f64).min(model.burst) - model.level;
                    let (items_lack, bytes_lack) = (lacks(&of_items, items), lacks(&of_bytes, bytes));
                    // On the edge of a rounding error either answer is right.
                    prop_assume!(items_lack.abs() > 1e-6 && bytes_lack.abs() > 1e-6);
                    match tenant.take(now, items, bytes) {
                        Ok(_) => {
                            prop_assert!(items_lack < 0.0 && bytes_lack < 0.0);
                            of_items.level -= items as f64;
                            of_bytes.level -= bytes as f64;
                        }
                        Err(over) => {
                            let longest = (items_lack / of_items.per_second).max(bytes_lack / of_bytes.per_second);
                            prop_assert!(longest > 0.0);
                            prop_assert!((over.retry_after.as_secs_f64() - longest).abs() < 1e-5);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_schedule_gets_more_than_burst_plus_rate_times_time(
        steps in proptest::collection::vec((0u64..2_000_000_000, 0u64..50), 1..200), trim: bool
    ) {
        let (rate, burst) = (25.0, 60.0);
        let over_limit = if trim { OverLimit::Trim } else { OverLimit::Reject };
        let tenant = Tenant::new(&Quota { over_limit, ..items(rate, burst) });
        let (mut now, mut taken) = (0u64, 0u64);
        for (pause, cost) in steps {
            now += pause;
            taken += match tenant.take(now, cost, cost * 10) {
                Ok(Grant::Trimmed { items, .. }) => items,
                Ok(_) => cost,
                Err(_) => 0,
            };
            prop_assert!(taken as f64 <= burst + rate * now as f64 * 1e-9 + 1e-5);
        }
    }
}
