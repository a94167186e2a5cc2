//! One export request, whatever its transport: who is it, may it, what is in it.

use std::borrow::Cow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Incoming;

use super::answer::{Accepted, Refusal};
use super::body::{decompress, fitted, receive, BodyError, Compression};
use super::{Protocol, Shared};
use crate::admit::inflight::Reservation;
use crate::generation::{Generation, SignalRules, Tenant};
use crate::identify::peer::Peer;
use crate::identify::refusal::IdentityRefusal;
use crate::identify::tokens::{self, Signals, Verdict as TokenVerdict};
use crate::identify::Identified;
use crate::ledger::RejectReason;
use crate::otlp::{json, Signal};
use crate::pipeline::{self, Path, Verdict};

/// How many tokens of one request may be asked about, one after the other.
const MAX_QUESTIONS: usize = 3;

/// How the body holds the OTLP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// gRPC's length-prefixed message; `compression` applies if its flag is set.
    Grpc,
    /// The whole body, protobuf.
    Protobuf,
    /// The whole body, OTLP/JSON.
    Json,
}

/// Takes a request in and says how to answer it.
pub(super) async fn export(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    signal: Signal,
    headers: &HeaderMap,
    body: &mut Incoming,
    framing: Framing,
    compression: Option<Compression>,
) -> Result<Accepted, Refusal> {
    let generation = shared.generation.load_full();
    let protocol = if framing == Framing::Grpc { Protocol::Grpc } else { Protocol::Http };
    let (tenant, signals) = identify(shared, &generation, headers, peer, protocol).await?;
    let rules = may_send(shared, tenant, signal, signals)?;
    let reject = |reason| tenant.state.intake[signal.index()].reject_request(reason);

    let Some(compression) = compression else {
        reject(RejectReason::UnsupportedEncoding);
        return Err(Refusal::unsupported("the request's encoding is not one of identity, gzip, zstd"));
    };
    let max_bytes = rules.quota.max_request_bytes.unwrap_or(usize::MAX).min(shared.limits.max_request_bytes);
    let refuse_body = |error: BodyError| {
        reject(error.reject_reason());
        error.refusal(max_bytes)
    };
    let reservation = Reservation::empty(&shared.inflight, &tenant.state.inflight[signal.index()]);
    let received = receive(body, max_bytes, shared.limits.body_timeout, reservation).await;
    let (body, mut reservation) = received.map_err(refuse_body)?;
    let message = match framing {
        Framing::Grpc => match unframe(body).map_err(refuse_body)? {
            (message, true) => decompress(compression, message, max_bytes, &mut reservation).map_err(refuse_body)?,
            (message, false) => message,
        },
        Framing::Protobuf | Framing::Json => {
            decompress(compression, body, max_bytes, &mut reservation).map_err(refuse_body)?
        }
    };
    let (request, warning) = match framing {
        Framing::Grpc | Framing::Protobuf => (message, None),
        Framing::Json => {
            let transcoded = transcode(signal, &message).inspect_err(|_| reject(RejectReason::Malformed));
            let (request, warning) = transcoded?;
            reservation.grow(request.len()).map_err(|full| refuse_body(BodyError::Full(full)))?;
            (request, warning)
        }
    };

    let Some(_taken) = shared.take() else {
        reject(RejectReason::Gated);
        return Err(Refusal::unavailable("the gateway is stopping; retry", pipeline::GATE_RETRY_AFTER));
    };
    let pseudonym_keys = shared.pseudonym_keys.load();
    let path = Path {
        generation: &generation,
        batches: &shared.batches,
        periods: &shared.periods,
        pseudonym_keys: &pseudonym_keys,
        epoch: shared.epoch,
    };
    // A panic is our bug: it costs this request an INTERNAL, not the connection's other requests theirs. The ledger's
    // guard has counted the items as unaccounted while unwinding.
    let processed =
        catch_unwind(AssertUnwindSafe(|| pipeline::process(&path, tenant, signal, rules, request, reservation)));
    let processed = processed.unwrap_or_else(|_| Err(Refusal::internal("the gateway failed on this request")))?;
    if let Verdict::WaitForCommit(kept) = processed.verdict {
        if !kept.await.unwrap_or(false) {
            return Err(Refusal::unavailable(
                "the queue could not keep the request; retry",
                pipeline::QUEUE_RETRY_AFTER,
            ));
        }
    }
    Ok(warning.map_or(processed.accepted, Accepted::warning))
}

/// Whose the request is. Waits for the verdict on a token that is new here.
async fn identify<'a>(
    shared: &Shared,
    generation: &'a Generation,
    headers: &HeaderMap,
    peer: &Peer,
    protocol: Protocol,
) -> Result<(&'a Tenant, Signals), Refusal> {
    let refuse = |refusal: IdentityRefusal| {
        shared.stats.refuse_identity(refusal, peer.address, protocol);
        Refusal::unauthenticated(refusal.message())
    };
    if let Err(refusal) = peer.check(SystemTime::now()) {
        return Err(refuse(IdentityRefusal::Certificate(refusal)));
    }
    for _ in 0..MAX_QUESTIONS {
        let verdict = match generation.identity.identify(headers, peer, &shared.tokens) {
            Identified::Sender(sender) => match generation.tenants.get(sender.tenant) {
                Some(tenant) => return Ok((tenant, sender.signals)),
                None => return Err(refuse(IdentityRefusal::UnknownTenant)),
            },
            Identified::Refused(refusal) => return Err(refuse(refusal)),
            Identified::Unavailable { retry_after } => return Err(cannot_tell(retry_after)),
            Identified::Asked(verdict) => verdict,
        };
        match tokio::time::timeout(tokens::MAX_WAIT, verdict).await {
            // The verdict is kept now: the next round finds it beside whatever else the request shows.
            Ok(Ok(TokenVerdict::Believed { .. } | TokenVerdict::Refused)) => {}
            Ok(Ok(TokenVerdict::Unavailable { retry_after })) => return Err(cannot_tell(retry_after)),
            Ok(Err(_)) | Err(_) => return Err(cannot_tell(tokens::BUSY_RETRY_AFTER)),
        }
    }
    // Its verdicts ran out as soon as they were given.
    Err(refuse(IdentityRefusal::RefusedToken))
}

fn cannot_tell(retry_after: Duration) -> Refusal {
    Refusal::unavailable("whose token this is cannot be told now; retry", retry_after)
}

/// What can be decided before the body is read.
fn may_send<'a>(
    shared: &Shared,
    tenant: &'a Tenant,
    signal: Signal,
    signals: Signals,
) -> Result<&'a SignalRules, Refusal> {
    let id = &tenant.state.id;
    let reject = |reason| tenant.state.intake[signal.index()].reject_request(reason);
    if tenant.disabled {
        reject(RejectReason::TenantDisabled);
        return Err(Refusal::forbidden(format!("tenant {id} is disabled")));
    }
    let Some(rules) = tenant.rules(signal) else {
        reject(RejectReason::SignalNotAllowed);
        return Err(Refusal::forbidden(format!("tenant {id} may not send {}", signal.name())));
    };
    if !signals.contain(signal) {
        reject(RejectReason::SignalNotAllowed);
        return Err(Refusal::forbidden(format!("this credential of tenant {id} may not send {}", signal.name())));
    }
    let gate = shared.gate.load();
    let gate = gate.as_ref().cloned().or_else(|| tenant.state.gate.load_full());
    if let Some(reason) = gate {
        reject(RejectReason::Gated);
        return Err(Refusal::unavailable(format!("not taking requests: {reason}"), pipeline::GATE_RETRY_AFTER));
    }
    Ok(rules)
}

/// The one message of a unary gRPC request, and whether it is compressed.
fn unframe(body: Bytes) -> Result<(Bytes, bool), BodyError> {
    let (flag, length) = match body.first_chunk::<5>() {
        Some([flag, length @ ..]) => (*flag, u32::from_be_bytes(*length) as usize),
        None => return Err(BodyError::Broken("the gRPC message is shorter than its prefix")),
    };
    if body.len() - 5 != length {
        return Err(BodyError::Broken("the request must hold exactly one gRPC message, of the length it declares"));
    }
    match flag {
        0 | 1 => Ok((body.slice(5..), flag == 1)),
        _ => Err(BodyError::Broken("the gRPC message's compression flag is neither 0 nor 1")),
    }
}

/// OTLP/JSON to protobuf, and a warning if it held nothing that OTLP knows.
fn transcode(signal: Signal, message: &[u8]) -> Result<(Bytes, Option<Cow<'static, str>>), Refusal> {
    let mut request = Vec::with_capacity(message.len() / 2);
    let decoded = json::decode(signal, message, &mut request).map_err(|error| Refusal::malformed(error.to_string()))?;
    let warning = (!decoded.known_shape).then(|| {
        let field = match signal {
            Signal::Traces => "resourceSpans",
            Signal::Metrics => "resourceMetrics",
            Signal::Logs => "resourceLogs",
        };
        Cow::Owned(format!("nothing was taken: the JSON object has no field {field}"))
    });
    Ok((fitted(request), warning))
}
