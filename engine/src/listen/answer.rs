//! Answers: every outcome of a request as gRPC and as HTTP says it (docs/design.md §4, "Answers").
//!
//! Sources: OTLP specification (failures, throttling), gRPC over HTTP/2, google.rpc.Status and RetryInfo, RFC 9110.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{HeaderName, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::AnswerBody;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_varint_field};
use crate::otlp::Signal;

pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The gRPC status codes that the gateway answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    pub const ALL: [Code; 10] = [
        Code::Ok,
        Code::Cancelled,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::Unauthenticated,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Marks an answer that its client did not wait for.
#[derive(Debug, Clone)]
pub struct Abandoned;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub http: StatusCode,
    pub message: Cow<'static, str>,
    /// Present exactly when the client may send the same again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    fn new(code: Code, http: StatusCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, http, message: message.into(), retry_after: None }
    }

    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(Code::InvalidArgument, StatusCode::BAD_REQUEST, message)
    }

    pub fn unauthenticated(message: &'static str) -> Refusal {
        Refusal::new(Code::Unauthenticated, StatusCode::UNAUTHORIZED, message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(Code::PermissionDenied, StatusCode::FORBIDDEN, message)
    }

    pub fn too_large(max_bytes: usize) -> Refusal {
        let message = format!("the request is larger than {max_bytes} bytes; send smaller batches");
        Refusal::new(Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(Code::Unimplemented, StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub fn over_quota(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Refusal {
        let refusal = Refusal::new(Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS, message);
        Refusal { retry_after: Some(retry_after), ..refusal }
    }

    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Refusal {
        let refusal = Refusal::new(Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message);
        Refusal { retry_after: Some(retry_after), ..refusal }
    }

    pub fn too_slow(message: &'static str) -> Refusal {
        Refusal::new(Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT, message)
    }

    /// Most likely nobody reads this.
    pub fn abandoned(message: &'static str) -> Refusal {
        Refusal::new(Code::Cancelled, StatusCode::BAD_REQUEST, message)
    }

    /// A gRPC method, or an HTTP path, that is not served.
    pub fn not_served(message: &'static str) -> Refusal {
        Refusal::new(Code::Unimplemented, StatusCode::NOT_FOUND, message)
    }

    pub fn method_not_allowed() -> Refusal {
        Refusal::new(Code::Unimplemented, StatusCode::METHOD_NOT_ALLOWED, "OTLP is sent with POST")
    }

    pub fn internal(message: &'static str) -> Refusal {
        Refusal::new(Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Whether the client may still be sending. One that was too slow, or went away, is not waited for.
    pub fn leaves_a_body(&self) -> bool {
        !matches!(self.code, Code::DeadlineExceeded | Code::Cancelled)
    }

    /// Lets the connection know of a client that gave its request up.
    fn mark(&self, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
        if self.code == Code::Cancelled {
            response.extensions_mut().insert(Abandoned);
        }
        response
    }

    /// `google.rpc.Status`, protobuf.
    fn status_proto(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 64);
        put_varint_field(&mut out, 1, u64::from(self.code as u32));
        put_bytes_field(&mut out, 2, self.message.as_bytes());
        if let Some(delay) = self.retry_after {
            put_message_field(&mut out, 3, |out| {
                put_bytes_field(out, 1, RETRY_INFO.as_bytes());
                put_message_field(out, 2, |out| {
                    put_message_field(out, 1, |out| {
                        put_varint_field(out, 1, delay.as_secs());
                        put_varint_field(out, 2, u64::from(delay.subsec_nanos()));
                    });
                });
            });
        }
        out
    }

    /// `google.rpc.Status`, proto3 JSON.
    fn status_json(&self) -> Vec<u8> {
        let details = self.retry_after.map(|delay| {
            let seconds = format!("{}.{:09}s", delay.as_secs(), delay.subsec_nanos());
            serde_json::json!([{"@type": RETRY_INFO, "retryDelay": seconds}])
        });
        let mut status = serde_json::json!({"code": self.code as u32, "message": self.message});
        if let (Some(details), Some(object)) = (details, status.as_object_mut()) {
            object.insert("details".to_owned(), details);
        }
        status.to_string().into_bytes()
    }

    pub fn over_grpc(&self) -> Response<AnswerBody> {
        let mut response = self.mark(Response::new(AnswerBody::empty()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u32));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.message)) {
            headers.insert(GRPC_MESSAGE, message);
        }
        // gRPC's *-bin metadata is unpadded base64.
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.status_proto());
        if let Ok(details) = HeaderValue::from_str(&details) {
            headers.insert(GRPC_STATUS_DETAILS, details);
        }
        response
    }

    pub fn over_http(&self, format: Format) -> Response<AnswerBody> {
        let body = match format {
            Format::Protobuf => self.status_proto(),
            Format::Json => self.status_json(),
        };
        let mut response = self.mark(Response::new(AnswerBody::data(Bytes::from(body))));
        *response.status_mut() = self.http;
        response.headers_mut().insert(CONTENT_TYPE, format.content_type());
        if let Some(delay) = self.retry_after {
            // Whole seconds, rounded up: a client that obeys is never early. The body has the exact delay.
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.http == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"telemetry-gateway\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        if self.http == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// The two encodings of OTLP/HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn content_type(self) -> HeaderValue {
        match self {
            Format::Protobuf => HeaderValue::from_static("application/x-protobuf"),
            Format::Json => HeaderValue::from_static("application/json"),
        }
    }
}

/// What an accepted request is told: nothing, or `partial_success`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    pub rejected_items: u64,
    /// Empty: `partial_success` stays unset.
    pub message: Cow<'static, str>,
}

impl Accepted {
    /// A warning: everything was taken, but the sender should know something.
    pub fn warning(message: impl Into<Cow<'static, str>>) -> Accepted {
        Accepted { rejected_items: 0, message: message.into() }
    }

    /// `items` are not taken and never will be; `why` says for which reason.
    pub fn reject(&mut self, items: u64, why: &str) {
        self.rejected_items += items;
        let message = self.message.to_mut();
        if !message.is_empty() {
            message.push_str("; ");
        }
        message.push_str(why);
    }

    fn response_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.message.is_empty() {
            put_message_field(&mut out, 1, |out| {
                if self.rejected_items > 0 {
                    put_varint_field(out, 1, self.rejected_items);
                }
                put_bytes_field(out, 2, self.message.as_bytes());
            });
        }
        out
    }

    fn response_json(&self, signal: Signal) -> Vec<u8> {
        if self.message.is_empty() {
            return b"{}".to_vec();
        }
        let rejected = match signal {
            Signal::Traces => "rejectedSpans",
            Signal::Metrics => "rejectedDataPoints",
            Signal::Logs => "rejectedLogRecords",
        };
        let partial = serde_json::json!({rejected: self.rejected_items.to_string(), "errorMessage": self.message});
        serde_json::json!({"partialSuccess": partial}).to_string().into_bytes()
    }

    pub fn over_grpc(&self) -> Response<AnswerBody> {
        grpc_message(&self.response_proto())
    }

    pub fn over_http(&self, format: Format, signal: Signal) -> Response<AnswerBody> {
        let body = match format {
            Format::Protobuf => self.response_proto(),
            Format::Json => self.response_json(signal),
        };
        let mut response = Response::new(AnswerBody::data(Bytes::from(body)));
        response.headers_mut().insert(CONTENT_TYPE, format.content_type());
        response
    }
}

/// One uncompressed gRPC message and `grpc-status: 0`.
pub fn grpc_message(message: &[u8]) -> Response<AnswerBody> {
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(AnswerBody::message(grpc_frame(message), Some(trailers)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// Length-prefixed-message of gRPC over HTTP/2.
pub fn grpc_frame(message: &[u8]) -> Bytes {
    if message.is_empty() {
        return Bytes::from_static(&[0; 5]);
    }
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    Bytes::from(frame)
}

/// Status-Message of gRPC over HTTP/2: printable ASCII but `%` as it is, all else percent-encoded.
fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            0x20..=0x7e => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
