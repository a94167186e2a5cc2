//! What a connection is doing, as far as its bounds go: a request is under way, its head is coming in, or nothing is.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::farewell::Farewell;
use super::Limits;

/// How long a connection may be idle while nearly as many are open as may be.
const CROWDED_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that gives up this many of its requests, and most of them, does so on purpose (CVE-2023-44487).
const MAX_ABANDONED: u64 = 100;
/// How HTTP/2 begins, and no request of HTTP/1.1 does (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// An instant that has not come.
const NEVER: u64 = u64::MAX;

/// Of one connection. Its tasks run on one thread, so the order of these accesses is theirs.
pub(super) struct Activity {
    epoch: Instant,
    open_requests: AtomicU32,
    requests: AtomicU64,
    abandoned: AtomicU64,
    is_http2: AtomicBool,
    /// How much of HTTP/2's preface has come; over it, it is known what the client speaks.
    preface: AtomicUsize,
    /// These three in nanoseconds since `epoch`.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    last_read: AtomicU64,
    first_request: Notify,
    too_many_abandoned: Notify,
}

impl Activity {
    pub(super) fn new() -> Activity {
        Activity {
            epoch: Instant::now(),
            open_requests: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            preface: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NEVER),
            last_read: AtomicU64::new(0),
            first_request: Notify::new(),
            too_many_abandoned: Notify::new(),
        }
    }

    /// A request's head is here. What is returned stands for the request until it is answered; `abandoned` counts it if it
    /// is not.
    pub(super) fn begin<'a>(&'a self, abandoned: &'a AtomicU64) -> OpenRequest<'a> {
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.open_requests.fetch_add(1, Ordering::Relaxed);
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_request.notify_one();
        }
        OpenRequest { activity: self, abandoned, answered: false }
    }

    /// Ends with the connection's first request, at once if it has come.
    pub(super) async fn first_request(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 {
            self.first_request.notified().await;
        }
    }

    /// Ends when the connection has overstayed, and says how. `crowded`: nearly as many are open as may be.
    pub(super) async fn overstay(&self, limits: &Limits, crowded: impl Fn() -> bool) -> Farewell {
        loop {
            let left = match self.time_left(limits, crowded()) {
                Ok(left) => left,
                Err(farewell) => return farewell,
            };
            tokio::select! {
                // Looked at anew at least so often, since no timer is set for each request's head.
                () = tokio::time::sleep(left.min(limits.header_timeout)) => {}
                () = self.too_many_abandoned.notified() => return Farewell::Abandoning,
            }
        }
    }

    fn time_left(&self, limits: &Limits, crowded: bool) -> Result<Duration, Farewell> {
        if self.open_requests.load(Ordering::Relaxed) > 0 {
            // Each has time limits of its own.
            return Ok(limits.header_timeout);
        }
        let head_since = self.head_since.load(Ordering::Relaxed);
        let (since, allowed, farewell) = match (head_since, crowded) {
            (NEVER, false) => (self.idle_since.load(Ordering::Relaxed), limits.idle_timeout, Farewell::Idle),
            (NEVER, true) => {
                let allowed = limits.idle_timeout.min(CROWDED_IDLE_TIMEOUT);
                (self.idle_since.load(Ordering::Relaxed), allowed, Farewell::Crowded)
            }
            (head_since, _) => (head_since, limits.header_timeout, Farewell::SlowHeaders),
        };
        let elapsed = Duration::from_nanos(self.now().saturating_sub(since));
        match allowed.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(farewell),
        }
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether a client that answers pings would have been heard by now: over HTTP/2 it is pinged.
    pub(super) fn is_silent(&self, limits: &Limits) -> bool {
        let silence = Duration::from_nanos(self.now().saturating_sub(self.last_read.load(Ordering::Relaxed)));
        self.speaks_http2() && silence >= limits.keepalive_interval
    }

    /// Bytes came in.
    fn read(&self, bytes: &[u8]) {
        let now = self.now();
        self.last_read.store(now, Ordering::Relaxed);
        if self.preface.load(Ordering::Relaxed) < PREFACE.len() {
            self.read_preface(bytes);
        }
        if self.is_http2.load(Ordering::Relaxed) {
            // Other frames than heads come between requests as well.
            self.head_since.store(NEVER, Ordering::Relaxed);
        } else if self.open_requests.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == NEVER {
            self.head_since.store(now, Ordering::Relaxed);
        }
    }

    fn read_preface(&self, bytes: &[u8]) {
        let seen = self.preface.load(Ordering::Relaxed);
        let piece = &bytes[..bytes.len().min(PREFACE.len() - seen)];
        if !PREFACE[seen..].starts_with(piece) {
            return self.preface.store(PREFACE.len(), Ordering::Relaxed);
        }
        self.preface.store(seen + piece.len(), Ordering::Relaxed);
        self.is_http2.store(seen + piece.len() == PREFACE.len(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(NEVER - 1)
    }
}

/// A request that is under way. Dropped unanswered, its client has given it up.
pub(super) struct OpenRequest<'a> {
    activity: &'a Activity,
    abandoned: &'a AtomicU64,
    answered: bool,
}

impl OpenRequest<'_> {
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let activity = self.activity;
        if activity.open_requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            activity.idle_since.store(activity.now(), Ordering::Relaxed);
        }
        if !self.answered {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
            let abandoned = activity.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
            if abandoned > MAX_ABANDONED && abandoned * 2 > activity.requests.load(Ordering::Relaxed) {
                activity.too_many_abandoned.notify_one();
            }
        }
    }
}

/// A stream whose reads are noted.
pub(super) struct Observed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Observed<S> {
        Observed { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buf);
        if poll.is_ready() && buf.filled().len() > filled {
            self.activity.read(&buf.filled()[filled..]);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(head: Duration, idle: Duration) -> Limits {
        Limits {
            max_request_bytes: 1024,
            max_connections: 10,
            header_timeout: head,
            body_timeout: Duration::from_secs(60),
            idle_timeout: idle,
            keepalive_interval: Duration::from_secs(60),
        }
    }

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn what_a_client_speaks_is_known_however_its_first_bytes_come() {
        let whole = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
        for (pieces, is_http2) in [
            (vec![whole], true),
            (whole.chunks(1).collect(), true),
            (vec![&whole[..5], &whole[5..]], true),
            (vec![&whole[..5]], false),
            (vec![b"P".as_slice(), b"OST /v1/traces HTTP/1.1\r\n"], false),
            (vec![b"PRI * HTTP/1.1\r\n\r\n".as_slice()], false),
        ] {
            let activity = Activity::new();
            pieces.iter().for_each(|piece| activity.read(piece));
            assert_eq!(activity.is_http2.load(Ordering::Relaxed), is_http2, "{pieces:?}");
            let head_began = activity.head_since.load(Ordering::Relaxed) != NEVER;
            assert_eq!(head_began, !is_http2, "over HTTP/2 no head is waited for: {pieces:?}");
        }
    }

    #[test]
    fn a_connection_overstays_idle_or_with_half_a_head_but_not_with_a_request() {
        let (now, abandoned) = (Duration::ZERO, AtomicU64::new(0));
        let activity = Activity::new();
        assert_eq!(activity.time_left(&limits(LONG, now), false), Err(Farewell::Idle));
        assert_eq!(activity.time_left(&limits(LONG, now), true), Err(Farewell::Crowded));
        assert!(activity.time_left(&limits(now, LONG), false).is_ok(), "no head has begun");
        activity.read(b"POST /v1");
        assert_eq!(activity.time_left(&limits(now, LONG), false), Err(Farewell::SlowHeaders));
        let request = activity.begin(&abandoned);
        assert!(activity.time_left(&limits(now, now), true).is_ok(), "a request has time limits of its own");
        request.answered();
        assert_eq!(activity.time_left(&limits(LONG, now), false), Err(Farewell::Idle));
        assert_eq!(abandoned.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_gives_up_most_requests_is_told_from_who_gives_up_some() {
        for (answered_between, overstays) in [(0, true), (2, false)] {
            let (activity, abandoned) = (Activity::new(), AtomicU64::new(0));
            for _ in 0..=MAX_ABANDONED {
                for _ in 0..answered_between {
                    activity.begin(&abandoned).answered();
                }
                drop(activity.begin(&abandoned));
            }
            assert_eq!(abandoned.load(Ordering::Relaxed), MAX_ABANDONED + 1);
            let limits = limits(LONG, LONG);
            let farewell = tokio::time::timeout(Duration::from_millis(20), activity.overstay(&limits, || false)).await;
            assert_eq!(farewell.is_ok(), overstays);
        }
    }
}
