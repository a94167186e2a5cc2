//! The bounds on bytes in flight: request bodies being received or processed, and batches that are not kept yet. One bound
//! is everybody's (memory), one each tenant's and signal's (a quota).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Counts bytes in flight against a bound.
#[derive(Debug)]
pub struct Inflight {
    used: AtomicU64,
    max: AtomicU64,
}

impl Inflight {
    pub fn new(max_bytes: u64) -> Inflight {
        Inflight { used: AtomicU64::new(0), max: AtomicU64::new(max_bytes) }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Another bound; what is in flight stays so.
    pub fn set_max(&self, max_bytes: u64) {
        self.max.store(max_bytes, Ordering::Relaxed);
    }

    /// Adds if the sum stays within the bound, or if nothing but `own` bytes is in flight.
    fn add(&self, bytes: u64, own: Option<u64>) -> bool {
        let max = self.max();
        let grown = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let alone = own.is_some_and(|own| used <= own);
            used.checked_add(bytes).filter(|sum| alone || *sum <= max)
        });
        grown.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Which bound has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Gateway,
    Tenant,
}

/// Bytes in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    gateway: Arc<Inflight>,
    tenant: Arc<Inflight>,
    bytes: u64,
}

impl Reservation {
    /// Reserves nothing yet.
    pub fn empty(gateway: &Arc<Inflight>, tenant: &Arc<Inflight>) -> Reservation {
        Reservation { gateway: Arc::clone(gateway), tenant: Arc::clone(tenant), bytes: 0 }
    }

    /// Reserves more, or nothing if either bound would be passed.
    ///
    /// The tenant's bound lets one request pass when it is the only one, however large it grows: a bound that is smaller
    /// than a request would otherwise refuse it for ever and call that retryable. Its size has a limit of its own.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = bytes as u64;
        if !self.tenant.add(bytes, Some(self.bytes)) {
            return Err(Full::Tenant);
        }
        if !self.gateway.add(bytes, None) {
            self.tenant.give_back(bytes);
            return Err(Full::Gateway);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Another reservation, granted even over the bounds: for what a request that is let in has become.
    pub fn also(&self, bytes: usize) -> Reservation {
        self.gateway.used.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tenant.used.fetch_add(bytes as u64, Ordering::Relaxed);
        Reservation { gateway: Arc::clone(&self.gateway), tenant: Arc::clone(&self.tenant), bytes: bytes as u64 }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.gateway.give_back(self.bytes);
        self.tenant.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(gateway: u64, tenant: u64) -> (Arc<Inflight>, Arc<Inflight>) {
        (Arc::new(Inflight::new(gateway)), Arc::new(Inflight::new(tenant)))
    }

    #[test]
    fn what_is_reserved_is_bounded_and_given_back() {
        let (gateway, tenant) = bounds(100, u64::MAX);
        let mut first = Reservation::empty(&gateway, &tenant);
        assert_eq!(first.grow(60), Ok(()));
        let mut second = Reservation::empty(&gateway, &tenant);
        assert_eq!(second.grow(41), Err(Full::Gateway));
        assert_eq!(tenant.used(), 60, "what one bound refuses, the other has not taken");
        assert_eq!(second.grow(40), Ok(()));
        let piece = second.also(30);
        assert_eq!((gateway.used(), tenant.used()), (130, 130));
        drop((first, second));
        assert_eq!(gateway.used(), 30);
        drop(piece);
        assert_eq!((gateway.used(), tenant.used()), (0, 0));
    }

    #[test]
    fn a_tenant_over_its_bound_is_refused_and_its_neighbour_is_not() {
        let (gateway, tenant) = bounds(1000, 100);
        let mut first = Reservation::empty(&gateway, &tenant);
        assert_eq!(first.grow(60), Ok(()));
        let mut second = Reservation::empty(&gateway, &tenant);
        assert_eq!(second.grow(60), Err(Full::Tenant));
        assert_eq!(gateway.used(), 60);
        let mut neighbour = Reservation::empty(&gateway, &Arc::new(Inflight::new(100)));
        assert_eq!(neighbour.grow(60), Ok(()));
        drop(first);
        assert_eq!(second.grow(60), Ok(()));
    }

    #[test]
    fn one_request_alone_passes_its_tenants_bound() {
        let (gateway, tenant) = bounds(1000, 100);
        let mut only = Reservation::empty(&gateway, &tenant);
        assert_eq!((only.grow(80), only.grow(80)), (Ok(()), Ok(())));
        assert_eq!(Reservation::empty(&gateway, &tenant).grow(1), Err(Full::Tenant));
    }
}
