//! Connections: accepted up to a bound, served until the client goes or the listeners close.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{grpc, http, Gauged, Protocol, Shared};

/// A client must finish its TLS handshake, and send a request's headers, within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2: an idle connection is pinged, and closed if nothing comes back.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 flow control: what one stream, and one connection, may have under way unread.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_CONCURRENT_STREAMS: u32 = 256;
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// How long to rest when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on `listener` until the engine drains. Several threads may share one socket, each with its own loop.
pub async fn serve(listener: TcpListener, protocol: Protocol, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut draining = shared.draining.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let open: u64 = shared.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        if open >= shared.limits.max_connections {
            shared.refused_connections.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tokio::spawn(connection(stream, protocol, tls.clone(), Arc::clone(&shared)));
    }
}

/// accept(2) passes on errors of the connection that was being accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(stream: TcpStream, protocol: Protocol, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let _counted = Gauged::new(&shared.connections[protocol as usize]);
    // Without it small answers wait for the client's delayed ACK. A socket that refuses the option is slower, not wrong.
    let _ = stream.set_nodelay(true);
    match tls {
        None => speak(stream, protocol, &shared).await,
        Some(acceptor) => {
            // A failed handshake is the client's affair; it has been told by a TLS alert.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                speak(stream, protocol, &shared).await;
            }
        }
    }
}

async fn speak<S>(stream: S, protocol: Protocol, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let shared = Arc::clone(shared);
        async move {
            let _active = Gauged::new(&shared.active_requests);
            Ok::<_, Infallible>(match protocol {
                Protocol::Grpc => grpc::answer(&shared, request).await,
                Protocol::Http => http::answer(&shared, request).await,
            })
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(64 << 10)
        .half_close(false);
    let builder = match protocol {
        Protocol::Grpc => builder.http2_only(),
        Protocol::Http => builder,
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut draining = shared.draining.subscribe();
    tokio::select! {
        // A broken connection is the client's affair; its requests are accounted for by their own guards.
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
