//! Volume: how many bytes a tenant has sent this day and this month, against what it may.
//!
//! The engine knows no calendar: Python says when a period starts and when it ends, and what was used before the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;

use crate::lock::lock;
use crate::otlp::Signal;
use crate::policy::VolumeLimits;

/// What a volume is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    Day,
    Month,
}

impl Period {
    pub const ALL: [Period; 2] = [Period::Day, Period::Month];

    pub fn parse(name: &str) -> Option<Period> {
        match name {
            "day" => Some(Period::Day),
            "month" => Some(Period::Month),
            _ => None,
        }
    }

    /// The config key of its limit.
    pub fn limit_name(self) -> &'static str {
        match self {
            Period::Day => "daily_bytes",
            Period::Month => "monthly_bytes",
        }
    }
}

impl VolumeLimits {
    pub fn of(&self, period: Period) -> Option<u64> {
        match period {
            Period::Day => self.daily_bytes,
            Period::Month => self.monthly_bytes,
        }
    }
}

/// When the periods end, on the engine's monotonic clock; 0: nobody has said.
#[derive(Debug, Default)]
pub struct Periods([AtomicU64; 2]);

/// What a client waits at least once its period's end has come and Python has not started the next yet.
const PERIOD_CHANGE: Duration = Duration::from_secs(1);

impl Periods {
    pub fn set_end(&self, period: Period, ends_at_ns: u64) {
        self.0[period as usize].store(ends_at_ns, Ordering::Relaxed);
    }

    fn wait(&self, period: Period, now_ns: u64) -> Duration {
        match self.0[period as usize].load(Ordering::Relaxed) {
            0 => Duration::MAX,
            end => Duration::from_nanos(end.saturating_sub(now_ns)).max(PERIOD_CHANGE),
        }
    }
}

/// A volume limit that has the least left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeLimit {
    pub period: Period,
    /// `None`: of the whole tenant.
    pub signal: Option<Signal>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// By signal and period: before this engine counted, and since.
    before: [[u64; 2]; 3],
    counted: [[u64; 2]; 3],
    whole_tenant: VolumeLimits,
}

impl Used {
    pub fn of(&self, signal: Signal, period: Period) -> u64 {
        let (signal, period) = (signal.index(), period as usize);
        self.before[signal][period].saturating_add(self.counted[signal][period])
    }

    pub fn of_all(&self, period: Period) -> u64 {
        Signal::ALL.iter().fold(0, |sum, signal| sum.saturating_add(self.of(*signal, period)))
    }

    pub fn whole_tenant(&self) -> VolumeLimits {
        self.whole_tenant
    }

    /// What is left of the tightest limit; `None`: there is no limit. Of two that are used up, the one that ends last.
    pub fn left(&self, signal: Signal, limits: &VolumeLimits) -> Option<(u64, VolumeLimit)> {
        let mut tightest: Option<(u64, VolumeLimit)> = None;
        for period in Period::ALL {
            let of_signal = limits.of(period).map(|max| (max, self.of(signal, period), Some(signal)));
            let of_tenant = self.whole_tenant.of(period).map(|max| (max, self.of_all(period), None));
            for (max, used, signal) in of_signal.into_iter().chain(of_tenant) {
                let left = max.saturating_sub(used);
                if tightest.is_none_or(|(least, _)| left <= least) {
                    tightest = Some((left, VolumeLimit { period, signal }));
                }
            }
        }
        tightest
    }

    pub fn take(&mut self, signal: Signal, bytes: u64) {
        for counted in &mut self.counted[signal.index()] {
            *counted = counted.saturating_add(bytes);
        }
    }
}

/// One tenant's volume.
#[derive(Debug, Default)]
pub struct Volume(Mutex<Used>);

impl Volume {
    pub fn lock(&self) -> MutexGuard<'_, Used> {
        lock(&self.0)
    }

    pub fn limit(&self, whole_tenant: VolumeLimits) {
        self.lock().whole_tenant = whole_tenant;
    }

    /// What was used in the present periods before this engine counted; what it has counted itself comes on top.
    pub fn set_before(&self, signal: Signal, day_bytes: u64, month_bytes: u64) {
        self.lock().before[signal.index()] = [day_bytes, month_bytes];
    }

    /// A new period: nothing is used of it.
    pub fn start(&self, period: Period) {
        let mut used = self.lock();
        for signal in 0..Signal::ALL.len() {
            used.before[signal][period as usize] = 0;
            used.counted[signal][period as usize] = 0;
        }
    }
}

/// How long a client waits that is over `limit`.
pub fn wait(periods: &Periods, limit: VolumeLimit, now_ns: u64) -> Duration {
    periods.wait(limit.period, now_ns)
}
