//! One connection once it is open: requests are served until either side goes, within the bounds of `listen`.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, CONNECTION};
use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::activity::{Activity, Observed};
use super::answer::Abandoned;
use super::farewell::Farewell;
use super::{grpc, http as otlp_http, Gauged, Protocol, Shared};
use crate::identify::peer::Peer;

/// HTTP/2 flow control: what one stream, and one connection, may have under way unread.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// HTTP/2: answered 431 by the protocol's own machinery, which refuses the stream.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// HTTP/1.1: answered 431, and the connection closes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long a client that is asked to go has to finish.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection that was accepted just before the listeners closed has for its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until either side goes. `trust_lost` ends when the client is to be shown the door.
pub(super) async fn speak<S>(
    stream: S,
    peer: Arc<Peer>,
    trust_lost: impl Future<Output = ()>,
    protocol: Protocol,
    shared: &Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let (requests_peer, requests_activity) = (Arc::clone(&peer), Arc::clone(&activity));
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, peer, activity) = (Arc::clone(shared), Arc::clone(&requests_peer), Arc::clone(&requests_activity));
        async move {
            let _active = Gauged::new(&shared.active_requests);
            let under_way = activity.begin(&shared.abandoned_requests[protocol as usize]);
            let version = request.version();
            let mut response = match protocol {
                Protocol::Grpc => grpc::answer(&shared, &peer, request).await,
                Protocol::Http => otlp_http::answer(&shared, &peer, request).await,
            };
            if version < Version::HTTP_2 && shared.departure.borrow().announced {
                // Said with an answer no request crosses the close; HTTP/2 has GOAWAY for that.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if response.extensions().get::<Abandoned>().is_none() {
                under_way.answered();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let limits = &shared.limits;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_interval / 3);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It would count the time between two requests; `Activity` tells the two apart.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false);
    let builder = match protocol {
        Protocol::Grpc => builder.http2_only(),
        Protocol::Http => builder,
    };
    let connection = builder.serve_connection(TokioIo::new(Observed::new(stream, Arc::clone(&activity))), service);
    tokio::pin!(connection);
    tokio::pin!(trust_lost);
    let (mut announcement, mut departure) = (shared.departure.subscribe(), shared.departure.subscribe());
    let mut has_heard = announcement.borrow().announced;
    let mut _awaited = None;
    let patience = loop {
        tokio::select! {
            ended = connection.as_mut() => {
                // A broken connection is the client's affair; its requests are accounted for by their own guards.
                let farewell = match ended {
                    _ if activity.is_silent(limits) => Some(Farewell::Vanished),
                    Ok(()) => None,
                    Err(error) => Farewell::of(error.as_ref()),
                };
                return farewell.into_iter().for_each(|farewell| shared.farewells.count(protocol, farewell));
            }
            farewell = activity.overstay(limits, || shared.crowded()) => {
                shared.farewells.count(protocol, farewell);
                if !farewell.is_polite() {
                    return;
                }
                break FAREWELL_TIMEOUT;
            }
            _ = announcement.wait_for(|departure| departure.announced), if !has_heard => {
                has_heard = true;
                if !activity.speaks_http2() {
                    // It goes with its next answer.
                    _awaited = Some(Gauged::new(&shared.awaited_connections));
                }
            }
            // The engine bounds a drain.
            _ = departure.wait_for(|departure| departure.draining) => break Duration::MAX,
            () = trust_lost.as_mut() => {
                peer.distrust();
                break FAREWELL_TIMEOUT;
            }
        }
    };
    if shared.departure.borrow().draining {
        // To close before the first request is to refuse a connection that was accepted.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = timeout(FIRST_REQUEST_TIMEOUT, activity.first_request()) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(patience, connection).await;
}
