//! Counters of requests: how many, how answered, how long they took.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;

use super::answer::{Accepted, Code, Refusal};
use super::Protocol;
use crate::identify::refusal::IdentityRefusal;
use crate::lock::lock;
use crate::otlp::Signal;

/// Upper bounds of the duration histogram, in seconds.
pub const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Default)]
struct Cell {
    sum_nanos: AtomicU64,
    /// One a bound, and one for what is over the last.
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// How many refusals are told apart between two looks of the audit trail.
const MAX_REFUSED: usize = 256;

/// Somebody who was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefusedPeer {
    pub refusal: IdentityRefusal,
    pub address: IpAddr,
    pub protocol: Protocol,
}

/// By transport, signal and gRPC status.
#[derive(Default)]
pub struct RequestStats {
    cells: [[[Cell; Code::ALL.len()]; 3]; 2],
    unauthenticated: [AtomicU64; IdentityRefusal::COUNT],
    /// Who was refused and why, since this was last asked for: for the audit trail, so not every time.
    refused: Mutex<HashSet<RefusedPeer>>,
}

/// One series of the snapshot.
#[derive(Serialize)]
pub struct RequestSeries {
    transport: &'static str,
    signal: &'static str,
    code: &'static str,
    count: u64,
    sum_seconds: f64,
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, u64)>,
}

impl RequestStats {
    pub fn observe(&self, protocol: Protocol, signal: Signal, result: &Result<Accepted, Refusal>, took: Duration) {
        let code = result.as_ref().map_or_else(|refusal| refusal.code, |_| Code::Ok);
        let index = Code::ALL.iter().position(|known| *known == code).unwrap_or(0);
        let cell = &self.cells[protocol as usize][signal.index()][index];
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        cell.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        cell.sum_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn refuse_identity(&self, refusal: IdentityRefusal, address: IpAddr, protocol: Protocol) {
        self.unauthenticated[refusal.index()].fetch_add(1, Ordering::Relaxed);
        let mut refused = lock(&self.refused);
        if refused.len() < MAX_REFUSED {
            refused.insert(RefusedPeer { refusal, address, protocol });
        }
    }

    /// Refused identities by reason.
    pub fn unauthenticated(&self) -> BTreeMap<&'static str, u64> {
        let counted = IdentityRefusal::all().zip(&self.unauthenticated);
        counted.map(|(refusal, count)| (refusal.reason(), count.load(Ordering::Relaxed))).collect()
    }

    /// Who was refused since the last call, each address and reason once, up to a number.
    pub fn take_refused(&self) -> HashSet<RefusedPeer> {
        std::mem::take(&mut lock(&self.refused))
    }

    /// Every series that has counted something.
    pub fn snapshot(&self) -> Vec<RequestSeries> {
        let mut series = Vec::new();
        for protocol in Protocol::ALL {
            for signal in Signal::ALL {
                for (index, code) in Code::ALL.iter().enumerate() {
                    let cell = &self.cells[protocol as usize][signal.index()][index];
                    let mut count = 0;
                    let mut buckets = Vec::with_capacity(BOUNDS.len());
                    for (bucket, bound) in cell.buckets.iter().zip(BOUNDS.iter().map(Some).chain([None])) {
                        count += bucket.load(Ordering::Relaxed);
                        if let Some(bound) = bound {
                            buckets.push((*bound, count));
                        }
                    }
                    if count > 0 {
                        series.push(RequestSeries {
                            transport: protocol.name(),
                            signal: signal.name(),
                            code: code.name(),
                            count,
                            sum_seconds: Duration::from_nanos(cell.sum_nanos.load(Ordering::Relaxed)).as_secs_f64(),
                            buckets,
                        });
                    }
                }
            }
        }
        series
    }
}
