//! Batches: encoded pieces of one tenant gather per destination until a batch closes, and are accounted for until Python
//! has kept it.
//!
//! A batch closes on bytes, items or age. With `ack: durable` requests wait for the commit, so it also closes as soon as
//! nothing is being committed: an idle gateway answers after one commit, a busy one shares commits between all requests
//! that came during the last (group commit).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{oneshot, Notify};

use crate::admit::inflight::Reservation;
use crate::answers::Answer;
use crate::events::EventFd;
use crate::ledger::{OutletCell, Received, RejectReason};
use crate::lock::lock;
use crate::otlp::Signal;
use crate::payload::{Chunks, Payload};
use crate::policy::{Ack, BatchLimits};

/// With `ack: durable`, how long a busy gateway gathers requests before the next commit: as long as the last one took, for a
/// slow disk is worth more requests a commit, and no longer than answers may wait beyond the disk.
const COMMIT_LINGER: std::ops::RangeInclusive<Duration> = Duration::from_millis(4)..=Duration::from_millis(8);

/// A request that waits until each of its batches is kept.
pub struct Pending {
    /// How many batches still owe a word; settled by the last one.
    state: Mutex<PendingState>,
}

struct PendingState {
    owed: usize,
    failed: bool,
    received: Option<Received>,
    answer: Option<Answer>,
}

impl Pending {
    /// `owed` batches will each say kept or failed. The receiver learns whether all were kept.
    pub fn new(received: Received, owed: usize) -> (Arc<Pending>, oneshot::Receiver<bool>) {
        let (answer, outcome) = Answer::new();
        let state = PendingState { owed, failed: false, received: Some(received), answer: Some(answer) };
        (Arc::new(Pending { state: Mutex::new(state) }), outcome)
    }

    /// One batch is kept, or could not be. The items are accounted for here, whether or not the client still waits.
    fn settle(&self, kept: bool) {
        let mut state = lock(&self.state);
        state.failed |= !kept;
        state.owed = state.owed.saturating_sub(1);
        if state.owed > 0 {
            return;
        }
        let all_kept = !state.failed;
        if let Some(received) = state.received.take() {
            if all_kept {
                received.accept();
            } else {
                received.reject(RejectReason::QueueFull);
            }
        }
        if let Some(answer) = state.answer.take() {
            // The client may have gone; its items are accounted for all the same.
            answer.send(all_kept);
        }
    }
}

/// One request's share of a batch.
pub struct Piece {
    pub payload: Payload,
    /// What the backend counts.
    pub items: u64,
    /// Holds the payload's bytes in flight until the batch is kept.
    pub reservation: Reservation,
    /// The request that waits; none with `ack: memory`.
    pub pending: Option<Arc<Pending>>,
}

#[derive(Default)]
struct Open {
    chunks: Chunks,
    pending: Vec<Arc<Pending>>,
    reservations: Vec<Reservation>,
    bytes: usize,
    items: u64,
    /// Set by the first piece.
    since: Option<(Instant, f64)>,
    generation: u64,
    /// Whether the outlet stands in `Batches::dirty`.
    listed: bool,
}

/// One tenant's open batch for one shard of a destination and signal.
pub struct Outlet {
    pub tenant: Arc<str>,
    pub destination: Arc<str>,
    pub signal: Signal,
    /// Of the destination; what has an order among itself is in one shard.
    pub shard: u16,
    /// The destination's shards share it.
    pub cell: Arc<OutletCell>,
    open: Mutex<Open>,
}

impl Outlet {
    pub fn new(
        tenant: &Arc<str>,
        destination: &Arc<str>,
        signal: Signal,
        shard: u16,
        cell: &Arc<OutletCell>,
    ) -> Outlet {
        Outlet {
            tenant: Arc::clone(tenant),
            destination: Arc::clone(destination),
            signal,
            shard,
            cell: Arc::clone(cell),
            open: Mutex::default(),
        }
    }
}

/// A batch on its way to Python.
pub struct Closed {
    pub id: u64,
    pub outlet: Arc<Outlet>,
    pub generation: u64,
    pub items: u64,
    /// Their concatenation is the batch.
    pub parts: Vec<Bytes>,
    pub bytes: usize,
    /// Unix seconds.
    pub opened_at: f64,
}

/// What stays with the engine until Python has kept the batch.
struct HandedOut {
    outlet: Arc<Outlet>,
    items: u64,
    pending: Vec<Arc<Pending>>,
    _reservations: Vec<Reservation>,
}

/// All open, closed and handed-out batches.
pub struct Batches {
    limits: Mutex<(Ack, BatchLimits)>,
    /// Outlets whose batch is open, for the closer.
    dirty: Mutex<Vec<Arc<Outlet>>>,
    closed: Mutex<Vec<Closed>>,
    handed_out: Mutex<HashMap<u64, HandedOut>>,
    next_id: AtomicU64,
    ready: EventFd,
    /// Wakes the closer.
    wake: Notify,
    /// How many requests shared the last commit.
    last_commit_requests: AtomicU64,
    /// How long it took, in microseconds, from its first batch on.
    last_commit_us: AtomicU64,
    /// When the first batch of the commit under way was handed out.
    committing_since: Mutex<Option<Instant>>,
}

impl Batches {
    pub fn new() -> std::io::Result<Batches> {
        let limits = BatchLimits { max_bytes: 4 << 20, max_items: 8192, max_age_ms: 200 };
        Ok(Batches {
            limits: Mutex::new((Ack::Durable, limits)),
            dirty: Mutex::default(),
            closed: Mutex::default(),
            handed_out: Mutex::default(),
            next_id: AtomicU64::new(1),
            ready: EventFd::new()?,
            wake: Notify::new(),
            last_commit_requests: AtomicU64::new(0),
            last_commit_us: AtomicU64::new(0),
            committing_since: Mutex::default(),
        })
    }

    pub fn event_fd(&self) -> std::os::fd::RawFd {
        self.ready.raw()
    }

    pub fn configure(&self, ack: Ack, limits: BatchLimits) {
        *lock(&self.limits) = (ack, limits);
        self.wake.notify_one();
    }

    /// Adds a piece to the outlet's open batch.
    pub fn append(&self, outlet: &Arc<Outlet>, generation: u64, piece: Piece) {
        let (ack, limits) = *lock(&self.limits);
        outlet.cell.open(piece.items);
        let mut open = lock(&outlet.open);
        // A policy change may have changed the encoding: one batch, one generation.
        if open.since.is_some() && open.generation != generation {
            self.close(outlet, &mut open);
        }
        if open.since.is_none() {
            open.generation = generation;
            open.since = Some((Instant::now(), unix_now()));
            if !open.listed {
                open.listed = true;
                lock(&self.dirty).push(Arc::clone(outlet));
            }
            if ack == Ack::Durable {
                self.wake.notify_one();
            }
        }
        open.bytes += piece.payload.len();
        open.items += piece.items;
        open.reservations.push(piece.reservation);
        open.pending.extend(piece.pending);
        open.chunks.push(piece.payload);
        if open.bytes >= limits.max_bytes || open.items >= limits.max_items {
            self.close(outlet, &mut open);
        }
    }

    fn close(&self, outlet: &Arc<Outlet>, open: &mut MutexGuard<'_, Open>) {
        let listed = open.listed;
        let open = std::mem::replace(&mut **open, Open { listed, ..Open::default() });
        let Some((_, opened_at)) = open.since else { return };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let kept = HandedOut {
            outlet: Arc::clone(outlet),
            items: open.items,
            pending: open.pending,
            _reservations: open.reservations,
        };
        lock(&self.handed_out).insert(id, kept);
        lock(&self.committing_since).get_or_insert_with(Instant::now);
        let batch = Closed {
            id,
            outlet: Arc::clone(outlet),
            generation: open.generation,
            items: open.items,
            parts: open.chunks.into_parts(),
            bytes: open.bytes,
            opened_at,
        };
        let mut closed = lock(&self.closed);
        closed.push(batch);
        if closed.len() == 1 {
            self.ready.signal();
        }
    }

    /// The batches closed since the last call.
    pub fn drain(&self) -> Vec<Closed> {
        let mut closed = lock(&self.closed);
        self.ready.reset();
        std::mem::take(&mut *closed)
    }

    /// Python has kept these batches, or could not. Unknown ids are ignored: they were settled before.
    pub fn settle(&self, ids: &[u64], kept: bool) {
        let mut requests = 0;
        for id in ids {
            let Some(batch) = lock(&self.handed_out).remove(id) else { continue };
            if kept {
                batch.outlet.cell.keep(batch.items);
            } else {
                batch.outlet.cell.refuse(batch.items);
            }
            requests += batch.pending.len() as u64;
            for pending in batch.pending {
                pending.settle(kept);
            }
        }
        self.last_commit_requests.store(requests, Ordering::Relaxed);
        if let Some(since) = lock(&self.committing_since).take() {
            self.last_commit_us
                .store(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.wake.notify_one();
    }

    /// Closes every open batch.
    pub fn flush(&self) {
        let dirty = std::mem::take(&mut *lock(&self.dirty));
        for outlet in dirty {
            let mut open = lock(&outlet.open);
            open.listed = false;
            self.close(&outlet, &mut open);
        }
    }

    /// Closes the batches that are due, and says when to look again; `None`: when woken.
    fn close_due(&self) -> Option<Duration> {
        let (_, limits) = *lock(&self.limits);
        let max_age = Duration::from_millis(limits.max_age_ms);
        let mut next: Option<Duration> = None;
        let candidates = std::mem::take(&mut *lock(&self.dirty));
        let mut waiting = Vec::with_capacity(candidates.len());
        for outlet in candidates {
            let mut open = lock(&outlet.open);
            let age = match open.since {
                Some((since, _)) => since.elapsed(),
                None => {
                    open.listed = false;
                    continue;
                }
            };
            if age >= max_age {
                open.listed = false;
                self.close(&outlet, &mut open);
            } else {
                next = Some(next.map_or(max_age - age, |next| next.min(max_age - age)));
                drop(open);
                waiting.push(outlet);
            }
        }
        lock(&self.dirty).extend(waiting);
        next
    }

    /// The closer: runs beside the listeners until the runtime stops.
    pub async fn run(&self) {
        loop {
            let (ack, limits) = *lock(&self.limits);
            if ack == Ack::Durable {
                self.wake.notified().await;
                if lock(&self.handed_out).is_empty() {
                    if self.last_commit_requests.load(Ordering::Relaxed) > 1 {
                        let last = Duration::from_micros(self.last_commit_us.load(Ordering::Relaxed));
                        let linger = last.clamp(*COMMIT_LINGER.start(), *COMMIT_LINGER.end());
                        tokio::time::sleep(linger.min(Duration::from_millis(limits.max_age_ms))).await;
                    }
                    self.flush();
                }
                continue;
            }
            // `append` does not wake with `ack: memory`: a batch waits for its age, so a slow tick finds it in time.
            let tick = Duration::from_millis((limits.max_age_ms / 4).clamp(1, 50));
            let pause = self.close_due().map_or(tick, |next| next.min(tick));
            let _woken_or_due = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    /// How many batches Python has not kept yet.
    pub fn handed_out(&self) -> usize {
        lock(&self.handed_out).len()
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
