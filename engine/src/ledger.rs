//! The ledger: two sums, per tenant and signal, that always close (docs/design.md §2, "The ledger").
//!
//! Intake, in items: `received = rejected + filtered + sampled_out + held + accepted + in_process + unaccounted`.
//! Delivery, per destination, in what the backend counts: `encoded = dropped + handed_out`, where `handed_out` is Python's
//! to account for. [`Received`] makes a silent loss impossible: items that leave a stage in no named way are unaccounted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::encode::{DropReason, FormatLimit};
use crate::lock::lock;
use crate::mask::{by_finder, Failure, Location, Locations, MaskCounts, Masker};
use crate::otlp::Signal;

/// Why a request with all its items, or a part of them, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum RejectReason {
    Malformed,
    /// The client gave the request up before its end.
    Abandoned,
    UnsupportedEncoding,
    TooLarge,
    TooSlow,
    TenantDisabled,
    SignalNotAllowed,
    TenantClaim,
    RateLimitedRequests,
    RateLimitedItems,
    RateLimitedBytes,
    InflightBytes,
    DailyVolume,
    MonthlyVolume,
    LabelLimit,
    GatewayFull,
    Gated,
    QueueFull,
    /// Points of new series over the tenant's budget that cannot be folded; the rest of the request is taken.
    SeriesLimit,
    /// The tenant's pseudonym key is not there yet.
    NoPseudonymKey,
    /// Items whose resource no route takes; the rest of the request is taken.
    NoRoute,
}

impl RejectReason {
    pub const ALL: [RejectReason; 21] = [
        RejectReason::Malformed,
        RejectReason::Abandoned,
        RejectReason::UnsupportedEncoding,
        RejectReason::TooLarge,
        RejectReason::TooSlow,
        RejectReason::TenantDisabled,
        RejectReason::SignalNotAllowed,
        RejectReason::TenantClaim,
        RejectReason::RateLimitedRequests,
        RejectReason::RateLimitedItems,
        RejectReason::RateLimitedBytes,
        RejectReason::InflightBytes,
        RejectReason::DailyVolume,
        RejectReason::MonthlyVolume,
        RejectReason::LabelLimit,
        RejectReason::GatewayFull,
        RejectReason::Gated,
        RejectReason::QueueFull,
        RejectReason::SeriesLimit,
        RejectReason::NoPseudonymKey,
        RejectReason::NoRoute,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::Abandoned => "abandoned",
            RejectReason::UnsupportedEncoding => "unsupported_encoding",
            RejectReason::TooLarge => "too_large",
            RejectReason::TooSlow => "too_slow",
            RejectReason::TenantDisabled => "tenant_disabled",
            RejectReason::SignalNotAllowed => "signal_not_allowed",
            RejectReason::TenantClaim => "tenant_claim",
            RejectReason::RateLimitedRequests => "rate_limited_requests",
            RejectReason::RateLimitedItems => "rate_limited_items",
            RejectReason::RateLimitedBytes => "rate_limited_bytes",
            RejectReason::InflightBytes => "inflight_bytes",
            RejectReason::DailyVolume => "daily_volume",
            RejectReason::MonthlyVolume => "monthly_volume",
            RejectReason::LabelLimit => "label_limit",
            RejectReason::GatewayFull => "gateway_full",
            RejectReason::Gated => "gated",
            RejectReason::QueueFull => "queue_full",
            RejectReason::SeriesLimit => "series_limit",
            RejectReason::NoPseudonymKey => "no_pseudonym_key",
            RejectReason::NoRoute => "no_route",
        }
    }
}

type Counter = AtomicU64;

fn add(counter: &Counter, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

fn read(counter: &Counter) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Intake of one tenant and signal.
#[derive(Debug, Default)]
pub struct IntakeCell {
    requests: Counter,
    bytes: Counter,
    admitted_bytes: Counter,
    received: Counter,
    rejected: [Counter; RejectReason::ALL.len()],
    rejected_requests: [Counter; RejectReason::ALL.len()],
    filtered: Counter,
    sampled_out: Counter,
    accepted: Counter,
    in_process: Counter,
    unaccounted: Counter,
    tenant_claims: Counter,
    masking: Mutex<Masking>,
}

/// What masking did to one tenant and signal. Its lock is taken only by requests in which something was found.
#[derive(Debug, Default)]
struct Masking {
    values: Counts,
    dry_run_values: Counts,
    failures: [u64; Failure::ALL.len()],
    locations: Locations,
}

/// By what found them.
type Counts = BTreeMap<Arc<str>, u64>;

/// What further finders are counted under: rules come and go with reloads, counters stay.
const OTHER_FINDERS: &str = "_other";
const MAX_FINDERS: usize = 256;

fn add_by_finder(counts: &mut Counts, masker: &Masker, masked: &MaskCounts) {
    for (finder, count) in by_finder(masker, masked) {
        let has_room = counts.len() < MAX_FINDERS || counts.contains_key(&finder);
        *counts.entry(if has_room { finder } else { Arc::from(OTHER_FINDERS) }).or_default() += count;
    }
}

impl IntakeCell {
    /// A request whose body, `bytes` long when uncompressed, is about to be processed.
    pub fn request(&self, bytes: u64) {
        add(&self.requests, 1);
        add(&self.bytes, bytes);
    }

    /// A request within its tenant's quotas.
    pub fn admitted(&self, bytes: u64) {
        add(&self.admitted_bytes, bytes);
    }

    /// A request refused before its items were counted.
    pub fn reject_request(&self, reason: RejectReason) {
        add(&self.rejected_requests[reason as usize], 1);
    }

    /// Items that came in; the guard must be told what becomes of them.
    pub fn receive(self: &Arc<Self>, items: u64) -> Received {
        add(&self.received, items);
        add(&self.in_process, items);
        Received { cell: Arc::clone(self), items }
    }

    pub fn tenant_claims(&self, claims: u64) {
        add(&self.tenant_claims, claims);
    }

    /// What a masker found in a request.
    pub fn masked(&self, masker: &Masker, counts: &MaskCounts) {
        if *counts == MaskCounts::default() {
            return;
        }
        let mut masking = lock(&self.masking);
        let values = if masker.dry_run { &mut masking.dry_run_values } else { &mut masking.values };
        add_by_finder(values, masker, counts);
        masking.failures.iter_mut().zip(counts.failures).for_each(|(all, more)| *all += more);
    }

    /// Where a dry run found values.
    pub fn locate(&self, locations: Locations) {
        if !locations.is_empty() {
            lock(&self.masking).locations.merge(locations);
        }
    }

    /// This cell's entry in the snapshot; none if nothing was ever sent.
    pub fn snapshot(&self, tenant: &Arc<str>, signal: Signal) -> Option<IntakeSnapshot> {
        let rejected_requests = by_reason(&self.rejected_requests);
        if read(&self.requests) == 0 && rejected_requests.is_empty() {
            return None;
        }
        let masking = lock(&self.masking);
        let failures = Failure::ALL.iter().zip(masking.failures).map(|(failure, count)| (failure.name(), count));
        Some(IntakeSnapshot {
            tenant: Arc::clone(tenant),
            signal: signal.name(),
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            admitted_bytes: read(&self.admitted_bytes),
            received: read(&self.received),
            rejected: by_reason(&self.rejected),
            rejected_requests,
            filtered: read(&self.filtered),
            sampled_out: read(&self.sampled_out),
            held: 0,
            accepted: read(&self.accepted),
            in_process: read(&self.in_process),
            unaccounted: read(&self.unaccounted),
            tenant_claims: read(&self.tenant_claims),
            masked: masking.values.clone(),
            mask_failures: failures.filter(|(_, count)| *count > 0).collect(),
            mask_dry_run: masking.dry_run_values.clone(),
            mask_locations: masking.locations.iter().map(|(location, count)| (location.clone(), count)).collect(),
        })
    }
}

fn by_reason(counters: &[Counter; RejectReason::ALL.len()]) -> BTreeMap<&'static str, u64> {
    let counted = RejectReason::ALL.iter().zip(counters).map(|(reason, counter)| (reason.name(), read(counter)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Items under way between `receive` and their fate. Dropping it loses them, visibly: they become unaccounted.
#[derive(Debug)]
#[must_use = "items whose fate is not named are unaccounted"]
pub struct Received {
    cell: Arc<IntakeCell>,
    items: u64,
}

impl Received {
    /// Of `items`, relabelling left nothing.
    pub fn filtered(&mut self, items: u64) {
        let items = self.part(items);
        add(&self.cell.filtered, items);
    }

    /// `items` were sampled out.
    pub fn sampled_out(&mut self, items: u64) {
        let items = self.part(items);
        add(&self.cell.sampled_out, items);
    }

    /// `items` are refused for good, the request is not.
    pub fn reject_part(&mut self, reason: RejectReason, items: u64) {
        let items = self.part(items);
        add(&self.cell.rejected[reason as usize], items);
    }

    /// How many items nothing has become of yet.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The rest is refused, and the request with it.
    pub fn reject(mut self, reason: RejectReason) {
        let items = self.part(self.items);
        add(&self.cell.rejected[reason as usize], items);
        self.cell.reject_request(reason);
    }

    /// The rest is kept.
    pub fn accept(mut self) {
        let items = self.part(self.items);
        add(&self.cell.accepted, items);
    }

    /// Takes `items` out of this guard's care; never more than there are.
    fn part(&mut self, items: u64) -> u64 {
        let items = items.min(self.items);
        self.items -= items;
        self.cell.in_process.fetch_sub(items, Ordering::Relaxed);
        items
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let items = self.part(self.items);
        add(&self.cell.unaccounted, items);
    }
}

/// Delivery of one tenant, destination and signal, as far as the engine goes.
#[derive(Debug, Default)]
pub struct OutletCell {
    encoded: Counter,
    open: Counter,
    handed_out: Counter,
    dropped: [Counter; DropReason::ALL.len()],
    label_collisions: Counter,
    limited: [Counter; FormatLimit::ALL.len()],
}

impl OutletCell {
    /// Items that wait in a batch which Python has not kept yet.
    pub fn open(&self, items: u64) {
        add(&self.open, items);
    }

    /// Python has kept them: from here on they are its to account for.
    pub fn keep(&self, items: u64) {
        self.open.fetch_sub(items, Ordering::Relaxed);
        add(&self.encoded, items);
        add(&self.handed_out, items);
    }

    /// Python could not keep them; their requests were refused, so they were never encoded for good.
    pub fn refuse(&self, items: u64) {
        self.open.fetch_sub(items, Ordering::Relaxed);
    }

    /// Items that this destination's format cannot carry.
    pub fn drop_items(&self, reason: DropReason, items: u64) {
        add(&self.encoded, items);
        add(&self.dropped[reason as usize], items);
    }

    pub fn label_collisions(&self, collisions: u64) {
        add(&self.label_collisions, collisions);
    }

    /// How often each limit of the destination's format took something away.
    pub fn limited(&self, limited: &[u64; FormatLimit::ALL.len()]) {
        for (counter, &times) in self.limited.iter().zip(limited).filter(|(_, &times)| times > 0) {
            add(counter, times);
        }
    }

    pub fn snapshot(&self, tenant: &Arc<str>, destination: &Arc<str>, signal: Signal) -> OutletSnapshot {
        let dropped = DropReason::ALL.iter().zip(&self.dropped).map(|(reason, counter)| (reason.name(), read(counter)));
        let limited = FormatLimit::ALL.iter().zip(&self.limited).map(|(limit, counter)| (limit.name(), read(counter)));
        OutletSnapshot {
            tenant: Arc::clone(tenant),
            destination: Arc::clone(destination),
            signal: signal.name(),
            encoded: read(&self.encoded),
            open: read(&self.open),
            handed_out: read(&self.handed_out),
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
            label_collisions: read(&self.label_collisions),
            limited: limited.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// An entry of `intake` in the snapshot.
#[derive(Debug, Serialize)]
pub struct IntakeSnapshot {
    pub tenant: Arc<str>,
    pub signal: &'static str,
    pub requests: u64,
    pub bytes: u64,
    pub admitted_bytes: u64,
    pub received: u64,
    pub rejected: BTreeMap<&'static str, u64>,
    pub rejected_requests: BTreeMap<&'static str, u64>,
    pub filtered: u64,
    pub sampled_out: u64,
    /// Waiting in a tail-sampling or aggregation window; there is none yet.
    pub held: u64,
    pub accepted: u64,
    pub in_process: u64,
    pub unaccounted: u64,
    pub tenant_claims: u64,
    /// Values by what found them: `key`, a detector, or a rule's name.
    pub masked: Counts,
    pub mask_failures: BTreeMap<&'static str, u64>,
    pub mask_dry_run: Counts,
    pub mask_locations: Vec<(Location, u64)>,
}

/// An entry of `outlets` in the snapshot.
#[derive(Debug, Serialize)]
pub struct OutletSnapshot {
    pub tenant: Arc<str>,
    pub destination: Arc<str>,
    pub signal: &'static str,
    pub encoded: u64,
    pub open: u64,
    pub handed_out: u64,
    pub dropped: BTreeMap<&'static str, u64>,
    pub label_collisions: u64,
    /// By limit of the destination's format: how often it took something away.
    pub limited: BTreeMap<&'static str, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn closes(entry: &IntakeSnapshot) -> bool {
        let named = entry.filtered + entry.sampled_out + entry.held + entry.accepted + entry.in_process;
        entry.received == entry.rejected.values().sum::<u64>() + named + entry.unaccounted
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_items_the_sum_closes(
            requests in proptest::collection::vec((0u64..100, 0u64..150, 0u64..150, 0u64..150, 0u8..3), 1..50)
        ) {
            let cell = Arc::new(IntakeCell::default());
            let mut lost = 0;
            for (items, trimmed, filtered, sampled, fate) in requests {
                cell.request(1);
                let mut received = cell.receive(items);
                received.reject_part(RejectReason::RateLimitedItems, trimmed);
                received.filtered(filtered);
                received.sampled_out(sampled);
                match fate {
                    0 => received.accept(),
                    1 => received.reject(RejectReason::QueueFull),
                    _ => {
                        lost += received.items();
                        drop(received);
                    }
                }
            }
            let entry = cell.snapshot(&Arc::from("acme"), Signal::Logs).unwrap();
            prop_assert!(closes(&entry), "{entry:?}");
            prop_assert_eq!(entry.unaccounted, lost);
            prop_assert_eq!(entry.in_process, 0);
        }
    }
}
