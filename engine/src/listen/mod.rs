//! Listeners: OTLP/gRPC and OTLP/HTTP servers, and what all their connections share.

mod activity;
pub mod answer;
pub mod body;
mod connection;
mod export;
pub mod farewell;
mod grpc;
pub mod handshake;
mod http;
mod session;
pub mod stats;
pub mod tls;

use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use crate::admit::inflight::Inflight;
use crate::admit::volume::Periods;
use crate::batch::Batches;
use crate::generation::{Generation, TenantStates};
use crate::identify::tokens::Tokens;
use crate::mask::PseudonymKeys;
use farewell::Farewells;
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
    /// For a TLS handshake, and for a request's head.
    pub header_timeout: Duration,
    /// For a request's body, from its head on.
    pub body_timeout: Duration,
    /// How long a connection may go without a request.
    pub idle_timeout: Duration,
    /// How often a client over HTTP/2 is pinged; it has a third of this to answer.
    pub keepalive_interval: Duration,
}

/// How far the engine is on its way out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Departure {
    /// Answers over HTTP/1.1 say `connection: close`.
    pub announced: bool,
    /// Health checks hear NOT_SERVING. Not if another process goes on with the same sockets.
    pub not_serving: bool,
    /// Nothing more is accepted, and clients are told to go.
    pub draining: bool,
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
    pub departure: watch::Sender<Departure>,
    /// Requests go no further than their body any more.
    pub intake_closed: AtomicBool,
    pub connections: [AtomicU64; 2],
    /// Over HTTP/1.1, and open since before the departure was announced: they go with their next answer.
    pub awaited_connections: AtomicU64,
    pub refused_connections: AtomicU64,
    /// By protocol; `None` is clear text. New handshakes take what is here, older connections look whether it still
    /// trusts their certificate.
    pub tls: [watch::Sender<Option<Arc<TlsContext>>>; 2],
    pub handshake_failures: HandshakeFailures,
    pub farewells: Farewells,
    pub active_requests: AtomicU64,
    /// Of the active ones, those whose body is here: they may put items into batches, or wait for these.
    pub taken_requests: AtomicU64,
    /// Whose clients did not wait for the answer.
    pub abandoned_requests: [AtomicU64; 2],
    /// Start of the monotonic clock that token buckets count on.
    pub epoch: Instant,
}

impl Shared {
    /// The monotonic clock of all budgets, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn open_connections(&self) -> u64 {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether so many connections are open that idle ones must make room: nine tenths of what may be.
    pub fn crowded(&self) -> bool {
        self.open_connections() * 10 >= self.limits.max_connections * 9
    }

    /// Lets a request whose body is here go on, until the intake closes.
    ///
    /// The fences make it certain that whoever closes the intake and then finds nothing taken has seen everything that
    /// ever will be.
    pub fn take(&self) -> Option<Gauged<'_>> {
        let taken = Gauged::new(&self.taken_requests);
        fence(Ordering::SeqCst);
        (!self.intake_closed.load(Ordering::Relaxed)).then_some(taken)
    }

    pub fn close_intake(&self) {
        self.intake_closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
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
