//! Active log streams: over budget, the entries of new streams go to one overflow stream.
//!
//! They are kept, not rejected: a log line is worth more than the stream it is indexed under, and what would have been its
//! labels stays with it as structured metadata.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::keys::HashKey;
use super::table::{ActiveTable, Seen};
use super::Now;
use crate::policy::StreamQuota;

/// The streams of one tenant.
pub struct StreamBudget {
    pub(super) key: HashKey,
    pub(super) table: ActiveTable,
    window_s: AtomicU32,
    overflow_entries: AtomicU64,
}

impl StreamBudget {
    pub fn new() -> StreamBudget {
        StreamBudget::with(HashKey::random(), ActiveTable::default())
    }

    pub(super) fn with(key: HashKey, table: ActiveTable) -> StreamBudget {
        StreamBudget { key, table, window_s: AtomicU32::new(u32::MAX), overflow_entries: AtomicU64::new(0) }
    }

    pub(super) fn active(&self) -> u64 {
        self.table.active()
    }

    pub(super) fn overflow_entries(&self) -> u64 {
        self.overflow_entries.load(Ordering::Relaxed)
    }

    pub(super) fn sweep(&self, now: Now, slots: usize) {
        self.table.sweep_all(now.window(self.window_s.load(Ordering::Relaxed)), slots);
    }
}

impl Default for StreamBudget {
    fn default() -> StreamBudget {
        StreamBudget::new()
    }
}

/// The streams of one tenant, held to its quota for one request.
#[derive(Clone, Copy)]
pub struct Streams<'b> {
    pub budget: &'b StreamBudget,
    pub quota: &'b StreamQuota,
    pub now: Now,
}

impl Streams<'_> {
    /// Whether the stream with these labels may have a name of its own; marks it as seen.
    pub fn admit(&self, labels: &str) -> bool {
        self.budget.window_s.store(self.quota.window_s, Ordering::Relaxed);
        let fingerprint = self.budget.key.fingerprint(labels.as_bytes());
        let window = self.now.window(self.quota.window_s);
        self.budget.table.see(fingerprint, 1, window, self.quota.max_active, || true) != Seen::Refused
    }

    /// `entries` went to the overflow stream.
    pub fn overflowed(&self, entries: u64) {
        self.budget.overflow_entries.fetch_add(entries, Ordering::Relaxed);
    }
}
