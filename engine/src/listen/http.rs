//! OTLP/HTTP: `/v1/traces`, `/v1/metrics`, `/v1/logs`, protobuf and JSON. Source: OTLP specification (OTLP/HTTP).

use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderValue, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use super::answer::{Format, Refusal};
use super::body::{discard, AnswerBody, Compression};
use super::export::{export, Framing};
use super::{Protocol, Shared};
use crate::identify::peer::Peer;
use crate::otlp::Signal;

pub(super) async fn answer(shared: &Arc<Shared>, peer: &Arc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let started = Instant::now();
    let (head, mut body) = request.into_parts();
    let format = head.headers.get(CONTENT_TYPE).and_then(parse_format);
    // A client whose format is unknown is most likely a person with curl.
    let answer_format = format.unwrap_or(Format::Json);
    let signal = match head.uri.path() {
        "/v1/traces" => Signal::Traces,
        "/v1/metrics" => Signal::Metrics,
        "/v1/logs" => Signal::Logs,
        _ => {
            return Refusal::not_served("OTLP/HTTP is served at /v1/traces, /v1/metrics, /v1/logs")
                .over_http(answer_format)
        }
    };
    if head.method != Method::POST {
        return Refusal::method_not_allowed().over_http(answer_format);
    }
    let encoding = head.headers.get(CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let result = match format {
        None => Err(Refusal::unsupported("Content-Type must be application/x-protobuf or application/json")),
        Some(format) => {
            let framing = match format {
                Format::Protobuf => Framing::Protobuf,
                Format::Json => Framing::Json,
            };
            export(shared, peer, signal, &head.headers, &mut body, framing, Compression::parse(encoding)).await
        }
    };
    if result.as_ref().is_err_and(Refusal::leaves_a_body) && head.version < Version::HTTP_2 {
        discard(&mut body).await;
    }
    shared.stats.observe(Protocol::Http, signal, &result, started.elapsed());
    match result {
        Ok(accepted) => accepted.over_http(answer_format, signal),
        Err(refusal) => refusal.over_http(answer_format),
    }
}

/// The media type without its parameters: `; charset=utf-8` is fine.
fn parse_format(content_type: &HeaderValue) -> Option<Format> {
    let media_type = content_type.as_bytes().split(|byte| *byte == b';').next()?.trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
        Some(Format::Protobuf)
    } else if media_type.eq_ignore_ascii_case(b"application/json") {
        Some(Format::Json)
    } else {
        None
    }
}
