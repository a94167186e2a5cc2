//! Listeners: OTLP/gRPC and OTLP/HTTP servers, and what all their connections share.

pub mod answer;
pub mod body;
mod connection;
mod export;
mod grpc;
pub mod handshake;
mod http;
pub mod stats;
pub mod tls;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use crate::admit::inflight::Inflight;
use crate::admit::volume::Periods;
use crate::batch::Batches;
use crate::generation::{Generation, TenantStates};
use crate::identify::tokens::Tokens;
use crate::mask::PseudonymKeys;
use handshake::HandshakeFailures;
use stats::RequestStats;
use tls::TlsContext;

pub use connection::serve;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OTLP/gRPC: HTTP/2 only.
    Grpc,
    /// OTLP/HTTP: HTTP/1.1 and HTTP/2.
    Http,
}

impl Protocol {
    pub const ALL: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        }
    }
}

/// The bounds of one engine.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of one request, before and after decompression.
    pub max_request_bytes: usize,
    pub max_connections: u64,
}

/// What every connection works on.
pub struct Shared {
    pub limits: Limits,
    pub generation: ArcSwap<Generation>,
    pub states: TenantStates,
    pub batches: Batches,
    pub inflight: Arc<Inflight>,
    /// When the periods of volume quotas end.
    pub periods: Periods,
    /// Swapped whole, like a generation; wiped when the last request that uses them is done.
    pub pseudonym_keys: ArcSwap<PseudonymKeys>,
    /// Why new requests of everybody are refused for now.
    pub gate: ArcSwapOption<String>,
    pub stats: RequestStats,
    pub tokens: Tokens,
    /// True once the listeners close: clients are told to go.
    pub draining: watch::Sender<bool>,
    pub connections: [AtomicU64; 2],
    pub refused_connections: AtomicU64,
    /// By protocol; `None` is clear text. New handshakes take what is here, older connections look whether it still
    /// trusts their certificate.
    pub tls: [watch::Sender<Option<Arc<TlsContext>>>; 2],
    pub handshake_failures: HandshakeFailures,
    pub active_requests: AtomicU64,
    /// Start of the monotonic clock that token buckets count on.
    pub epoch: Instant,
}

impl Shared {
    /// The monotonic clock of all budgets, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Adds one to a gauge for as long as it lives.
pub struct Gauged<'a>(&'a AtomicU64);

impl<'a> Gauged<'a> {
    pub fn new(gauge: &'a AtomicU64) -> Gauged<'a> {
        gauge.fetch_add(1, Ordering::Relaxed);
        Gauged(gauge)
    }
}

impl Drop for Gauged<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
