//! The series budget: how many series, and log streams, a tenant may have active, and how many new ones a minute.
//!
//! A metric's series is identified by its labels as remote write writes them, after relabelling; a histogram is one entry
//! that counts for all the series it becomes. What is known flows untouched. New series over budget are folded into
//! an overflow series (`fold.rs`) if they are cumulative counters or histograms, and rejected otherwise. The state belongs
//! to the tenant, not to a policy generation: a reload changes limits, not what is known (docs/series-budget.md).

mod fold;
mod gate;
mod growth;
mod keys;
mod overflow;
mod state;
mod streams;
pub mod table;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use serde::Serialize;

use self::fold::Folder;
use self::growth::LabelGrowth;
use self::keys::HashKey;
use self::table::{ActiveTable, Window};
use super::bucket::Bucket;
use super::budget::set_rate;
use crate::lock::lock;
use crate::policy::{Rate, SeriesQuota, StreamQuota};

pub use self::gate::{Held, SeriesGate};
pub use self::state::{dump, restore};
pub use self::streams::{StreamBudget, Streams};

/// What a scrape of the counters sweeps of each shard, so that the series of a silent tenant leave as well.
const SWEEP_ON_SNAPSHOT: usize = 4096;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub unix: Duration,
    /// Of the clock that the token buckets count on.
    pub monotonic_ns: u64,
}

impl Now {
    pub fn read(monotonic_ns: u64) -> Now {
        Now { unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), monotonic_ns }
    }

    fn unix_s(self) -> u32 {
        u32::try_from(self.unix.as_secs()).unwrap_or(u32::MAX)
    }

    fn unix_ms(self) -> u64 {
        u64::try_from(self.unix.as_millis()).unwrap_or(u64::MAX)
    }

    pub fn unix_ns(self) -> u64 {
        u64::try_from(self.unix.as_nanos()).unwrap_or(u64::MAX)
    }

    fn window(self, length_s: u32) -> Window {
        Window { now_s: self.unix_s(), length_s }
    }
}

/// The series of one tenant: active, folded, and which label grew.
pub struct SeriesBudget {
    key: HashKey,
    /// Since when every series has been seen; later starts are starts inside our view.
    since_ns: u64,
    table: ActiveTable,
    new_series: Mutex<Option<Bucket>>,
    folder: Mutex<Folder>,
    /// `Folder::folded`, to be read without its lock.
    folded: AtomicUsize,
    folded_points: AtomicU64,
    growth: Mutex<LabelGrowth>,
    window_s: AtomicU64,
}

impl SeriesBudget {
    pub fn new(now: Now) -> SeriesBudget {
        SeriesBudget::with(HashKey::random(), now.unix_ns(), Folder::default())
    }

    fn with(key: HashKey, since_ns: u64, folder: Folder) -> SeriesBudget {
        SeriesBudget {
            key,
            since_ns,
            table: ActiveTable::default(),
            new_series: Mutex::new(None),
            folded: AtomicUsize::new(folder.folded()),
            folder: Mutex::new(folder),
            folded_points: AtomicU64::new(0),
            growth: Mutex::default(),
            window_s: AtomicU64::new(0),
        }
    }

    /// New limits; what is known, and what was taken from the minute's budget, stays.
    fn update(&self, now_ns: u64, quota: &SeriesQuota) {
        let rate = quota.new_per_minute.map(|count| Rate { per_second: count / 60.0, burst: count });
        set_rate(&mut lock(&self.new_series), now_ns, rate);
        self.window_s.store(u64::from(quota.window_s), Ordering::Relaxed);
    }

    /// Whether this minute's budget has room for `weight` new series; takes it.
    fn take_new(&self, now: Now, weight: u32) -> bool {
        let mut bucket = lock(&self.new_series);
        let Some(bucket) = bucket.as_mut() else { return true };
        let cost = f64::from(weight);
        let admitted = bucket.wait(now.monotonic_ns, cost).is_zero();
        if admitted {
            bucket.take(cost);
        }
        admitted
    }

    /// The `instance` of this state's overflow series: two gateways must not write the same series, and totals that start
    /// over are another series.
    fn instance(&self) -> String {
        format!("overflow-{:08x}", self.key.hash(&self.since_ns.to_le_bytes()) as u32)
    }

    /// Calls `send` with the present samples of the overflow series that `grown` names, as OTLP.
    ///
    /// No other sample of them is made until it returns: it must put them where order is kept.
    pub fn emit<T>(&self, grown: &[u64], tenant: &str, now: Now, send: impl FnOnce(&[u8]) -> T) -> T {
        let mut folder = lock(&self.folder);
        let mut request = Vec::new();
        folder.write(grown, tenant, &self.instance(), now.unix_ms(), &mut request);
        send(&request)
    }

    /// The label that most probably made the tenant pass its budget, and about how many values it had.
    pub fn offending_labels(&self) -> Vec<(String, u64)> {
        lock(&self.growth).leaders()
    }
}

/// What one tenant has active. Empty while it has no such quota.
#[derive(Default)]
pub struct ActiveState {
    series: ArcSwapOption<SeriesBudget>,
    streams: ArcSwapOption<StreamBudget>,
}

impl ActiveState {
    pub fn series(&self) -> Option<Arc<SeriesBudget>> {
        self.series.load_full()
    }

    pub fn streams(&self) -> Option<Arc<StreamBudget>> {
        self.streams.load_full()
    }

    /// A new generation's limits. Without a limit nothing is tracked: what a tenant sends unseen cannot be told from new
    /// series later, so the state starts over.
    ///
    /// `now_ns` is of the clock that the token buckets count on.
    pub fn update(&self, now_ns: u64, series: Option<&SeriesQuota>, streams: Option<&StreamQuota>) {
        match (series, self.series.load_full()) {
            (None, _) => self.series.store(None),
            (Some(quota), Some(budget)) => budget.update(now_ns, quota),
            (Some(quota), None) => {
                let budget = SeriesBudget::new(Now::read(0));
                budget.update(now_ns, quota);
                self.series.store(Some(Arc::new(budget)));
            }
        }
        match (streams, self.streams.load_full()) {
            (None, _) => self.streams.store(None),
            (Some(_), Some(_)) => {}
            (Some(_), None) => self.streams.store(Some(Arc::new(StreamBudget::new()))),
        }
    }

    /// This tenant's entry in the snapshot; none without a budget.
    pub fn snapshot(&self, tenant: &Arc<str>) -> Option<ActiveSnapshot> {
        let (series, streams) = (self.series(), self.streams());
        if series.is_none() && streams.is_none() {
            return None;
        }
        let now = Now::read(0);
        let mut snapshot = ActiveSnapshot { tenant: Arc::clone(tenant), ..ActiveSnapshot::default() };
        if let Some(series) = series {
            let window_s = u32::try_from(series.window_s.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            series.table.sweep_all(now.window(window_s), SWEEP_ON_SNAPSHOT);
            snapshot.active_series = series.table.active();
            snapshot.folded_series = series.folded.load(Ordering::Relaxed);
            snapshot.overflow_series = lock(&series.folder).overflows();
            snapshot.folded_points = series.folded_points.load(Ordering::Relaxed);
            snapshot.offending_labels = series.offending_labels();
        }
        if let Some(streams) = streams {
            streams.sweep(now, SWEEP_ON_SNAPSHOT);
            snapshot.active_streams = streams.active();
            snapshot.overflow_entries = streams.overflow_entries();
        }
        Some(snapshot)
    }
}

/// An entry of `active` in the snapshot.
#[derive(Debug, Default, Serialize)]
pub struct ActiveSnapshot {
    pub tenant: Arc<str>,
    pub active_series: u64,
    pub folded_series: usize,
    pub overflow_series: usize,
    pub folded_points: u64,
    /// Label and about how many values it had among the series over budget, most first.
    pub offending_labels: Vec<(String, u64)>,
    pub active_streams: u64,
    pub overflow_entries: u64,
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
