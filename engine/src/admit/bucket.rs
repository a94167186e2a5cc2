//! A token bucket: a rate, a burst, and how full it is.

use std::time::Duration;

use crate::policy::Rate;

/// Tokens flow in at `per_second` up to `burst`; a request takes as many as it costs.
///
/// A request that costs more than the burst is admitted when the bucket is full and leaves a debt: the average holds, and
/// no request is impossible for ever. Time comes from the caller, in nanoseconds of a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    filled_at_ns: u64,
}

impl Bucket {
    /// Full at first.
    pub fn new(rate: Rate) -> Bucket {
        Bucket { rate, tokens: rate.burst, filled_at_ns: 0 }
    }

    /// Another rate for the same bucket, from now on. It stays as full as it was, in parts of its burst: a reload is neither
    /// a gift to who has used everything up nor a fine for who has not.
    pub fn set_rate(&mut self, now_ns: u64, rate: Rate) {
        self.fill(now_ns);
        self.tokens *= rate.burst / self.rate.burst;
        self.rate = rate;
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// What is in it; negative: a debt.
    pub fn level(&mut self, now_ns: u64) -> f64 {
        self.fill(now_ns);
        self.tokens
    }

    fn fill(&mut self, now_ns: u64) {
        // Threads read the clock before they take the lock, so time may seem to step back a little.
        let elapsed = now_ns.saturating_sub(self.filled_at_ns);
        self.tokens = (self.tokens + elapsed as f64 * 1e-9 * self.rate.per_second).min(self.rate.burst);
        self.filled_at_ns = self.filled_at_ns.max(now_ns);
    }

    /// How long until `cost` would be admitted; zero: now.
    pub fn wait(&mut self, now_ns: u64, cost: f64) -> Duration {
        self.fill(now_ns);
        let missing = cost.min(self.rate.burst) - self.tokens;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // Rounded up: a client that waits this long is never early. A rate of zero never refills.
        let nanos = (missing / self.rate.per_second * 1e9).ceil() + 1.0;
        Duration::from_nanos(if nanos < u64::MAX as f64 { nanos as u64 } else { u64::MAX })
    }

    /// Takes tokens, also those that are not there; a negative cost gives back.
    pub fn take(&mut self, cost: f64) {
        self.tokens = (self.tokens - cost).min(self.rate.burst);
    }
}
