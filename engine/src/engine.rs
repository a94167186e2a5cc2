//! The engine: its threads, and everything that Python may ask of it. `python.rs` is a thin skin over this.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::admit::inflight::Inflight;
use crate::admit::series::{self, ActiveSnapshot};
use crate::admit::usage::{self, Downsampling, QuotaUse};
use crate::admit::volume::{Period, Periods};
use crate::answers;
use crate::batch::{Batches, Closed};
use crate::explain::explain;
use crate::generation::{Generation, TenantStates};
use crate::identify::tokens::{TokenCounts, Tokens};
use crate::ledger::{IntakeSnapshot, OutletSnapshot};
use crate::listen::farewell::Farewells;
use crate::listen::handshake::HandshakeFailures;
use crate::listen::stats::{RequestSeries, RequestStats};
use crate::listen::tls::{TlsContext, TlsPem};
use crate::listen::{self, Departure, Limits, Protocol, Shared};
use crate::lock::lock;
use crate::mask::PseudonymKeys;
use crate::otlp::Signal;
use crate::policy::Table;
use crate::trial::trial;

/// The running data path.
pub struct Engine {
    shared: Arc<Shared>,
    runtimes: Vec<Handle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
}

impl Engine {
    /// Starts `threads` threads, each with its own event loop; connections are spread over them by the kernel.
    pub fn start(threads: usize, limits: Limits, max_inflight_bytes: u64) -> std::io::Result<Engine> {
        let shared = Arc::new(Shared {
            limits,
            generation: ArcSwap::from_pointee(Generation::empty()),
            states: TenantStates::default(),
            batches: Batches::new()?,
            inflight: Arc::new(Inflight::new(max_inflight_bytes)),
            periods: Periods::default(),
            pseudonym_keys: ArcSwap::default(),
            gate: ArcSwapOption::empty(),
            stats: RequestStats::default(),
            tokens: Tokens::new()?,
            departure: watch::Sender::new(Departure::default()),
            intake_closed: AtomicBool::new(false),
            connections: [AtomicU64::new(0), AtomicU64::new(0)],
            awaited_connections: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            tls: [watch::Sender::new(None), watch::Sender::new(None)],
            handshake_failures: HandshakeFailures::default(),
            farewells: Farewells::default(),
            active_requests: AtomicU64::new(0),
            taken_requests: AtomicU64::new(0),
            abandoned_requests: [AtomicU64::new(0), AtomicU64::new(0)],
            epoch: Instant::now(),
        });
        let stop = watch::Sender::new(false);
        let mut runtimes = Vec::with_capacity(threads);
        let mut joins = Vec::with_capacity(threads);
        for index in 0..threads.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.spawn(answers::tell_requests_here());
            runtimes.push(runtime.handle().clone());
            let mut stopped = stop.subscribe();
            let thread = std::thread::Builder::new().name(format!("engine-{index}")).spawn(move || {
                // An error means that the engine is gone; dropping the runtime closes its connections.
                let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            })?;
            joins.push(thread);
        }
        let closer = Arc::clone(&shared);
        if let Some(runtime) = runtimes.first() {
            runtime.spawn(async move { closer.batches.run().await });
        }
        Ok(Engine { shared, runtimes, threads: Mutex::new(joins), stop })
    }

    /// Compiles a policy table and swaps it in. The old one stays if this one does not compile.
    pub fn apply(&self, table: &[u8]) -> Result<(), String> {
        let table: Table = serde_json::from_slice(table).map_err(|error| error.to_string())?;
        let generation = Generation::compile(&table, &self.shared.states)?;
        generation.update_budgets(self.shared.now_ns());
        self.shared.batches.configure(table.ack, table.batch);
        self.shared.tokens.configure(table.tokens);
        self.shared.generation.store(Arc::new(generation));
        // Requests that waited for a commit of the old `ack` must not wait for a batch to grow old.
        self.shared.batches.flush();
        Ok(())
    }

    /// Takes new TLS material for handshakes from here on. The old one stays if this one is not usable.
    ///
    /// Connections go on, but for those whose client certificate the new material no longer trusts: they are closed.
    pub fn set_tls(&self, protocol: Protocol, pem: &TlsPem<'_>) -> Result<(), String> {
        let context = TlsContext::build(protocol, pem)?;
        self.shared.tls[protocol as usize].send_replace(Some(Arc::new(context)));
        Ok(())
    }

    /// Serves on a bound, listening socket; in clear text unless `set_tls` was called before.
    pub fn listen(&self, protocol: Protocol, listener: StdListener) -> Result<(), String> {
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        for runtime in &self.runtimes {
            let listener = listener.try_clone().map_err(|error| error.to_string())?;
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
            runtime.spawn(listen::serve(listener, protocol, Arc::clone(&self.shared)));
        }
        Ok(())
    }

    pub fn event_fd(&self) -> i32 {
        self.shared.batches.event_fd()
    }

    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// Who was refused since the last call: reason, address and transport.
    pub fn refused_peers(&self) -> Vec<(&'static str, String, &'static str)> {
        let refused = self.shared.stats.take_refused().into_iter();
        refused.map(|peer| (peer.refusal.reason(), peer.address.to_string(), peer.protocol.name())).collect()
    }

    /// Tenant and id of each key that this generation saw for the first time since the last call.
    pub fn newly_used_keys(&self) -> Vec<(String, String)> {
        self.shared.generation.load().identity.newly_used_keys()
    }

    pub fn drain(&self) -> Vec<Closed> {
        self.shared.batches.drain()
    }

    pub fn settle(&self, ids: &[u64], kept: bool) {
        self.shared.batches.settle(ids, kept);
    }

    /// Refuses new requests for `reason`, or admits them again. An unknown tenant has no requests to refuse.
    pub fn gate(&self, tenant: Option<&str>, reason: Option<String>) {
        let reason = reason.map(Arc::new);
        match tenant {
            None => self.shared.gate.store(reason),
            Some(tenant) => {
                if let Some(state) = self.shared.states.find(tenant) {
                    state.gate.store(reason);
                }
            }
        }
    }

    /// A new day or month has begun: nothing of its volume is used yet, and it ends so many seconds from now.
    pub fn start_period(&self, period: Period, ends_in_s: f64) {
        let ends_in = Duration::try_from_secs_f64(ends_in_s).unwrap_or(Duration::ZERO);
        let ends_at = self.shared.now_ns().saturating_add(u64::try_from(ends_in.as_nanos()).unwrap_or(u64::MAX));
        self.shared.periods.set_end(period, ends_at);
        for state in self.shared.states.all() {
            state.volume.start(period);
        }
    }

    /// What a tenant used in the present periods before this engine counted.
    pub fn set_volume(&self, tenant: &str, signal: Signal, day_bytes: u64, month_bytes: u64) {
        self.shared.states.get(tenant).volume.set_before(signal, day_bytes, month_bytes);
    }

    /// What chosen stages make of a request (see [`trial`]).
    pub fn trial(&self, tenant: &str, signal: &str, request: &[u8], stages: &[String]) -> Result<Vec<u8>, String> {
        let signal = signal_named(signal)?;
        trial(&self.shared.generation.load(), &self.shared.pseudonym_keys.load(), tenant, signal, request, stages)
    }

    /// The values that masking changes in a request, as JSON (see [`explain`]).
    pub fn explain(&self, tenant: &str, signal: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let (generation, keys) = (self.shared.generation.load(), self.shared.pseudonym_keys.load());
        let values = explain(&generation, &keys, tenant, signal_named(signal)?, request)?;
        serde_json::to_vec(&values).map_err(|error| error.to_string())
    }

    /// Takes new pseudonym keys in place of all it had: name, tenant, version, key. The old ones stay if one is too short.
    pub fn set_pseudonym_keys<'k>(
        &self,
        keys: impl Iterator<Item = (&'k str, &'k str, u32, &'k [u8])>,
    ) -> Result<(), String> {
        let mut all = PseudonymKeys::default();
        for (name, tenant, version, key) in keys {
            all.add(name, tenant, version, key)?;
        }
        self.shared.pseudonym_keys.store(Arc::new(all));
        Ok(())
    }

    pub fn flush(&self) {
        self.shared.batches.flush();
    }

    /// Tells clients to go, while connections are still taken. Health checks hear of it unless there is a successor.
    pub fn leave(&self, to_successor: bool) {
        self.shared.departure.send_modify(|departure| {
            departure.announced = true;
            departure.not_serving = !to_successor;
        });
    }

    pub fn close_listeners(&self) {
        self.shared.departure.send_modify(|departure| {
            departure.announced = true;
            departure.draining = true;
        });
    }

    /// Refuses every request whose body is not here yet.
    pub fn close_intake(&self) {
        self.shared.close_intake();
    }

    /// Connections over HTTP/1.1 that have not had an answer since `leave`.
    pub fn awaited_connections(&self) -> u64 {
        self.shared.awaited_connections.load(Ordering::Relaxed)
    }

    /// Open connections, active requests, requests that are past their body, and batches that wait to be kept.
    pub fn under_way(&self) -> (u64, u64, u64, u64) {
        let shared = &self.shared;
        fence(Ordering::SeqCst);
        let taken = shared.taken_requests.load(Ordering::Relaxed);
        let active = shared.active_requests.load(Ordering::Relaxed);
        (shared.open_connections(), active, taken, shared.batches.handed_out() as u64)
    }

    /// Closes all connections and joins the threads.
    pub fn stop(&self) {
        self.close_listeners();
        self.stop.send_replace(true);
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has nothing left to join.
            let _ = thread.join();
        }
    }

    /// What is known of a tenant's active series and streams; none if nothing is tracked. `last`: nothing comes in any
    /// more, so what is folded can go on in the next run.
    pub fn dump_series(&self, tenant: &str, last: bool) -> Option<Vec<u8>> {
        let state = self.shared.states.find(tenant)?;
        series::dump(tenant, &state.active, last)
    }

    /// Puts back what `dump_series` gave, before the first policy.
    pub fn load_series(&self, bytes: &[u8]) -> Result<(), String> {
        let (tenant, state) = series::restore(bytes, series::Now::read(0))?;
        match self.shared.states.restore(&tenant, state) {
            true => Ok(()),
            false => Err(format!("tenant {tenant} is in use already")),
        }
    }

    /// Every counter, as JSON (docs/engine-snapshot.md).
    pub fn snapshot(&self) -> Vec<u8> {
        let shared = &self.shared;
        let mut intake = Vec::new();
        let mut outlets = Vec::new();
        let mut quotas = Vec::new();
        let mut downsampling = Vec::new();
        let now_ns = shared.now_ns();
        let mut active = Vec::new();
        for state in shared.states.all() {
            for signal in Signal::ALL {
                intake.extend(state.intake[signal.index()].snapshot(&state.id, signal));
            }
            usage::collect(state.as_ref(), now_ns, &mut quotas, &mut downsampling);
            active.extend(state.active.snapshot(&state.id));
            for lane in state.lanes() {
                outlets.push(lane.cell.snapshot(&lane.tenant, &lane.destination, lane.signal));
            }
        }
        let snapshot = Snapshot {
            generation: shared.generation.load().number,
            inflight_bytes: shared.inflight.used(),
            max_inflight_bytes: shared.inflight.max(),
            connections: ByProtocol {
                grpc: shared.connections[Protocol::Grpc as usize].load(Ordering::Relaxed),
                http: shared.connections[Protocol::Http as usize].load(Ordering::Relaxed),
            },
            refused_connections: shared.refused_connections.load(Ordering::Relaxed),
            closed_connections: shared.farewells.snapshot().collect(),
            abandoned_requests: ByProtocol {
                grpc: shared.abandoned_requests[Protocol::Grpc as usize].load(Ordering::Relaxed),
                http: shared.abandoned_requests[Protocol::Http as usize].load(Ordering::Relaxed),
            },
            active_requests: shared.active_requests.load(Ordering::Relaxed),
            handed_out_batches: shared.batches.handed_out(),
            intake,
            outlets,
            quotas,
            downsampling,
            active,
            requests: shared.stats.snapshot(),
            unauthenticated_requests: shared.stats.unauthenticated(),
            tokens: shared.tokens.counts(),
            tls_handshake_failures: shared.handshake_failures.snapshot().collect(),
        };
        // Numbers and strings always serialise; an empty object would still be JSON.
        serde_json::to_vec(&snapshot).unwrap_or_else(|_| b"{}".to_vec())
    }
}

fn signal_named(name: &str) -> Result<Signal, &'static str> {
    let known = Signal::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or("signal must be 'traces', 'metrics' or 'logs'")
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Serialize)]
struct Snapshot {
    generation: u64,
    inflight_bytes: u64,
    max_inflight_bytes: u64,
    connections: ByProtocol,
    refused_connections: u64,
    /// Protocol, reason and count.
    closed_connections: Vec<(&'static str, &'static str, u64)>,
    abandoned_requests: ByProtocol,
    active_requests: u64,
    handed_out_batches: usize,
    intake: Vec<IntakeSnapshot>,
    outlets: Vec<OutletSnapshot>,
    quotas: Vec<QuotaUse>,
    downsampling: Vec<Downsampling>,
    active: Vec<ActiveSnapshot>,
    requests: Vec<RequestSeries>,
    unauthenticated_requests: BTreeMap<&'static str, u64>,
    tokens: TokenCounts,
    tls_handshake_failures: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct ByProtocol {
    grpc: u64,
    http: u64,
}
