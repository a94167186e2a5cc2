//! How much of each limit a tenant uses, as the snapshot shows it.

use std::sync::Arc;

use serde::Serialize;

use super::budget::Use;
use super::volume::Period;
use crate::generation::TenantState;
use crate::otlp::Signal;

/// An entry of `quotas` in the snapshot: one limit that is set.
#[derive(Debug, Serialize)]
pub struct QuotaUse {
    tenant: Arc<str>,
    /// Empty: all signals together.
    signal: &'static str,
    limit: &'static str,
    max: f64,
    used: f64,
    remaining: f64,
}

/// An entry of `downsampling` in the snapshot.
#[derive(Debug, Serialize)]
pub struct Downsampling {
    tenant: Arc<str>,
    signal: &'static str,
    /// The share of items that is kept at present.
    kept_ratio: f64,
}

/// Appends an entry a limit, and one a signal that is downsampled.
pub fn collect(state: &TenantState, now_ns: u64, out: &mut Vec<QuotaUse>, downsampling: &mut Vec<Downsampling>) {
    let mut push = |signal, Use { limit, max, used }| {
        // A debt is more than all: nothing remains.
        let remaining = (max - used).max(0.0);
        out.push(QuotaUse { tenant: Arc::clone(&state.id), signal, limit, max, used, remaining });
    };
    let used = *state.volume.lock();
    for signal in Signal::ALL {
        let budget = &state.budgets[signal.index()];
        let (rates, kept) = budget.usage(now_ns);
        rates.into_iter().for_each(|rate| push(signal.name(), rate));
        if let Some(kept) = kept {
            let tenant = Arc::clone(&state.id);
            downsampling.push(Downsampling { tenant, signal: signal.name(), kept_ratio: kept });
        }
        let inflight = &state.inflight[signal.index()];
        if inflight.max() < u64::MAX {
            let (max, used) = (inflight.max() as f64, inflight.used() as f64);
            push(signal.name(), Use { limit: "max_inflight_bytes", max, used });
        }
        let limits = budget.volume_limits();
        for period in Period::ALL {
            if let Some(max) = limits.of(period) {
                let used = used.of(signal, period) as f64;
                push(signal.name(), Use { limit: period.limit_name(), max: max as f64, used });
            }
        }
    }
    for period in Period::ALL {
        if let Some(max) = used.whole_tenant().of(period) {
            let used = used.of_all(period) as f64;
            push("", Use { limit: period.limit_name(), max: max as f64, used });
        }
    }
}
