//! Tokens: credentials that only an identity provider can judge. What is known of them, and what is being asked.
//!
//! A token that nobody has judged yet is a question to Python, asked once for all requests that wait on it. Verdicts are
//! kept for as long as they hold, believed and refused ones apart, so that a storm of made-up tokens drives no known one
//! out. How many questions a second there may be, in all and from one address, is bounded: what is known costs a look-up,
//! whatever a stranger does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::oneshot;

use crate::admit::bucket::Bucket;
use crate::events::EventFd;
use crate::lock::lock;
use crate::otlp::Signal;
use crate::policy::{Rate, TokenLimits};

/// A longer token is nobody's.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// How long a request waits for a verdict.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// How many requests may wait, for all verdicts together.
const MAX_WAITING: usize = 10_000;
/// How many verdicts may be outstanding.
const MAX_QUESTIONS: usize = 1024;
/// How many addresses are told apart; those beyond share what the whole gateway may ask.
const MAX_ADDRESSES: usize = 4096;
/// What a client is told to wait when too many tokens are being judged.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The SHA-256 of a token: a look-up by it tells nothing about the token by the time it takes.
pub type Hash = [u8; 32];

/// Which signals a credential may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals(u8);

impl Signals {
    pub const ALL: Signals = Signals(0b111);

    pub fn of(signals: impl IntoIterator<Item = Signal>) -> Signals {
        Signals(signals.into_iter().fold(0, |bits, signal| bits | 1 << signal.index()))
    }

    /// What both have.
    pub fn and(self, other: Signals) -> Signals {
        Signals(self.0 & other.0)
    }

    pub fn contain(self, signal: Signal) -> bool {
        self.0 & 1 << signal.index() != 0
    }
}

/// What an identity provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Believed {
        tenant: Arc<str>,
        signals: Signals,
    },
    Refused,
    /// Nobody can tell now; the client is told to wait this long.
    Unavailable {
        retry_after: Duration,
    },
}

/// A token that Python is asked about.
pub struct Question {
    pub id: u64,
    pub token: Vec<u8>,
}

/// The time until which something holds.
struct Kept<T> {
    value: T,
    until: Instant,
}

/// Verdicts up to a number; when there are too many, one that has run out goes, or else any.
struct Cache<T> {
    kept: HashMap<Hash, Kept<T>>,
    capacity: usize,
}

/// How many entries are looked at to find one that has run out.
const LOOKED_AT: usize = 8;

impl<T: Clone> Cache<T> {
    fn new(capacity: usize) -> Cache<T> {
        Cache { kept: HashMap::new(), capacity }
    }

    fn get(&mut self, hash: &Hash, now: Instant) -> Option<T> {
        let kept = self.kept.get(hash)?;
        if kept.until <= now {
            self.kept.remove(hash);
            return None;
        }
        Some(kept.value.clone())
    }

    fn put(&mut self, hash: Hash, value: T, until: Instant, now: Instant) {
        while self.kept.len() >= self.capacity.max(1) && !self.kept.contains_key(&hash) {
            // The order of a hash map with a random seed is no order that a stranger can use.
            let some = || self.kept.iter().take(LOOKED_AT);
            let goes = some().find(|(_, kept)| kept.until <= now).or_else(|| some().next()).map(|(hash, _)| *hash);
            let Some(goes) = goes else { break };
            self.kept.remove(&goes);
        }
        self.kept.insert(hash, Kept { value, until });
    }
}

type Answer = oneshot::Sender<Verdict>;

struct Pending {
    id: u64,
    waiting: Vec<Answer>,
}

struct State {
    believed: Cache<(Arc<str>, Signals)>,
    refused: Cache<()>,
    pending: HashMap<Hash, Pending>,
    hashes: HashMap<u64, Hash>,
    waiting: usize,
    /// Not yet fetched by Python.
    questions: Vec<Question>,
    next_id: u64,
    limits: TokenLimits,
    everybody: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

/// Counters of the snapshot.
#[derive(Debug, Default, Serialize)]
pub struct TokenCounts {
    believed: usize,
    refused: usize,
    pending: usize,
    waiting: usize,
    asked: u64,
    /// Tokens that were not asked about, since too many were.
    throttled: u64,
}

/// The tokens of one engine; outlives generations.
pub struct Tokens {
    state: Mutex<State>,
    event: EventFd,
    epoch: Instant,
    asked: AtomicU64,
    throttled: AtomicU64,
}

/// What to do about a token.
#[derive(Debug)]
pub enum Judged {
    /// It cannot be a token at all.
    No,
    Now(Verdict),
    /// Comes with the verdict; dropped without one if the engine stops.
    Later(oneshot::Receiver<Verdict>),
}

impl Tokens {
    pub fn new() -> std::io::Result<Tokens> {
        let limits = TokenLimits::default();
        Ok(Tokens {
            state: Mutex::new(State {
                believed: Cache::new(limits.max_believed),
                refused: Cache::new(limits.max_refused),
                pending: HashMap::new(),
                hashes: HashMap::new(),
                waiting: 0,
                questions: Vec::new(),
                next_id: 1,
                limits,
                everybody: Bucket::new(limits.questions),
                by_address: HashMap::new(),
            }),
            event: EventFd::new()?,
            epoch: Instant::now(),
            asked: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        })
    }

    /// New bounds; what is known stays, as far as it fits.
    pub fn configure(&self, limits: TokenLimits) {
        let mut state = lock(&self.state);
        if state.limits == limits {
            return;
        }
        state.believed.capacity = limits.max_believed;
        state.refused.capacity = limits.max_refused;
        state.everybody.set_rate(self.nanos(Instant::now()), limits.questions);
        state.by_address.clear();
        state.limits = limits;
    }

    /// Forgets every verdict: the providers are others now.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.believed.kept.clear();
        state.refused.kept.clear();
    }

    /// What is known of a token with this SHA-256 from `address`; if nothing is, a question.
    pub fn judge(&self, token: &[u8], hash: Hash, address: IpAddr) -> Judged {
        let now = Instant::now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if let Some((tenant, signals)) = state.believed.get(&hash, now) {
            return Judged::Now(Verdict::Believed { tenant, signals });
        }
        if state.refused.get(&hash, now).is_some() {
            return Judged::Now(Verdict::Refused);
        }
        // Looked at only now: a known token has been looked at before.
        if !is_signed_token(token) {
            return Judged::No;
        }
        if state.waiting >= MAX_WAITING {
            return self.busy(BUSY_RETRY_AFTER);
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(pending) = state.pending.get_mut(&hash) {
            state.waiting += 1;
            pending.waiting.push(sender);
            return Judged::Later(receiver);
        }
        if state.pending.len() >= MAX_QUESTIONS {
            return self.busy(BUSY_RETRY_AFTER);
        }
        if let Err(wait) = state.may_ask(self.nanos(now), address) {
            return self.busy(wait);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting += 1;
        state.pending.insert(hash, Pending { id, waiting: vec![sender] });
        state.hashes.insert(id, hash);
        state.questions.push(Question { id, token: token.to_vec() });
        if state.questions.len() == 1 {
            self.event.signal();
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Judged::Later(receiver)
    }

    fn busy(&self, retry_after: Duration) -> Judged {
        self.throttled.fetch_add(1, Ordering::Relaxed);
        Judged::Now(Verdict::Unavailable { retry_after })
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn event_fd(&self) -> i32 {
        self.event.raw()
    }

    /// The questions since the last call.
    pub fn drain(&self) -> Vec<Question> {
        self.event.reset();
        std::mem::take(&mut lock(&self.state).questions)
    }

    /// Python's answer to a question, and how long it holds. An answer to no question is ignored: it was given up.
    pub fn answer(&self, id: u64, verdict: &Verdict, holds: Duration) {
        let now = Instant::now();
        // Longer than a year is for ever.
        let until = now + holds.min(Duration::from_secs(365 * 86_400));
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(hash) = state.hashes.remove(&id) else { return };
        let Some(pending) = state.pending.remove(&hash) else { return };
        debug_assert_eq!(pending.id, id);
        state.waiting -= pending.waiting.len();
        match verdict {
            Verdict::Believed { tenant, signals } => {
                state.believed.put(hash, (Arc::clone(tenant), *signals), until, now);
            }
            Verdict::Refused => state.refused.put(hash, (), until, now),
            Verdict::Unavailable { .. } => {}
        }
        drop(guard);
        for waiting in pending.waiting {
            // Whoever has stopped waiting needs no answer.
            let _ = waiting.send(verdict.clone());
        }
    }

    pub fn counts(&self) -> TokenCounts {
        let state = lock(&self.state);
        TokenCounts {
            believed: state.believed.kept.len(),
            refused: state.refused.kept.len(),
            pending: state.pending.len(),
            waiting: state.waiting,
            asked: self.asked.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

impl State {
    /// Takes from the address's share and from everybody's, or says how long to wait.
    fn may_ask(&mut self, now_ns: u64, address: IpAddr) -> Result<(), Duration> {
        let rate = self.limits.questions_per_address;
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&address) {
            // A full bucket is as good as none.
            self.by_address.retain(|_, bucket| bucket.wait(now_ns, rate.burst) > Duration::ZERO);
        }
        let wait = self.everybody.wait(now_ns, 1.0);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if self.by_address.len() < MAX_ADDRESSES || self.by_address.contains_key(&address) {
            let bucket = self.by_address.entry(address).or_insert_with(|| Bucket::new(rate));
            let wait = bucket.wait(now_ns, 1.0);
            if wait > Duration::ZERO {
                return Err(wait);
            }
            bucket.take(1.0);
        }
        self.everybody.take(1.0);
        Ok(())
    }
}

impl Default for TokenLimits {
    fn default() -> TokenLimits {
        TokenLimits {
            max_believed: 100_000,
            max_refused: 10_000,
            questions: Rate { per_second: 200.0, burst: 400.0 },
            questions_per_address: Rate { per_second: 50.0, burst: 200.0 },
        }
    }
}

/// Whether this may be a JSON Web Signature in its compact form (RFC 7515 §7.1): three parts in base64url. Anything else
/// is nobody's, and costs no question.
fn is_signed_token(token: &[u8]) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut parts = token.split(|&byte| byte == b'.');
    let mut part = || parts.next().is_some_and(|part| !part.is_empty() && part.iter().copied().all(base64url));
    token.len() <= MAX_TOKEN_BYTES && token.starts_with(b"ey") && part() && part() && part() && parts.next().is_none()
}

#[cfg(test)]
mod tests;
