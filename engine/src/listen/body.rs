//! Bodies: receiving a request's within its limits, undoing its compression within the same limits, and the answer's.

use std::error::Error;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::Refusal;
use crate::admit::inflight::{self, Reservation};
use crate::ledger::RejectReason;
use crate::payload::SHARED_MIN_BYTES;

/// What a client is told to wait when the memory for requests in flight, the gateway's or its tenant's, is taken. How long
/// it stays so nobody knows; a request is in flight for milliseconds.
pub const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How much memory is reserved on a client's word.
const BELIEVED_BYTES: usize = 1 << 20;
/// Of a refused request, what is read after the refusal.
const DISCARD_MAX_BYTES: usize = 256 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// A zstd frame may ask for a window up to 2^25 bytes (32 MiB); level 19 needs 2^23.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// How the output of a decompressor grows.
const INFLATE_STEP: usize = 64 * 1024;

/// `Content-Encoding` or `grpc-encoding` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Identity,
    Gzip,
    Zstd,
}

impl Compression {
    pub fn parse(name: &[u8]) -> Option<Compression> {
        match name {
            b"" | b"identity" => Some(Compression::Identity),
            b"gzip" | b"x-gzip" => Some(Compression::Gzip),
            b"zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// Why a body was not taken.
#[derive(Debug)]
pub enum BodyError {
    TooLarge,
    /// A bound on bytes in flight is reached: the gateway's or the tenant's.
    Full(inflight::Full),
    TooSlow,
    /// The client reset the stream, or went away.
    Abandoned,
    /// The body's framing, or its compressed data, is damaged.
    Broken(&'static str),
}

impl BodyError {
    pub fn reject_reason(&self) -> RejectReason {
        match self {
            BodyError::TooLarge => RejectReason::TooLarge,
            BodyError::Full(inflight::Full::Gateway) => RejectReason::GatewayFull,
            BodyError::Full(inflight::Full::Tenant) => RejectReason::InflightBytes,
            BodyError::TooSlow => RejectReason::TooSlow,
            BodyError::Abandoned => RejectReason::Abandoned,
            BodyError::Broken(_) => RejectReason::Malformed,
        }
    }

    pub fn refusal(&self, max_bytes: usize) -> Refusal {
        match self {
            BodyError::TooLarge => Refusal::too_large(max_bytes),
            BodyError::Full(inflight::Full::Gateway) => {
                Refusal::unavailable("the gateway holds as many bytes in flight as it may; retry", FULL_RETRY_AFTER)
            }
            BodyError::Full(inflight::Full::Tenant) => Refusal::over_quota(
                "the tenant is over its quota of max_inflight_bytes; send fewer requests at once",
                FULL_RETRY_AFTER,
            ),
            BodyError::TooSlow => Refusal::too_slow("the request's body did not arrive in time"),
            BodyError::Abandoned => Refusal::abandoned("the client gave the request up"),
            BodyError::Broken(what) => Refusal::malformed(*what),
        }
    }
}

/// Receives a body of at most `max_bytes`, each byte reserved before it is kept. A client that takes longer than `patience`
/// for the whole holds memory that others need.
pub async fn receive(
    body: &mut Incoming,
    max_bytes: usize,
    patience: Duration,
    mut reservation: Reservation,
) -> Result<(Bytes, Reservation), BodyError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let collect = async {
        let mut first = Bytes::new();
        let mut rest: Vec<u8> = Vec::new();
        let mut length = 0usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| match is_gone(&error) {
                true => BodyError::Abandoned,
                false => BodyError::Broken("the request's body ended early"),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > max_bytes {
                return Err(BodyError::TooLarge);
            }
            reservation.grow(data.len()).map_err(BodyError::Full)?;
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    // A declared length saves regrowing, but is not believed beyond a bound.
                    let declared = expected_length(&first).max(length + body.size_hint().lower() as usize);
                    rest.reserve(declared.min(max_bytes).min(BELIEVED_BYTES));
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if !rest.is_empty() {
            fitted(rest)
        } else if length >= SHARED_MIN_BYTES {
            // A part of the connection's buffer, which is larger: nobody is to keep that.
            Bytes::copy_from_slice(&first)
        } else {
            first
        })
    };
    match tokio::time::timeout(patience, collect).await {
        Ok(result) => result.map(|bytes| (bytes, reservation)),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// Bytes that may be kept for long: what they hold in memory is about what they are counted as.
pub fn fitted(bytes: Vec<u8>) -> Bytes {
    if bytes.capacity() - bytes.len() > bytes.len() / 4 {
        return Bytes::copy_from_slice(&bytes);
    }
    Bytes::from(bytes)
}

/// Whether a body ended because its client did not go on with it.
fn is_gone(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote() || error.is_io();
        }
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A gRPC body has no Content-Length; its message says how long it is. Of any other body this is a guess, and only a guess.
fn expected_length(start: &[u8]) -> usize {
    match start.first_chunk::<5>() {
        Some([0 | 1, length @ ..]) => 5 + u32::from_be_bytes(*length) as usize,
        _ => 0,
    }
}

/// Reads what is left of a refused request's body and throws it away, within bounds: an HTTP/1.1 client that is still
/// sending would otherwise see a broken connection instead of the answer.
pub async fn discard(body: &mut Incoming) {
    let discard = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARD_MAX_BYTES {
                return;
            }
        }
    };
    // Too slow is the same as too long: the connection closes.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard).await;
}

/// Undoes `compression`; the result is at most `max_bytes`, and reserved in `reservation` as it grows, so that a
/// decompression bomb costs one step over the limit.
pub fn decompress(
    compression: Compression,
    body: Bytes,
    max_bytes: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, BodyError> {
    match compression {
        Compression::Identity => Ok(body),
        Compression::Gzip => {
            let reader = flate2::bufread::MultiGzDecoder::new(body.reader());
            read_bounded(reader, max_bytes, reservation, "the gzip data of the request is damaged")
        }
        Compression::Zstd => {
            const DAMAGED: &str = "the zstd data of the request is damaged";
            let mut reader =
                zstd::stream::read::Decoder::with_buffer(body.reader()).map_err(|_| BodyError::Broken(DAMAGED))?;
            reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| BodyError::Broken(DAMAGED))?;
            read_bounded(reader, max_bytes, reservation, DAMAGED)
        }
    }
}

fn read_bounded(
    mut reader: impl Read,
    max_bytes: usize,
    reservation: &mut Reservation,
    damaged: &'static str,
) -> Result<Bytes, BodyError> {
    let mut out = Vec::new();
    loop {
        let filled = out.len();
        if filled > max_bytes {
            return Err(BodyError::TooLarge);
        }
        reservation.grow(INFLATE_STEP).map_err(BodyError::Full)?;
        out.resize(filled + INFLATE_STEP, 0);
        let mut end = filled;
        while end < out.len() {
            match reader.read(&mut out[end..]) {
                Ok(0) => {
                    out.truncate(end);
                    if end > max_bytes {
                        return Err(BodyError::TooLarge);
                    }
                    return Ok(fitted(out));
                }
                Ok(read) => end += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(BodyError::Broken(damaged)),
            }
        }
    }
}

/// A message that comes later on the same stream.
type Later = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// An answer's body: at most one piece of data now, one later, and one block of trailers.
#[derive(Default)]
pub struct AnswerBody {
    data: Option<Bytes>,
    later: Option<Later>,
    trailers: Option<HeaderMap>,
}

impl AnswerBody {
    pub fn empty() -> AnswerBody {
        AnswerBody::default()
    }

    pub fn data(data: Bytes) -> AnswerBody {
        AnswerBody::message(data, None)
    }

    pub fn message(data: Bytes, trailers: Option<HeaderMap>) -> AnswerBody {
        AnswerBody { data: (!data.is_empty()).then_some(data), later: None, trailers }
    }

    /// Sends another message when `later` is ready, then the trailers.
    pub fn with_later(mut self, later: impl Future<Output = Bytes> + Send + 'static) -> AnswerBody {
        self.later = Some(Box::pin(later));
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(later) = self.later.as_mut() {
            return match later.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(data) => {
                    self.later = None;
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
            };
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.later.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.data, &self.later) {
            (_, Some(_)) => SizeHint::default(),
            (Some(data), None) => SizeHint::with_exact(data.len() as u64),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
