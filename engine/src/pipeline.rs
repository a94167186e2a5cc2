//! The path of a request, from its OTLP bytes to the open batches of its destinations. Read this first.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admit::inflight::Reservation;
use crate::admit::series::{enforce, Held, Now, SeriesBudget, Streams};
use crate::admit::Limit;
use crate::batch::{Batches, Pending, Piece};
use crate::encode::Encoded;
use crate::generation::{Encoder, Generation, Route, SignalRules, Tenant};
use crate::ledger::{Received, RejectReason};
use crate::listen::answer::{Accepted, Refusal};
use crate::mask::{check_and_mask, MaskCounts};
use crate::otlp::edit::EditList;
use crate::otlp::{self, json, Malformed, Signal};
use crate::policy::{Ack, Claims};
use crate::resource;
use crate::sample::sample;

/// What a client is told to wait while its tenant's, or everybody's, gate is shut.
pub const GATE_RETRY_AFTER: Duration = Duration::from_secs(2);
/// What a client is told to wait when the queue could not keep its request.
pub const QUEUE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// How a processed request is to be answered.
pub struct Verdict {
    /// What its sender is told if it is taken.
    pub accepted: Accepted,
    /// Whether its batches are kept; none if there is nothing to wait for.
    pub commit: Option<tokio::sync::oneshot::Receiver<bool>>,
}

/// The parts of the engine that a request passes.
pub struct Path<'a> {
    pub generation: &'a Generation,
    pub batches: &'a Batches,
    /// Start of the monotonic clock that the token buckets count on.
    pub epoch: Instant,
}

impl Path<'_> {
    /// Now, on the clock of the token buckets.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Takes one request through all stages.
///
/// `request` is an uncompressed protobuf `Export*ServiceRequest`; `reservation` holds its bytes in flight. The results are
/// as if every item went through mask, relabel and sample in that order.
pub fn process(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    rules: &SignalRules,
    request: &[u8],
    reservation: Reservation,
) -> Result<Verdict, Refusal> {
    let intake = &tenant.state.intake[signal.index()];
    intake.request(request.len() as u64);
    let items = otlp::count_items(signal, request).map_err(|error| malformed(tenant, signal, error.into()))?;
    let mut received = intake.receive(items);
    if let Err(refusal) = admit(path, tenant, signal, items, request.len() as u64) {
        received.reject(refusal.0);
        return Err(refusal.1);
    }
    let mut edits = EditList::default();

    let mut masked_values = MaskCounts::default();
    if let Err(error) = check_and_mask(signal, request, rules.masker.as_ref(), &mut edits, &mut masked_values) {
        received.reject(RejectReason::Malformed);
        return Err(Refusal::malformed(error.to_string()));
    }
    let masked = edits.apply(request);

    edits.clear();
    let rewritten = resource::rewrite(signal, &masked, &tenant.state.id, &rules.resource_rules, &mut edits);
    let rewritten = match rewritten {
        Ok(rewritten) => rewritten,
        Err(error) => return Err(reject_malformed(received, error)),
    };
    intake.tenant_claims(rewritten.tenant_claims);
    if rewritten.tenant_claims > 0 && tenant.claims() == Claims::Refuse {
        received.reject(RejectReason::TenantClaim);
        return Err(Refusal::forbidden("a resource attribute claims another tenant"));
    }
    received.filtered(rewritten.filtered);
    let relabelled = edits.apply(&masked);

    edits.clear();
    if let Some(sampler) = &rules.sampler {
        match sample(&relabelled, sampler, &mut edits) {
            Ok(left_out) => received.sampled_out(left_out),
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }
    let sampled = edits.apply(&relabelled);

    edits.clear();
    let budget = rules.series_quota.as_ref().zip(tenant.state.active.series());
    let mut held = Held::default();
    if let Some((quota, budget)) = &budget {
        let now = Now::read(path.now_ns());
        let (names, series_rules) = (&rules.series_names, &rules.series_rules);
        match enforce(budget, quota, names, series_rules, &tenant.state.id, now, &sampled, &mut edits) {
            Ok(over) => held = over,
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
        received.reject_some(RejectReason::SeriesLimit, held.rejected);
    }
    let within_budget = if edits.is_empty() { sampled } else { Cow::Owned(edits.apply(&sampled).into_owned()) };

    // Counted here, where nothing can refuse the request any more: a refused one will be sent, and masked, again.
    intake.masked(&masked_values);
    let overflow = budget.filter(|_| !held.grown.is_empty()).map(|(_, budget)| (budget, held.grown.as_slice()));
    let commit = hand_over(path, tenant, signal, rules, within_budget, overflow, received, reservation)?;
    Ok(Verdict { accepted: part_accepted(tenant, rules, held.rejected), commit })
}

/// What the sender of a request is told of which `rejected` points are over the series budget.
fn part_accepted(tenant: &Tenant, rules: &SignalRules, rejected: u64) -> Accepted {
    if rejected == 0 {
        return Accepted::default();
    }
    let limit = |name, value: Option<f64>| value.map(|value| format!("{name} {value}"));
    let quota = rules.series_quota.as_ref();
    let limits = [
        limit("active_series", quota.and_then(|quota| quota.max_active).map(|max| max as f64)),
        limit("new_series_per_minute", quota.and_then(|quota| quota.new_per_minute)),
    ];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let grown = tenant.state.active.series().map(|budget| budget.offending_labels()).unwrap_or_default();
    let grown = grown.first().map(|(label, values)| format!("; label {label} has grown to about {values} values"));
    let message = format!(
        "series_limit: {rejected} points of new series were not taken, tenant {} is over its quota of {limits}{}",
        tenant.state.id,
        grown.unwrap_or_default()
    );
    Accepted { rejected_items: rejected, message: Cow::Owned(message) }
}

/// Within the tenant's rates? Decided before anything but the item count is read.
fn admit(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    items: u64,
    bytes: u64,
) -> Result<(), (RejectReason, Refusal)> {
    tenant.state.budgets[signal.index()].take(path.now_ns(), items, bytes).map_err(|over| {
        let (reason, what) = match over.limit {
            Limit::ItemsPerSecond => (RejectReason::RateLimitedItems, "items_per_second"),
            Limit::BytesPerSecond => (RejectReason::RateLimitedBytes, "bytes_per_second"),
        };
        let message = format!("tenant {} is over its quota of {} {what}", tenant.state.id, signal.name());
        (reason, Refusal::over_quota(message, over.retry_after))
    })
}

/// Encodes for every destination, then puts the pieces into their batches. `overflow`: series that were folded into.
#[allow(clippy::too_many_arguments)]
fn hand_over(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    rules: &SignalRules,
    mut request: Cow<'_, [u8]>,
    overflow: Option<(Arc<SeriesBudget>, &[u64])>,
    mut received: Received,
    reservation: Reservation,
) -> Result<Option<tokio::sync::oneshot::Receiver<bool>>, Refusal> {
    let intake = &tenant.state.intake[signal.index()];
    let routes = tenant.routes(signal);
    let stream_budget = rules.stream_quota.as_ref().zip(tenant.state.active.streams());
    let now = || Now::read(path.now_ns());
    let streams = stream_budget.as_ref().map(|(quota, budget)| Streams { budget, quota, now: now() });
    let mut pieces: Vec<Share<'_>> = Vec::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        let mut payload = Vec::new();
        let is_last = index + 1 == routes.len();
        let encoded = match route.encoder.as_ref() {
            // The last destination that wants OTLP as it is gets the bytes themselves, no copy.
            Encoder::Otlp if is_last => otlp::count_items(signal, &request).map(|items| {
                payload = std::mem::take(&mut request).into_owned();
                Encoded { items, ..Encoded::default() }
            }),
            encoder => encode(encoder, signal, rules, &tenant.state.id, streams, &request, &mut payload),
        };
        match encoded {
            Ok(encoded) => pieces.push(Share { route, payload, encoded }),
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }
    // An item is filtered if no destination got anything of it.
    received.filtered(pieces.iter().map(|piece| piece.encoded.filtered).min().unwrap_or(0));
    intake.tenant_claims(pieces.iter().map(|piece| piece.encoded.tenant_claims).max().unwrap_or(0));
    match overflow {
        None => Ok(append(path, pieces, received, &reservation)),
        // Batches get the samples of an overflow series in the order in which they are made.
        Some((budget, grown)) => budget.emit(grown, &tenant.state.id, now(), |samples| {
            let encoded = pieces.iter_mut().try_for_each(|piece| {
                let more = encode(
                    &piece.route.encoder,
                    signal,
                    rules,
                    &tenant.state.id,
                    streams,
                    samples,
                    &mut piece.payload,
                )?;
                piece.encoded.items += more.items;
                more.dropped.into_iter().for_each(|(reason, items)| piece.encoded.drop_items(reason, items));
                Ok(())
            });
            match encoded {
                Ok(()) => Ok(append(path, pieces, received, &reservation)),
                Err(error) => Err(reject_malformed(received, Malformed::Wire(error))),
            }
        }),
    }
}

/// What one destination gets of a request.
struct Share<'r> {
    route: &'r Route,
    payload: Vec<u8>,
    encoded: Encoded,
}

/// Puts the pieces into their batches; returns what to wait for.
fn append(
    path: &Path<'_>,
    mut pieces: Vec<Share<'_>>,
    received: Received,
    reservation: &Reservation,
) -> Option<tokio::sync::oneshot::Receiver<bool>> {
    for Share { route, encoded, .. } in &pieces {
        for &(reason, items) in &encoded.dropped {
            route.outlet.cell.drop_items(reason, items);
        }
        route.outlet.cell.label_collisions(encoded.label_collisions);
    }
    pieces.retain(|piece| !piece.payload.is_empty());
    let (pending, outcome) = match path.generation.ack {
        Ack::Durable if !pieces.is_empty() => {
            let (pending, outcome) = Pending::new(received, pieces.len());
            (Some(pending), Some(outcome))
        }
        _ => {
            received.accept();
            (None, None)
        }
    };
    // From here on the encoded pieces are what is in flight; the body's reservation ends with the request.
    for Share { route, payload, encoded } in pieces {
        let undeliverable: u64 = encoded.dropped.iter().map(|(_, items)| items).sum();
        let piece = Piece {
            reservation: reservation.also(payload.len()),
            items: encoded.items - undeliverable,
            payload,
            pending: pending.clone(),
        };
        path.batches.append(&route.outlet, path.generation.number, piece);
    }
    outcome
}

/// Appends a request in a destination's wire format to `payload`. Log streams are counted only if `streams` are given.
pub fn encode(
    encoder: &Encoder,
    signal: Signal,
    rules: &SignalRules,
    tenant: &str,
    streams: Option<Streams<'_>>,
    request: &[u8],
    payload: &mut Vec<u8>,
) -> Result<Encoded, otlp::wire::WireError> {
    match encoder {
        Encoder::Otlp => {
            payload.extend_from_slice(request);
            Ok(Encoded { items: otlp::count_items(signal, request)?, ..Encoded::default() })
        }
        Encoder::OtlpJson => {
            let items = otlp::count_items(signal, request)?;
            if items > 0 {
                json::encode(signal, request, payload)?;
                payload.push(b'\n');
            }
            Ok(Encoded { items, ..Encoded::default() })
        }
        Encoder::RemoteWrite(encoder) => encoder.encode(request, tenant, &rules.series_rules, payload),
        Encoder::Loki(encoder) => encoder.encode(request, tenant, Now::read(0).unix_ns(), streams, payload),
    }
}

fn malformed(tenant: &Tenant, signal: Signal, error: Malformed) -> Refusal {
    tenant.state.intake[signal.index()].reject_request(RejectReason::Malformed);
    Refusal::malformed(error.to_string())
}

fn reject_malformed(received: Received, error: Malformed) -> Refusal {
    received.reject(RejectReason::Malformed);
    Refusal::malformed(error.to_string())
}
