//! Downsampling to a rate: how likely an item stays, so that what stays fits the bucket.
//!
//! The probability is `rate / offered * x / (1 - x)`, where `x` is how full the bucket is. A full bucket keeps everything
//! (a burst after a rest is what it is for). Under a steady overload the level settles where what stays equals the rate:
//! at one half if the offered rate is measured right, a little beside it if not. So the average never rests on the
//! measurement, and the threshold moves smoothly both ways. Each decision sees only what happened before it, never the
//! randomness of the items it is about: counts scaled by the published threshold stay unbiased.

use super::bucket::Bucket;
use crate::sample::Threshold;

/// How long the measured rate remembers.
const MEMORY_S: f64 = 2.0;
/// The smallest share that is kept; below it a request is refused instead.
pub const MIN_PROBABILITY: f64 = 1.0 / 1024.0;

/// The measured rate of one bucket's items.
#[derive(Debug, Default, Clone, Copy)]
pub struct Limiter {
    /// Items offered, each fading with age.
    offered: f64,
    measured_at_ns: u64,
}

impl Limiter {
    /// `items` were offered, whatever becomes of them.
    pub fn observe(&mut self, now_ns: u64, items: u64) {
        self.offered = self.faded(now_ns) + items as f64;
        self.measured_at_ns = self.measured_at_ns.max(now_ns);
    }

    fn faded(&self, now_ns: u64) -> f64 {
        let age_s = now_ns.saturating_sub(self.measured_at_ns) as f64 * 1e-9;
        self.offered * (-age_s / MEMORY_S).exp()
    }

    /// The threshold at present, not yet knowing how many items come.
    pub fn threshold(&self, now_ns: u64, bucket: &mut Bucket) -> Threshold {
        let rate = bucket.rate();
        let full = (bucket.level(now_ns) / rate.burst).clamp(0.0, 1.0);
        let offered = self.faded(now_ns) / MEMORY_S;
        if full >= 1.0 || offered <= 0.0 {
            return Threshold::KEEP_ALL;
        }
        let probability = rate.per_second / offered * full / (1.0 - full);
        Threshold::keeping(probability.clamp(MIN_PROBABILITY, 1.0))
    }

    /// The threshold for a request of `items`: what is expected to stay is there to be taken. The highest threshold if
    /// nothing fits; then the bucket says how long to wait.
    pub fn threshold_for(&self, now_ns: u64, bucket: &mut Bucket, items: u64) -> Threshold {
        let affordable = (bucket.level(now_ns) / (items.max(1)) as f64).clamp(MIN_PROBABILITY, 1.0);
        self.threshold(now_ns, bucket).max(Threshold::keeping(affordable))
    }
}
