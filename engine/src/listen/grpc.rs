//! OTLP/gRPC: the three Export services and `grpc.health.v1`, over HTTP/2.
//!
//! Sources: OTLP specification (OTLP/gRPC), gRPC over HTTP/2, the gRPC health checking protocol.

use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderValue, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::{grpc_frame, grpc_message, Refusal, GRPC_STATUS};
use super::body::{AnswerBody, BodyError, Compression};
use super::export::{export, Framing};
use super::{Protocol, Shared};
use crate::identify::peer::Peer;
use crate::otlp::wire::Reader;
use crate::otlp::Signal;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
/// The services that a health check may name; "" is the whole server.
const SERVICES: [&str; 4] = [
    "",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
];
/// HealthCheckResponse { status = 1 }: SERVING, NOT_SERVING, SERVICE_UNKNOWN.
const SERVING: &[u8] = &[0x08, 1];
const NOT_SERVING: &[u8] = &[0x08, 2];
const SERVICE_UNKNOWN: &[u8] = &[0x08, 3];
/// A HealthCheckRequest holds one service name.
const MAX_HEALTH_REQUEST: usize = 1024;

pub(super) async fn answer(shared: &Arc<Shared>, peer: &Arc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    if !is_grpc(head.headers.get(CONTENT_TYPE)) {
        // gRPC over HTTP/2: a server answers another content type with HTTP 415.
        let mut response = Response::new(AnswerBody::data("this port speaks gRPC\n".into()));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let signal = match (&head.method, head.uri.path()) {
        (&Method::POST, TRACES) => Signal::Traces,
        (&Method::POST, METRICS) => Signal::Metrics,
        (&Method::POST, LOGS) => Signal::Logs,
        (&Method::POST, HEALTH_CHECK) => return health_check(shared, body).await,
        (&Method::POST, HEALTH_WATCH) => return health_watch(shared, body).await,
        _ => return Refusal::not_served("the gateway serves OTLP Export and grpc.health.v1").over_grpc(),
    };
    let encoding = head.headers.get("grpc-encoding").map_or(&b""[..], HeaderValue::as_bytes);
    let compression = Compression::parse(encoding);
    let result = export(shared, peer, signal, &head.headers, &mut body, Framing::Grpc, compression).await;
    shared.stats.observe(Protocol::Grpc, signal, &result, started.elapsed());
    match result {
        Ok(accepted) => accepted.over_grpc(),
        Err(refusal) => {
            let mut response = refusal.over_grpc();
            if compression.is_none() {
                // gRPC compression: an UNIMPLEMENTED for an unknown encoding names the known ones.
                let known = HeaderValue::from_static("identity,gzip,zstd");
                response.headers_mut().insert("grpc-accept-encoding", known);
            }
            response
        }
    }
}

fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    let Some(rest) = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc")) else {
        return false;
    };
    matches!(rest, b"" | b"+proto") || rest.starts_with(b";") || rest.starts_with(b"+proto;")
}

async fn health_check(shared: &Shared, body: Incoming) -> Response<AnswerBody> {
    match health_service(shared, body).await {
        Err(refusal) => refusal.over_grpc(),
        Ok(false) => {
            let mut response = Refusal::not_served("no such service").over_grpc();
            // NOT_FOUND, by the health checking protocol.
            response.headers_mut().insert(GRPC_STATUS, HeaderValue::from_static("5"));
            response
        }
        Ok(true) => grpc_message(if shared.departure.borrow().not_serving { NOT_SERVING } else { SERVING }),
    }
}

async fn health_watch(shared: &Shared, body: Incoming) -> Response<AnswerBody> {
    let known = match health_service(shared, body).await {
        Err(refusal) => return refusal.over_grpc(),
        Ok(known) => known,
    };
    let mut departure = shared.departure.subscribe();
    let now = match (known, departure.borrow_and_update().not_serving) {
        (false, _) => SERVICE_UNKNOWN,
        (true, false) => SERVING,
        (true, true) => NOT_SERVING,
    };
    let last = if known { NOT_SERVING } else { SERVICE_UNKNOWN };
    let later = async move {
        // An error means that the engine is gone, which is not serving either.
        let _ = departure.wait_for(|departure| departure.not_serving).await;
        grpc_frame(last)
    };
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let body = AnswerBody::message(grpc_frame(now), Some(trailers)).with_later(later);
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Whether the service that a HealthCheckRequest { service = 1 } asks about is known.
async fn health_service(shared: &Shared, body: Incoming) -> Result<bool, Refusal> {
    let malformed = || Refusal::malformed("not a HealthCheckRequest");
    let body = http_body_util::Limited::new(body, MAX_HEALTH_REQUEST).collect();
    let body = tokio::time::timeout(shared.limits.body_timeout, body).await;
    let body = body.map_err(|_| BodyError::TooSlow.refusal(MAX_HEALTH_REQUEST))?.map_err(|_| malformed())?.to_bytes();
    let message = body.get(5..).ok_or_else(malformed)?;
    let mut reader = Reader::new(message);
    let mut known = true;
    while let Some(field) = reader.next_field().map_err(|_| malformed())? {
        if field.number == 1 {
            let service = field.bytes().map_err(|_| malformed())?;
            known = SERVICES.iter().any(|name| name.as_bytes() == service);
        }
    }
    Ok(known)
}
