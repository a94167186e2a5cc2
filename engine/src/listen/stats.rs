//! Counters of requests: how many, how answered, how long they took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::answer::{Accepted, Code, Refusal};
use super::Protocol;
use crate::identify::certificate::CertificateRefusal;
use crate::otlp::Signal;

/// Upper bounds of the duration histogram, in seconds.
pub const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Default)]
struct Cell {
    sum_nanos: AtomicU64,
    /// One a bound, and one for what is over the last.
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// By transport, signal and gRPC status.
#[derive(Default)]
pub struct RequestStats {
    cells: [[[Cell; Code::ALL.len()]; 3]; 2],
    pub no_credential: AtomicU64,
    pub unknown_credential: AtomicU64,
    pub certificate_refusals: [AtomicU64; CertificateRefusal::ALL.len()],
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

    /// Refused identities by reason.
    pub fn unauthenticated(&self) -> BTreeMap<&'static str, u64> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let certificates = CertificateRefusal::ALL.iter().zip(&self.certificate_refusals);
        let credentials =
            [("no_credential", read(&self.no_credential)), ("unknown_credential", read(&self.unknown_credential))];
        certificates.map(|(refusal, counter)| (refusal.reason(), read(counter))).chain(credentials).collect()
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
