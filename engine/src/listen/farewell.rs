//! Why connections are closed by the gateway, before their clients wanted to go.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Protocol;

/// Reasons, by what an operator would do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// No request for `listen.idle_timeout`.
    Idle,
    /// No request for a while, when nearly as many connections were open as may be.
    Crowded,
    /// A request's head did not come in time.
    SlowHeaders,
    /// A request's head was too large.
    LargeHeaders,
    /// The client gave up most of its requests.
    Abandoning,
    /// The client sent what costs more to handle than to send, such as streams that it resets at once.
    Flood,
    /// The client did not speak HTTP.
    Protocol,
    /// The client was gone without a word: nothing answered pings, or acknowledged answers.
    Vanished,
}

impl Farewell {
    const ALL: [Farewell; 8] = [
        Farewell::Idle,
        Farewell::Crowded,
        Farewell::SlowHeaders,
        Farewell::LargeHeaders,
        Farewell::Abandoning,
        Farewell::Flood,
        Farewell::Protocol,
        Farewell::Vanished,
    ];

    /// The `reason` of `gateway_closed_connections_total`.
    fn reason(self) -> &'static str {
        match self {
            Farewell::Idle => "idle",
            Farewell::Crowded => "crowded",
            Farewell::SlowHeaders => "slow_headers",
            Farewell::LargeHeaders => "large_headers",
            Farewell::Abandoning => "abandoned_requests",
            Farewell::Flood => "flood",
            Farewell::Protocol => "protocol",
            Farewell::Vanished => "vanished",
        }
    }

    /// Whether the client is asked to go, and may finish; all others are past that.
    pub(super) fn is_polite(self) -> bool {
        matches!(self, Farewell::Idle | Farewell::Crowded)
    }

    /// What a broken connection says about its client; none if the client just went.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Farewell> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse_too_large() {
                    return Some(Farewell::LargeHeaders);
                }
                if error.is_parse() {
                    return Some(Farewell::Protocol);
                }
            }
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return match error.reason() {
                    // Ours: a client's word that it goes, or a stream's end, is no fault.
                    Some(h2::Reason::ENHANCE_YOUR_CALM) if error.is_library() => Some(Farewell::Flood),
                    Some(reason) if error.is_library() && reason != h2::Reason::NO_ERROR => Some(Farewell::Protocol),
                    _ => None,
                };
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                if error.kind() == io::ErrorKind::TimedOut {
                    return Some(Farewell::Vanished);
                }
            }
            cause = error.source();
        }
        None
    }
}

/// Counters by protocol and reason.
#[derive(Default)]
pub struct Farewells([[AtomicU64; Farewell::ALL.len()]; 2]);

impl Farewells {
    pub(super) fn count(&self, protocol: Protocol, farewell: Farewell) {
        self.0[protocol as usize][farewell as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Protocol, reason and count.
    pub fn snapshot(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Protocol::ALL.iter().flat_map(|protocol| {
            let counts = Farewell::ALL.iter().zip(&self.0[*protocol as usize]);
            counts.map(|(farewell, count)| (protocol.name(), farewell.reason(), count.load(Ordering::Relaxed)))
        })
    }
}
