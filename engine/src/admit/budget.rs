//! One tenant's budget for one signal: requests, items and bytes a second, and its volume, taken together or not at all.

use std::sync::Mutex;
use std::time::Duration;

use super::bucket::Bucket;
use super::limiter::Limiter;
use super::volume::{self, Period, Periods, Volume, VolumeLimit};
use crate::ledger::RejectReason;
use crate::lock::lock;
use crate::otlp::items::Prefix;
use crate::otlp::Signal;
use crate::policy::{OverLimit, Quota, Rate, VolumeLimits};
use crate::sample::Threshold;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    RequestsPerSecond,
    ItemsPerSecond,
    BytesPerSecond,
    Volume(VolumeLimit),
}

impl Limit {
    /// The config key.
    pub fn name(self) -> &'static str {
        match self {
            Limit::RequestsPerSecond => "requests_per_second",
            Limit::ItemsPerSecond => "items_per_second",
            Limit::BytesPerSecond => "bytes_per_second",
            Limit::Volume(limit) => limit.period.limit_name(),
        }
    }

    pub fn reject_reason(self) -> RejectReason {
        match self {
            Limit::RequestsPerSecond => RejectReason::RateLimitedRequests,
            Limit::ItemsPerSecond => RejectReason::RateLimitedItems,
            Limit::BytesPerSecond => RejectReason::RateLimitedBytes,
            Limit::Volume(VolumeLimit { period: Period::Day, .. }) => RejectReason::DailyVolume,
            Limit::Volume(VolumeLimit { period: Period::Month, .. }) => RejectReason::MonthlyVolume,
        }
    }

    /// As a client reads it: `traces items_per_second`; of a limit on the whole tenant, `daily_bytes`.
    pub fn describe(self, signal: Signal) -> String {
        match self {
            Limit::Volume(VolumeLimit { signal: None, .. }) => self.name().to_owned(),
            _ => format!("{} {}", signal.name(), self.name()),
        }
    }
}

/// A refused request: the limit that keeps it waiting longest, and the real time until it would be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    pub limit: Limit,
    pub retry_after: Duration,
}

/// What a client is told at the most: neither a rate of nearly nothing nor the end of the month must keep it from asking
/// again, since limits change by reload.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What a downsampled bucket may owe, in parts of its burst, before requests are refused: of few items the sample is now and
/// then larger than expected, and that is no reason to refuse the next.
const OVERDRAFT: f64 = 0.1;

/// What a request costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub items: u64,
    pub bytes: u64,
}

/// How much of a request is let in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grant {
    Whole,
    /// The first `items`; the others are over `limit`.
    Trimmed {
        items: u64,
        limit: Limit,
    },
    /// What passes `threshold`. `expected` items were taken from the bucket: [`Budget::settle`] puts that right.
    Downsampled {
        threshold: Threshold,
        expected: f64,
    },
}

/// What a budget is taken against besides its own buckets.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub signal: Signal,
    pub volume: &'a Volume,
    pub periods: &'a Periods,
}

#[derive(Debug, Default)]
struct Buckets {
    requests: Option<Bucket>,
    items: Option<Bucket>,
    bytes: Option<Bucket>,
    volume: VolumeLimits,
    over_limit: OverLimit,
    limiter: Limiter,
}

impl Buckets {
    fn downsampled(&self) -> bool {
        self.over_limit == OverLimit::Downsample && self.items.is_some()
    }
}

#[derive(Debug, Default)]
pub struct Budget(Mutex<Buckets>);

/// How much of one limit is used, for the snapshot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    pub limit: &'static str,
    /// What there is when nothing is used: a burst, or a bound in bytes.
    pub max: f64,
    pub used: f64,
}

impl Budget {
    pub fn new(quota: &Quota) -> Budget {
        let budget = Budget::default();
        budget.update(0, quota);
        budget
    }

    /// New limits; buckets that stay are as full as they were.
    pub fn update(&self, now_ns: u64, quota: &Quota) {
        let mut buckets = lock(&self.0);
        set_rate(&mut buckets.requests, now_ns, quota.requests);
        set_rate(&mut buckets.items, now_ns, quota.items);
        set_rate(&mut buckets.bytes, now_ns, quota.bytes);
        buckets.volume = quota.volume;
        buckets.over_limit = quota.over_limit;
    }

    /// Takes a request's cost, or a part of it by the tenant's policy, or says how long it must wait.
    ///
    /// `now_ns` is of one monotonic clock; `prefix` finds how much of the request fits (items, bytes).
    pub fn take(
        &self,
        now_ns: u64,
        cost: Cost,
        around: Surroundings<'_>,
        prefix: impl Fn(u64, u64) -> Prefix,
    ) -> Result<Grant, OverQuota> {
        let mut buckets = lock(&self.0);
        let buckets = &mut *buckets;
        // Always in this order, so that two signals of a tenant never wait for each other.
        let mut used = around.volume.lock();
        let left = used.left(around.signal, &buckets.volume);

        let mut items_cost = cost.items as f64;
        let mut overdraft = 0.0;
        let mut threshold = Threshold::KEEP_ALL;
        if buckets.downsampled() {
            buckets.limiter.observe(now_ns, cost.items);
            if let Some(bucket) = &mut buckets.items {
                threshold = buckets.limiter.threshold_for(now_ns, bucket, cost.items);
                items_cost *= threshold.probability();
                overdraft = bucket.rate().burst * OVERDRAFT;
            }
        }
        let trims = buckets.over_limit == OverLimit::Trim;
        let mut longest: Option<OverQuota> = None;
        let mut consider = |limit, wait: Duration| {
            let retry_after = wait.min(MAX_RETRY_AFTER);
            if longest.is_none_or(|longest| retry_after > longest.retry_after) {
                longest = Some(OverQuota { limit, retry_after });
            }
        };
        for (limit, bucket, cost) in [
            (Limit::RequestsPerSecond, &mut buckets.requests, 1.0),
            (Limit::ItemsPerSecond, &mut buckets.items, items_cost - overdraft),
            (Limit::BytesPerSecond, &mut buckets.bytes, cost.bytes as f64),
        ] {
            let Some(bucket) = bucket else { continue };
            let wait = bucket.wait(now_ns, cost);
            // Who trims takes what is there; there is no debt that a larger request could make.
            if wait > Duration::ZERO || (trims && cost > bucket.level(now_ns)) {
                consider(limit, wait);
            }
        }
        // A request is let in as long as something is left, so that one larger than the rest is not refused for weeks.
        if let Some((_, limit)) = left.filter(|(left, _)| *left == 0 || (trims && *left < cost.bytes)) {
            consider(Limit::Volume(limit), volume::wait(around.periods, limit, now_ns));
        }

        let mut taken = Cost { items: cost.items, bytes: cost.bytes };
        let mut grant = Grant::Whole;
        if let Some(over) = longest {
            if !trims || buckets.requests.as_mut().is_some_and(|bucket| bucket.level(now_ns) < 1.0) {
                return Err(over);
            }
            let max_items = whole_tokens(&mut buckets.items, now_ns);
            let max_bytes = whole_tokens(&mut buckets.bytes, now_ns).min(left.map_or(u64::MAX, |(left, _)| left));
            let mut fits = prefix(max_items, max_bytes);
            if fits.items == 0 && over.retry_after == Duration::ZERO {
                // One item is larger than a burst, and waiting would not help: it goes, and leaves a debt.
                fits = prefix(1, u64::MAX);
            }
            if fits.items == 0 {
                return Err(over);
            }
            taken = Cost { items: fits.items, bytes: fits.bytes };
            items_cost = fits.items as f64;
            if fits.items < cost.items {
                grant = Grant::Trimmed { items: fits.items, limit: over.limit };
            }
        } else if threshold > Threshold::KEEP_ALL {
            grant = Grant::Downsampled { threshold, expected: items_cost };
        }
        for (bucket, cost) in
            [(&mut buckets.requests, 1.0), (&mut buckets.items, items_cost), (&mut buckets.bytes, taken.bytes as f64)]
        {
            if let Some(bucket) = bucket {
                bucket.take(cost);
            }
        }
        used.take(around.signal, taken.bytes);
        Ok(grant)
    }

    /// Of a downsampled request `kept` items stayed where `expected` were taken. Whoever sends only items that always stay
    /// runs into debt and is refused like anybody else.
    pub fn settle(&self, expected: f64, kept: u64) {
        if let Some(items) = &mut lock(&self.0).items {
            items.take(kept as f64 - expected);
        }
    }

    /// How much of each rate is used, and the share that downsampling keeps at present.
    pub fn usage(&self, now_ns: u64) -> (Vec<Use>, Option<f64>) {
        let mut buckets = lock(&self.0);
        let buckets = &mut *buckets;
        let mut usage = Vec::new();
        for (limit, bucket) in [
            (Limit::RequestsPerSecond, &mut buckets.requests),
            (Limit::ItemsPerSecond, &mut buckets.items),
            (Limit::BytesPerSecond, &mut buckets.bytes),
        ] {
            if let Some(bucket) = bucket {
                let max = bucket.rate().burst;
                usage.push(Use { limit: limit.name(), max, used: max - bucket.level(now_ns) });
            }
        }
        let downsampled = buckets.downsampled();
        let limiter = buckets.limiter;
        let kept = buckets.items.as_mut().filter(|_| downsampled);
        (usage, kept.map(|bucket| limiter.threshold(now_ns, bucket).probability()))
    }

    /// This signal's own volume limits.
    pub fn volume_limits(&self) -> VolumeLimits {
        lock(&self.0).volume
    }
}

/// What fits a bucket at present; all, without one.
fn whole_tokens(bucket: &mut Option<Bucket>, now_ns: u64) -> u64 {
    // The refill is a sum of fractions: what lacks a millionth of a token is whole.
    bucket.as_mut().map_or(u64::MAX, |bucket| (bucket.level(now_ns) + 1e-6).max(0.0) as u64)
}

/// A new rate for a bucket that stays, a full one for a rate that is new.
pub(super) fn set_rate(bucket: &mut Option<Bucket>, now_ns: u64, rate: Option<Rate>) {
    match (bucket.as_mut(), rate) {
        (Some(bucket), Some(rate)) => bucket.set_rate(now_ns, rate),
        (None, Some(rate)) => *bucket = Some(Bucket::new(rate)),
        (_, None) => *bucket = None,
    }
}

#[cfg(test)]
mod tests;
