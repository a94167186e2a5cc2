//! Admission: is there room for this request in its tenant's budget, and in the gateway's memory?

pub mod bucket;
pub mod inflight;
pub mod series;

use std::sync::Mutex;
use std::time::Duration;

use crate::batch::lock;
use crate::policy::{Quota, Rate};
use bucket::Bucket;

/// The rate that a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    ItemsPerSecond,
    BytesPerSecond,
}

/// A refused request: the limit that keeps it waiting longest, and the real time until it would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    pub limit: Limit,
    pub retry_after: Duration,
}

/// What a client is told at the most: a rate of nearly nothing must not ask it to wait for years.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Buckets {
    items: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// One tenant's budget for one signal. All limits are taken together or not at all.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Buckets>);

impl Budget {
    pub fn new(quota: &Quota) -> Budget {
        let budget = Budget::default();
        budget.update(quota);
        budget
    }

    /// New rates; buckets that stay keep what was taken from them.
    pub fn update(&self, quota: &Quota) {
        let mut buckets = lock(&self.0);
        set_rate(&mut buckets.items, quota.items);
        set_rate(&mut buckets.bytes, quota.bytes);
    }

    /// Takes a request's cost, or says how long it must wait. `now_ns` is of one monotonic clock.
    pub fn take(&self, now_ns: u64, items: u64, bytes: u64) -> Result<(), OverQuota> {
        let mut buckets = lock(&self.0);
        let Buckets { items: items_bucket, bytes: bytes_bucket } = &mut *buckets;
        let mut limits =
            [(Limit::ItemsPerSecond, items_bucket, items as f64), (Limit::BytesPerSecond, bytes_bucket, bytes as f64)];
        let mut longest: Option<OverQuota> = None;
        for (limit, bucket, cost) in &mut limits {
            let wait = bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(now_ns, *cost));
            if wait > longest.map_or(Duration::ZERO, |longest| longest.retry_after) {
                longest = Some(OverQuota { limit: *limit, retry_after: wait });
            }
        }
        if let Some(over) = longest {
            return Err(OverQuota { retry_after: over.retry_after.min(MAX_RETRY_AFTER), ..over });
        }
        for (_, bucket, cost) in limits {
            if let Some(bucket) = bucket {
                bucket.take(cost);
            }
        }
        Ok(())
    }
}

fn set_rate(bucket: &mut Option<Bucket>, rate: Option<Rate>) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some(rate)) => bucket.set_rate(rate),
        (None, Some(rate)) => *bucket = Some(Bucket::new(rate)),
        (_, None) => *bucket = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(per_second: f64, burst: f64) -> Quota {
        Quota { items: Some(Rate { per_second, burst }), bytes: None }
    }

    #[test]
    fn over_the_burst_the_delay_is_the_real_refill_time() {
        let budget = Budget::new(&items(10.0, 20.0));
        assert_eq!(budget.take(0, 20, 0), Ok(()));
        let over = budget.take(0, 5, 0).unwrap_err();
        assert_eq!(over.limit, Limit::ItemsPerSecond);
        assert!((over.retry_after.as_secs_f64() - 0.5).abs() < 1e-6);
        let later = over.retry_after.as_nanos() as u64;
        assert!(budget.take(later - 10_000, 5, 0).is_err(), "a little early is refused");
        assert_eq!(budget.take(later, 5, 0), Ok(()), "after the delay it is admitted");
    }

    #[test]
    fn a_request_over_the_burst_passes_when_rested_and_leaves_a_debt() {
        let budget = Budget::new(&items(10.0, 20.0));
        assert_eq!(budget.take(0, 100, 0), Ok(()));
        let over = budget.take(0, 1, 0).unwrap_err();
        assert!((over.retry_after.as_secs_f64() - 8.1).abs() < 1e-6);
    }

    #[test]
    fn limits_are_taken_together_or_not_at_all() {
        let quota = Quota {
            items: Some(Rate { per_second: 10.0, burst: 10.0 }),
            bytes: Some(Rate { per_second: 1.0, burst: 100.0 }),
        };
        let budget = Budget::new(&quota);
        assert_eq!(budget.take(0, 1, 100), Ok(()));
        assert_eq!(budget.take(0, 1, 100).unwrap_err().limit, Limit::BytesPerSecond);
        assert_eq!(budget.take(0, 9, 0), Ok(()), "the refused request took no items");
    }

    #[test]
    fn a_new_rate_does_not_forget_what_was_taken() {
        let budget = Budget::new(&items(10.0, 20.0));
        assert_eq!(budget.take(0, 20, 0), Ok(()));
        budget.update(&items(100.0, 20.0));
        let over = budget.take(0, 10, 0).unwrap_err();
        assert!((over.retry_after.as_secs_f64() - 0.1).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn no_schedule_gets_more_than_burst_plus_rate_times_time(
            steps in proptest::collection::vec((0u64..2_000_000_000, 0u64..50), 1..200)
        ) {
            let (rate, burst) = (25.0, 60.0);
            let budget = Budget::new(&items(rate, burst));
            let (mut now, mut taken) = (0u64, 0u64);
            for (pause, cost) in steps {
                now += pause;
                if budget.take(now, cost, 0).is_ok() {
                    taken += cost;
                }
                prop_assert!(taken as f64 <= burst + rate * now as f64 * 1e-9 + 1e-6);
            }
        }
    }
}
