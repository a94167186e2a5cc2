//! The bound on bytes in flight: request bodies being received or processed, and batches that are not kept yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Counts bytes in flight against a bound.
#[derive(Debug)]
pub struct Inflight {
    used: AtomicU64,
    max: u64,
}

impl Inflight {
    pub fn new(max_bytes: u64) -> Inflight {
        Inflight { used: AtomicU64::new(0), max: max_bytes }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    fn add(&self, bytes: u64) -> bool {
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.max)
        });
        grown.is_ok()
    }
}

/// Bytes in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    inflight: Arc<Inflight>,
    bytes: u64,
}

impl Reservation {
    /// Reserves nothing yet.
    pub fn empty(inflight: &Arc<Inflight>) -> Reservation {
        Reservation { inflight: Arc::clone(inflight), bytes: 0 }
    }

    /// Reserves more; false, and nothing more, if the bound would be passed.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let granted = self.inflight.add(bytes as u64);
        if granted {
            self.bytes += bytes as u64;
        }
        granted
    }

    /// Another reservation, granted even over the bound: for what a request that is let in has become.
    pub fn also(&self, bytes: usize) -> Reservation {
        self.inflight.used.fetch_add(bytes as u64, Ordering::Relaxed);
        Reservation { inflight: Arc::clone(&self.inflight), bytes: bytes as u64 }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inflight.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_bounded_and_given_back() {
        let inflight = Arc::new(Inflight::new(100));
        let mut first = Reservation::empty(&inflight);
        assert!(first.grow(60));
        let mut second = Reservation::empty(&inflight);
        assert!(!second.grow(41));
        assert!(second.grow(40));
        let piece = second.also(30);
        assert_eq!(inflight.used(), 130);
        drop((first, second));
        assert_eq!(inflight.used(), 30);
        drop(piece);
        assert_eq!(inflight.used(), 0);
    }
}
