//! The table of what is active: fingerprints, when each was last seen, what each counts.
//!
//! Open addressing with linear probing, 16 bytes a slot, at least 40 % full once it has grown: at most 40 bytes a tracked
//! series, and 60 for the moment in which a shard grows. Shards keep threads apart; nothing is ever shared by two tenants.
//! What is no longer active goes a few slots at a time, so that no call pays for a large table.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::lock::lock;

const SHARDS: usize = 64;
const FIRST_SLOTS: usize = 16;
/// Two slots a look-up are checked for expiry: a table whose series report every minute is swept about every minute. They
/// are checked many at a time, because what is swept is mostly in nobody's cache.
const LOOKUPS_A_SWEEP: u32 = 32;
const SWEEP_ON_LOOKUP: usize = 64;
/// Slots that the first refusal in a second checks, shard after shard: room is found before anything is refused for good.
const SWEEP_ON_REFUSAL: usize = 16_384;

/// A keyed hash of what identifies a series or a stream. Never 0, which marks an empty slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub fn new(hash: u64) -> Fingerprint {
        Fingerprint(hash.max(1))
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

/// One entry: 16 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    pub fingerprint: u64,
    /// Unix seconds.
    pub last_seen_s: u32,
    /// How many series of the backend it stands for: one, or those of a histogram.
    pub weight: u32,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Known,
    Admitted,
    Refused,
}

/// Now, and since when what was not seen is no longer active. Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub now_s: u32,
    pub length_s: u32,
}

impl Window {
    pub fn has_left(self, last_seen_s: u32) -> bool {
        self.now_s.saturating_sub(last_seen_s) > self.length_s
    }
}

/// The active series, or streams, of one tenant.
pub struct ActiveTable {
    shards: Box<[CacheLine<Mutex<Shard>>; SHARDS]>,
    /// Sum of the weights.
    active: AtomicU64,
    /// The shard that a refusal sweeps next.
    next_swept: AtomicUsize,
    /// The second of the last such sweep: within a second nothing else expires.
    swept_at_s: AtomicU32,
}

/// Two threads at neighbouring shards do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CacheLine<T>(T);

impl Default for ActiveTable {
    fn default() -> ActiveTable {
        ActiveTable {
            shards: Box::new(std::array::from_fn(|_| CacheLine::default())),
            active: AtomicU64::new(0),
            next_swept: AtomicUsize::new(0),
            swept_at_s: AtomicU32::new(0),
        }
    }
}

impl ActiveTable {
    /// What is active, in series of the backend. Entries whose window has passed count until they are swept.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Marks as seen; a new one, or one that comes back after its window, is put in if it fits under `max_active` and
    /// `admit` agrees.
    #[inline]
    pub fn see(
        &self,
        fingerprint: Fingerprint,
        weight: u32,
        window: Window,
        max_active: u64,
        admit: impl Fn() -> bool,
    ) -> Seen {
        if self.is_known(fingerprint, weight, window) {
            return Seen::Known;
        }
        self.see_new(fingerprint, weight, window, max_active, admit)
    }

    /// The usual case: nothing but the time changes.
    #[inline]
    fn is_known(&self, fingerprint: Fingerprint, weight: u32, window: Window) -> bool {
        let mut shard = self.shard(fingerprint);
        shard.lookups = shard.lookups.wrapping_add(1);
        if shard.lookups.is_multiple_of(LOOKUPS_A_SWEEP) {
            self.release(shard.sweep(window, SWEEP_ON_LOOKUP));
        }
        match shard.find(fingerprint) {
            Some(slot) if slot.weight == weight && !window.has_left(slot.last_seen_s) => {
                slot.last_seen_s = slot.last_seen_s.max(window.now_s);
                true
            }
            _ => false,
        }
    }

    #[cold]
    fn see_new(
        &self,
        fingerprint: Fingerprint,
        weight: u32,
        window: Window,
        max_active: u64,
        admit: impl Fn() -> bool,
    ) -> Seen {
        let found = self.try_see(fingerprint, weight, window, max_active, &admit);
        if found != Seen::Refused || !self.make_room(window) {
            return found;
        }
        self.try_see(fingerprint, weight, window, max_active, &admit)
    }

    fn try_see(
        &self,
        fingerprint: Fingerprint,
        weight: u32,
        window: Window,
        max_active: u64,
        admit: impl Fn() -> bool,
    ) -> Seen {
        let mut shard = self.shard(fingerprint);
        if let Some(slot) = shard.find(fingerprint) {
            if window.has_left(slot.last_seen_s) {
                let gone = u64::from(slot.weight);
                shard.remove(fingerprint);
                self.release(gone);
            } else {
                slot.last_seen_s = slot.last_seen_s.max(window.now_s);
                // A histogram may change its buckets: what is known flows, and counts for what it is.
                if slot.weight != weight {
                    let before = u64::from(std::mem::replace(&mut slot.weight, weight));
                    self.active.fetch_add(u64::from(weight), Ordering::Relaxed);
                    self.release(before);
                }
                return Seen::Known;
            }
        }
        let fits = |active: u64| active.checked_add(u64::from(weight)).filter(|grown| *grown <= max_active);
        if self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return Seen::Refused;
        }
        if !admit() {
            self.release(u64::from(weight));
            return Seen::Refused;
        }
        shard.insert(Entry { fingerprint: fingerprint.get(), last_seen_s: window.now_s, weight });
        Seen::Admitted
    }

    /// Puts back what a former run had saved.
    pub fn restore(&self, entry: Entry) {
        let fingerprint = Fingerprint::new(entry.fingerprint);
        let mut shard = self.shard(fingerprint);
        if shard.find(fingerprint).is_none() {
            shard.insert(Entry { fingerprint: fingerprint.get(), ..entry });
            self.active.fetch_add(u64::from(entry.weight), Ordering::Relaxed);
        }
    }

    /// Calls `visit` with every entry, shard by shard; a shard is locked only while it is copied.
    pub fn for_each(&self, mut visit: impl FnMut(&Entry)) {
        for CacheLine(shard) in self.shards.iter() {
            let slots = lock(shard).slots.clone();
            slots.iter().filter(|slot| slot.fingerprint != 0).for_each(&mut visit);
        }
    }

    /// Looks at up to `slots` slots of every shard: for tables that nobody looks into any more.
    pub fn sweep_all(&self, window: Window, slots: usize) {
        for CacheLine(shard) in self.shards.iter() {
            let freed = lock(shard).sweep(window, slots);
            self.release(freed);
        }
    }

    /// Once a second; whether anything left.
    fn make_room(&self, window: Window) -> bool {
        if self.swept_at_s.swap(window.now_s, Ordering::Relaxed) == window.now_s {
            return false;
        }
        let (mut freed, mut budget) = (0, SWEEP_ON_REFUSAL);
        for _ in 0..SHARDS {
            let mut shard = lock(&self.shards[self.next_swept.fetch_add(1, Ordering::Relaxed) % SHARDS].0);
            let slots = shard.slots.len().min(budget);
            budget -= slots;
            freed += shard.sweep(window, slots);
        }
        self.release(freed);
        freed > 0
    }

    /// The slot within a shard comes from the low bits, the shard from higher ones.
    #[inline]
    fn shard(&self, fingerprint: Fingerprint) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(fingerprint.get() >> 48) as usize % SHARDS].0)
    }

    fn release(&self, weight: u64) {
        if weight > 0 {
            self.active.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// Bytes of all slots.
    pub fn memory(&self) -> usize {
        let slots: usize = self.shards.iter().map(|CacheLine(shard)| lock(shard).slots.capacity()).sum();
        slots * std::mem::size_of::<Entry>() + std::mem::size_of_val(self.shards.as_ref())
    }
}

#[derive(Debug, Default)]
struct Shard {
    /// A power of two, or none.
    slots: Vec<Entry>,
    used: usize,
    /// Where the sweep goes on.
    cursor: usize,
    /// Until the next sweep is due.
    lookups: u32,
}

impl Shard {
    fn position(&self, fingerprint: Fingerprint) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = fingerprint.get() as usize & mask;
        loop {
            match self.slots[at].fingerprint {
                0 => return None,
                found if found == fingerprint.get() => return Some(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn find(&mut self, fingerprint: Fingerprint) -> Option<&mut Entry> {
        self.position(fingerprint).map(|at| &mut self.slots[at])
    }

    /// `entry` must not be there.
    fn insert(&mut self, entry: Entry) {
        // Always one slot is empty, or a search for what is not there would never end.
        if (self.used + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = entry.fingerprint as usize & mask;
        while self.slots[at].fingerprint != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = entry;
        self.used += 1;
    }

    fn grow(&mut self) {
        let larger = vec![Entry::default(); (self.slots.len() * 2).max(FIRST_SLOTS)];
        let former = std::mem::replace(&mut self.slots, larger);
        self.used = 0;
        self.cursor = 0;
        for entry in former.into_iter().filter(|entry| entry.fingerprint != 0) {
            self.insert(entry);
        }
    }

    fn remove(&mut self, fingerprint: Fingerprint) {
        if let Some(at) = self.position(fingerprint) {
            self.remove_at(at);
        }
    }

    /// Closes the gap by moving back what stands behind it, so that no tombstones gather.
    fn remove_at(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.slots[at];
            if entry.fingerprint == 0 {
                break;
            }
            let home = entry.fingerprint as usize & mask;
            // It may move to the gap unless its home lies behind the gap.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.slots[gap] = entry;
                gap = at;
            }
        }
        self.slots[gap] = Entry::default();
        self.used -= 1;
    }

    /// Checks up to `slots` slots; returns the weight that went.
    fn sweep(&mut self, window: Window, slots: usize) -> u64 {
        let mut freed = 0;
        for _ in 0..slots.min(self.slots.len()) {
            let entry = self.slots[self.cursor];
            if entry.fingerprint != 0 && window.has_left(entry.last_seen_s) {
                freed += u64::from(entry.weight);
                // Another may have moved here: the cursor stays.
                self.remove_at(self.cursor);
            } else {
                self.cursor = (self.cursor + 1) & (self.slots.len() - 1);
            }
        }
        if self.used == 0 {
            *self = Shard::default();
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn at(now_s: u32) -> Window {
        Window { now_s, length_s: 100 }
    }

    fn fingerprint(number: u64) -> Fingerprint {
        // As a keyed hash spreads them.
        Fingerprint::new(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn what_is_known_flows_and_what_is_new_needs_room() {
        let table = ActiveTable::default();
        let see = |number, weight, now| table.see(fingerprint(number), weight, at(now), 10, || true);
        assert_eq!(see(1, 4, 0), Seen::Admitted);
        assert_eq!(see(2, 6, 0), Seen::Admitted);
        assert_eq!(see(3, 1, 0), Seen::Refused);
        assert_eq!(see(1, 9, 50), Seen::Known, "a histogram with more buckets is still known");
        assert_eq!(table.active(), 15);
        assert_eq!(see(3, 2, 101), Seen::Refused, "the second one has left, but nine and two more are too many");
        assert_eq!(see(3, 1, 102), Seen::Admitted);
        assert_eq!(see(4, 9, 151), Seen::Admitted, "the first one has left");
    }

    #[test]
    fn a_refused_admission_takes_no_room() {
        let table = ActiveTable::default();
        assert_eq!(table.see(fingerprint(1), 5, at(0), 10, || false), Seen::Refused);
        assert_eq!(table.active(), 0);
    }

    #[test]
    fn five_million_series_take_at_most_64_bytes_each() {
        let table = ActiveTable::default();
        let count = 5_000_000;
        for number in 0..count {
            assert_eq!(table.see(fingerprint(number), 1, at(0), u64::MAX, || true), Seen::Admitted);
        }
        let each = table.memory() as f64 / count as f64;
        println!("{each:.1} bytes a series");
        assert!(each <= 64.0, "{each} bytes");
        assert_eq!(table.active(), count);
        assert!((0..count).all(|number| table.see(fingerprint(number), 1, at(1), 0, || false) == Seen::Known));
    }

    proptest! {
        /// Fingerprints that crowd a few slots, so that gaps are closed around other entries.
        #[test]
        fn a_shard_finds_what_is_in_it_and_nothing_else(
            steps in proptest::collection::vec((0u64..24, prop::bool::ANY), 1..400)
        ) {
            let mut shard = Shard::default();
            let mut model: HashMap<u64, u32> = HashMap::new();
            let crowded = |number: u64| Fingerprint::new(((number % 8) << 32) + number % 3 * 7 + 13);
            for (step, (number, comes)) in steps.into_iter().enumerate() {
                let fingerprint = crowded(number);
                if comes && !model.contains_key(&fingerprint.get()) {
                    let last_seen_s = step as u32;
                    shard.insert(Entry { fingerprint: fingerprint.get(), last_seen_s, weight: 1 });
                    model.insert(fingerprint.get(), last_seen_s);
                } else if !comes {
                    shard.remove(fingerprint);
                    model.remove(&fingerprint.get());
                }
                prop_assert_eq!(shard.used, model.len());
                for number in 0..24 {
                    let found = shard.find(crowded(number)).map(|entry| entry.last_seen_s);
                    prop_assert_eq!(found, model.get(&crowded(number).get()).copied());
                }
            }
        }

        /// Series that come, stay and go, against a map that forgets at once.
        #[test]
        fn the_table_is_a_map_that_forgets(
            steps in proptest::collection::vec((0u64..40, 1u32..4, 0u32..40), 1..300), max in 5u64..60
        ) {
            let table = ActiveTable::default();
            let mut model: HashMap<u64, (u32, u32)> = HashMap::new();
            let mut now = 0;
            for (number, weight, pause) in steps {
                now += pause;
                table.sweep_all(at(now), usize::MAX);
                table.sweep_all(at(now), usize::MAX);
                model.retain(|_, (seen, _)| now - *seen <= 100);
                let active: u64 = model.values().map(|(_, weight)| u64::from(*weight)).sum();
                let expected = if model.contains_key(&number) {
                    Seen::Known
                } else if active + u64::from(weight) <= max {
                    Seen::Admitted
                } else {
                    Seen::Refused
                };
                prop_assert_eq!(table.see(fingerprint(number), weight, at(now), max, || true), expected);
                if expected != Seen::Refused {
                    model.insert(number, (now, weight));
                }
                let sum: u64 = model.values().map(|(_, weight)| u64::from(*weight)).sum();
                prop_assert_eq!(table.active(), sum);
            }
        }
    }
}
