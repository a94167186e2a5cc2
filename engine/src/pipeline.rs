//! The path of a request, from its OTLP bytes to the open batches of its destinations. Read this first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::admit::inflight::Reservation;
use crate::admit::series::{Held, Now, SeriesBudget, Streams};
use crate::admit::volume::Periods;
use crate::admit::{labels, Cost, Grant, Surroundings};
use crate::batch::Batches;
use crate::encode::Encoded;
use crate::generation::{Encoder, Generation, Route, SignalRules, Tenant};
use crate::ledger::{Received, RejectReason};
use crate::listen::answer::{Accepted, Refusal};
use crate::mask::{check_and_mask, LocationSampler, Masked, Masker, PseudonymKeys};
use crate::otlp::edit::EditList;
use crate::otlp::items::{keep_first, leave_out, prefix_within};
use crate::otlp::{self, json, Malformed, Signal};
use crate::payload::Payload;
use crate::policy::{Claims, SeriesQuota};
use crate::resource;
use crate::routes::Chosen;
use crate::sample::{sample, sample_logs, Threshold};
use crate::shares::{append, Share};

/// What a client is told to wait while its tenant's, or everybody's, gate is shut.
pub const GATE_RETRY_AFTER: Duration = Duration::from_secs(2);
/// What a client is told to wait when the queue could not keep its request.
pub const QUEUE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a client is told to wait while its tenant's pseudonym key is being fetched.
pub const KEY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// A request that is not refused.
pub struct Processed {
    pub verdict: Verdict,
    /// What the client is told if the verdict is good: nothing, or which items were not taken.
    pub accepted: Accepted,
}

/// How a processed request is to be answered.
pub enum Verdict {
    /// Everything is accounted for.
    Done,
    /// The answer depends on whether the batches are kept.
    WaitForCommit(tokio::sync::oneshot::Receiver<bool>),
}

/// The parts of the engine that a request passes.
pub struct Path<'a> {
    pub generation: &'a Generation,
    pub batches: &'a Batches,
    pub periods: &'a Periods,
    pub pseudonym_keys: &'a PseudonymKeys,
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
    mut request: Bytes,
    reservation: Reservation,
) -> Result<Processed, Refusal> {
    let intake = &tenant.state.intake[signal.index()];
    intake.request(request.len() as u64);
    let items = otlp::count_items(signal, &request).map_err(|error| malformed(tenant, signal, error.into()))?;
    let mut received = intake.receive(items);
    let grant = match admit(path, tenant, signal, items, &request) {
        Ok(grant) => grant,
        Err((reason, refusal)) => {
            received.reject(reason);
            return Err(refusal);
        }
    };
    intake.admitted(request.len() as u64);
    let mut accepted = Accepted::default();
    let mut edits = EditList::default();

    if let Grant::Trimmed { items: kept, limit } = grant {
        match keep_first(signal, &request, kept, &mut edits) {
            Ok(over) => {
                let reason = limit.reject_reason();
                received.reject_part(reason, over);
                let (reason, limit) = (reason.name(), limit.describe(signal));
                accepted.reject(over, &format!("{reason}: {over} of {items} items are over the quota of {limit}"));
            }
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }
    request = edits.apply_to_shared(request);

    edits.clear();
    let found = match mask(path, tenant, signal, rules.masker.as_ref(), &request, &mut edits) {
        Ok(found) => found,
        Err(Unmasked::Malformed(error)) => return Err(reject_malformed(received, error)),
        Err(Unmasked::NoKey(refusal)) => {
            received.reject(RejectReason::NoPseudonymKey);
            return Err(refusal);
        }
    };
    request = edits.apply_to_shared(request);

    if !found.dropped.is_empty() {
        edits.clear();
        match leave_out(signal, &request, &found.dropped, &mut edits) {
            Ok(dropped) => received.filtered(dropped),
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
        request = edits.apply_to_shared(request);
    }

    if rules.quota.labels.may_refuse(&found.extent) {
        edits.clear();
        match labels::refuse_items(signal, &request, &rules.quota.labels, &mut edits) {
            Ok(0) => {}
            Ok(over) => {
                received.reject_part(RejectReason::LabelLimit, over);
                let reason = RejectReason::LabelLimit.name();
                accepted.reject(over, &format!("{reason}: {over} of {items} items have {}", rules.quota.labels));
                request = edits.apply_to_shared(request);
            }
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }

    edits.clear();
    let rewritten = resource::rewrite(signal, &request, &tenant.state.id, &rules.resource_rules, &mut edits);
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
    let threshold = match grant {
        Grant::Downsampled { threshold, .. } => threshold,
        Grant::Whole | Grant::Trimmed { .. } => Threshold::KEEP_ALL,
    };
    // What no later stage changes, nor any destination wants otherwise, goes on without a copy.
    let mut stamps = EditList::default();
    if threshold == Threshold::KEEP_ALL && rewritten.filtered == 0 && forwards(tenant, signal, rules) {
        stamps = std::mem::take(&mut edits);
    } else {
        request = edits.apply_to_shared(request);
    }

    edits.clear();
    let left_out = match signal {
        Signal::Traces => sample(&request, &rules.sampler.unwrap_or_default().raised_to(threshold), &mut edits),
        Signal::Logs => sample_logs(&request, threshold, &mut edits),
        Signal::Metrics => Ok(0),
    };
    match left_out {
        Ok(left_out) => received.sampled_out(left_out),
        Err(error) => return Err(reject_malformed(received, error.into())),
    }
    if let Grant::Downsampled { expected, .. } = grant {
        tenant.state.budgets[signal.index()].settle(expected, received.items());
    }
    request = edits.apply_to_shared(request);

    if rules.conditions.may_leave_out() {
        edits.clear();
        match rules.conditions.leave_out(signal, &request, &mut edits) {
            Ok(0) => {}
            Ok(lost) => {
                received.reject_part(RejectReason::NoRoute, lost);
                let reason = RejectReason::NoRoute.name();
                accepted
                    .reject(lost, &format!("{reason}: {lost} of {items} items are of resources that no route takes"));
                request = edits.apply_to_shared(request);
            }
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }

    edits.clear();
    let budget = rules.series_quota.as_ref().zip(tenant.state.active.series());
    let mut counted = Counted::default();
    if let Some((quota, budget)) = &budget {
        match count_series(path, tenant, rules, quota, budget, &request) {
            Ok(series) => counted = series,
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
        let rejected = counted.held.rejected;
        if rejected > 0 {
            received.reject_part(RejectReason::SeriesLimit, rejected);
            accepted.reject(rejected, &over_series_budget(rejected, &tenant.state.id, quota, budget));
        }
    }
    let still_to_encode = tenant.routes(signal).len() - usize::from(counted.written.is_some());
    if still_to_encode > 0 && !counted.held.nothing() {
        if let Err(error) = counted.held.take_out(&request, &mut edits) {
            return Err(reject_malformed(received, error.into()));
        }
    }
    request = edits.apply_to_shared(request);

    // Counted here, where nothing can refuse the request any more: a refused one will be sent, and masked, again.
    if let Some(masker) = &rules.masker {
        intake.masked(masker, &found.counts);
    }
    let budget = budget.as_ref().map(|(_, budget)| budget.as_ref());
    let verdict = hand_over(path, tenant, signal, rules, (request, stamps), budget, counted, received, reservation)?;
    Ok(Processed { verdict, accepted })
}

/// What the series budget made of a request.
#[derive(Default)]
struct Counted {
    held: Held,
    /// Index of the route whose payload came out, and what it is.
    written: Option<(usize, Vec<u8>, Encoded)>,
}

/// Holds a metrics request against the tenant's series budget.
///
/// Series are counted by the labels that are written for them, so it is done while they are written: mostly there is a
/// route that names series as they are counted, and this is its encoding. If there is none, what was written is let go.
fn count_series(
    path: &Path<'_>,
    tenant: &Tenant,
    rules: &SignalRules,
    quota: &SeriesQuota,
    budget: &SeriesBudget,
    request: &[u8],
) -> Result<Counted, otlp::wire::WireError> {
    let mut gate = budget.gate(quota, Now::read(path.now_ns()));
    let mut payload = Vec::new();
    let names = &rules.series_names;
    let encoded = names.encode_through(&mut gate, request, &tenant.state.id, &rules.series_rules, &mut payload)?;
    Ok(Counted { held: gate.close(), written: rules.counting_route.map(|route| (route, payload, encoded)) })
}

/// Why points are over the series budget, as a client reads it.
fn over_series_budget(points: u64, tenant: &str, quota: &SeriesQuota, budget: &SeriesBudget) -> String {
    let limits = [
        quota.max_active.map(|max| format!("active_series {max}")),
        quota.new_per_minute.map(|max| format!("new_series_per_minute {max}")),
    ];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let grown = budget.offending_labels();
    let grown = grown.first().map(|(label, values)| format!("; label {label} has grown to about {values} values"));
    let (reason, grown) = (RejectReason::SeriesLimit.name(), grown.unwrap_or_default());
    format!(
        "{reason}: {points} points of new series were not taken, tenant {tenant} is over its quota of {limits}{grown}"
    )
}

/// Why a request could not be masked.
enum Unmasked {
    Malformed(Malformed),
    NoKey(Refusal),
}

/// Validates, and collects the edits that mask.
fn mask(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    masker: Option<&Masker>,
    request: &[u8],
    edits: &mut EditList,
) -> Result<Masked, Unmasked> {
    let id = &tenant.state.id;
    let key_name = masker.and_then(|masker| masker.pseudonym_key.as_deref());
    let key = key_name.and_then(|name| path.pseudonym_keys.get(name, id));
    if let Some(name) = key_name.filter(|_| key.is_none()) {
        let message = format!("the pseudonym key {name} of tenant {id} is not available yet");
        return Err(Unmasked::NoKey(Refusal::unavailable(message, KEY_RETRY_AFTER)));
    }
    if !masker.is_some_and(|masker| masker.dry_run) {
        return check_and_mask(signal, request, masker, key, edits, None).map_err(Unmasked::Malformed);
    }
    let mut sampler = LocationSampler::new(signal);
    let masked = check_and_mask(signal, request, masker, key, edits, Some(&mut sampler));
    tenant.state.intake[signal.index()].locate(sampler.locations);
    masked.map_err(Unmasked::Malformed)
}

/// How much of the request is within the tenant's rates and volume? Decided before anything but the item count is read.
fn admit(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    items: u64,
    request: &[u8],
) -> Result<Grant, (RejectReason, Refusal)> {
    let around = Surroundings { signal, volume: &tenant.state.volume, periods: path.periods };
    let cost = Cost { items, bytes: request.len() as u64 };
    // The items have been counted, so the walk cannot fail; if it did, nothing would fit.
    let prefix = |items, bytes| prefix_within(signal, request, items, bytes).unwrap_or_default();
    tenant.state.budgets[signal.index()].take(path.now_ns(), cost, around, prefix).map_err(|over| {
        let message = format!("tenant {} is over its quota of {}", tenant.state.id, over.limit.describe(signal));
        (over.limit.reject_reason(), Refusal::over_quota(message, over.retry_after))
    })
}

/// Whether every destination gets all items of the signal just as they are when their resources are rewritten.
fn forwards(tenant: &Tenant, signal: Signal, rules: &SignalRules) -> bool {
    let as_is = |route: &Route| matches!(*route.encoder, Encoder::Otlp) && route.lane.has_one_shard();
    let takes_out = rules.sampler.is_some_and(|sampler| !sampler.keeps_all()) || rules.series_quota.is_some();
    !takes_out && rules.conditions.take_all() && tenant.routes(signal).iter().all(as_is)
}

/// Encodes for every destination that has no payload yet, then puts the pieces into their batches.
///
/// `request` may have edits that are still to be made, if it [`forwards`].
#[allow(clippy::too_many_arguments)]
fn hand_over(
    path: &Path<'_>,
    tenant: &Tenant,
    signal: Signal,
    rules: &SignalRules,
    (request, edits): (Bytes, EditList),
    budget: Option<&SeriesBudget>,
    mut counted: Counted,
    mut received: Received,
    reservation: Reservation,
) -> Result<Verdict, Refusal> {
    let intake = &tenant.state.intake[signal.index()];
    let routes = tenant.routes(signal);
    let stream_budget = rules.stream_quota.as_ref().zip(tenant.state.active.streams());
    let now = || Now::read(path.now_ns());
    let streams = stream_budget.as_ref().map(|(quota, budget)| Streams { budget, quota, now: now() });
    let mut pieces: Vec<Share<'_>> = Vec::with_capacity(routes.len());
    let chosen = match rules.conditions.choose(signal, &request) {
        Ok(chosen) => chosen,
        Err(error) => return Err(reject_malformed(received, error.into())),
    };
    let edits = Arc::new(edits);
    let mut filtered_by_encoders = 0;
    for (index, route) in routes.iter().enumerate() {
        if let Some((_, payload, encoded)) = counted.written.take_if(|(written, ..)| *written == index) {
            filtered_by_encoders += encoded.filtered;
            pieces.push(Share { route, payload: Payload::Encoded(payload), encoded });
            continue;
        }
        let (part, others) = chosen.as_ref().and_then(|chosen| chosen.part(index, &request)).unzip();
        let input = part.map_or_else(|| request.clone(), Bytes::from);
        let encoded = match route.encoder.as_ref() {
            Encoder::Otlp => otlp::count_items(signal, &input).map(|items| {
                let payload = Payload::Forwarded { request: input, edits: Arc::clone(&edits) };
                (payload, Encoded { items, ..Encoded::default() })
            }),
            encoder => {
                let mut payload = Vec::new();
                encode(encoder, signal, rules, &tenant.state.id, streams, &input, &mut payload)
                    .map(|encoded| (Payload::Encoded(payload), encoded))
            }
        };
        match encoded {
            Ok((payload, mut encoded)) => {
                filtered_by_encoders += encoded.filtered;
                // This destination gets nothing of what its route does not take.
                encoded.filtered += others.unwrap_or(0);
                pieces.push(Share { route, payload, encoded });
            }
            Err(error) => return Err(reject_malformed(received, error.into())),
        }
    }
    // An item is filtered if no destination got anything of it. Routes that share items out leave something out each,
    // which is not filtered unless an encoder left it out.
    let left_out_by_all = pieces.iter().map(|piece| piece.encoded.filtered).min().unwrap_or(0);
    received.filtered(left_out_by_all.min(filtered_by_encoders));
    intake.tenant_claims(pieces.iter().map(|piece| piece.encoded.tenant_claims).max().unwrap_or(0));
    let verdict = match budget.filter(|_| !counted.held.grown.is_empty()) {
        None => append(path.generation, path.batches, signal, pieces, received, &reservation),
        // Batches get the samples of an overflow series in the order in which they are made.
        Some(budget) => budget.emit(&counted.held.grown, &tenant.state.id, now(), |samples| {
            let encoded = pieces.iter_mut().enumerate().try_for_each(|(index, piece)| {
                // What was folded is in no other place: an overflow series that no route takes goes everywhere.
                let chosen = rules.conditions.choose(signal, samples)?.map(Chosen::leaving_out_nothing);
                let part = chosen.and_then(|chosen| chosen.part(index, samples)).map(|(part, _)| part);
                let input = part.as_deref().unwrap_or(samples);
                let (encoder, payload) = (piece.route.encoder.as_ref(), piece.payload.joined());
                let more = encode(encoder, signal, rules, &tenant.state.id, streams, input, payload)?;
                piece.encoded.items += more.items;
                more.dropped.into_iter().for_each(|(reason, items)| piece.encoded.drop_items(reason, items));
                Ok(())
            });
            match encoded {
                Ok(()) => append(path.generation, path.batches, signal, pieces, received, &reservation),
                Err(error) => Err((received, error)),
            }
        }),
    };
    verdict
        .map(|kept| kept.map_or(Verdict::Done, Verdict::WaitForCommit))
        .map_err(|(received, error)| reject_malformed(received, error.into()))
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
