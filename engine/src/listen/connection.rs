//! Connections: accepted up to a bound, served until the client goes or the listeners close.

use std::convert::Infallible;
use std::future::{pending, Future};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::handshake::HandshakeFailure;
use super::tls::TlsContext;
use super::{grpc, http, Gauged, Protocol, Shared};
use crate::identify::peer::{Peer, PeerCertificate};

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
/// How often a connection's certificate is verified anew even if no file changes: chains and CRLs end by themselves too.
const RECHECK_INTERVAL: Duration = Duration::from_secs(300);
/// How long a client whose certificate is no longer trusted has to go.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to rest when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on `listener` until the engine drains. Several threads may share one socket, each with its own loop.
pub async fn serve(listener: TcpListener, protocol: Protocol, shared: Arc<Shared>) {
    let mut draining = shared.draining.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
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
        tokio::spawn(connection(stream, address, protocol, Arc::clone(&shared)));
    }
}

/// accept(2) passes on errors of the connection that was being accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(stream: TcpStream, address: SocketAddr, protocol: Protocol, shared: Arc<Shared>) {
    let _counted = Gauged::new(&shared.connections[protocol as usize]);
    // Without it small answers wait for the client's delayed ACK. A socket that refuses the option is slower, not wrong.
    let _ = stream.set_nodelay(true);
    let mut tls = shared.tls[protocol as usize].subscribe();
    let context = tls.borrow_and_update().clone();
    let Some(context) = context else {
        return speak(stream, Arc::new(Peer::new(address.ip(), None)), pending(), protocol, &shared).await;
    };
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, context.acceptor.accept(stream)).await;
    drop(context);
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        // The client has been told by a TLS alert.
        Ok(Err(error)) => return shared.handshake_failures.count(HandshakeFailure::of(&error)),
        Err(_) => return shared.handshake_failures.count(HandshakeFailure::ConnectionLost),
    };
    let chain: Vec<_> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let certificate = match chain.first().map(|certificate| PeerCertificate::parse(certificate)) {
        // Who shows something that cannot be read is not the same as who shows nothing.
        Some(None) => return shared.handshake_failures.count(HandshakeFailure::BadCertificate),
        Some(certificate) => certificate,
        None => None,
    };
    let peer = Arc::new(Peer::new(address.ip(), certificate));
    speak(stream, peer, trust_lost(tls, chain), protocol, &shared).await;
}

/// Ends when the certificate chain of a connection no longer verifies.
async fn trust_lost(mut tls: watch::Receiver<Option<Arc<TlsContext>>>, chain: Vec<CertificateDer<'static>>) {
    while !chain.is_empty() {
        // Later is early enough for the end of a chain or a CRL; a new configuration is looked at at once.
        if let Ok(Err(_)) = tokio::time::timeout(RECHECK_INTERVAL, tls.changed()).await {
            break;
        }
        let context = tls.borrow_and_update().clone();
        if context.is_some_and(|context| !context.trusts(&chain)) {
            return;
        }
    }
    pending().await
}

/// Serves until either side goes. `trust_lost` ends when the client is to be shown the door.
async fn speak<S>(
    stream: S,
    peer: Arc<Peer>,
    trust_lost: impl Future<Output = ()>,
    protocol: Protocol,
    shared: &Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests_peer = Arc::clone(&peer);
    let service = service_fn(move |request| {
        let shared = Arc::clone(shared);
        let peer = Arc::clone(&requests_peer);
        async move {
            let _active = Gauged::new(&shared.active_requests);
            Ok::<_, Infallible>(match protocol {
                Protocol::Grpc => grpc::answer(&shared, &peer, request).await,
                Protocol::Http => http::answer(&shared, &peer, request).await,
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
    let patience = tokio::select! {
        // A broken connection is the client's affair; its requests are accounted for by their own guards.
        _ = connection.as_mut() => return,
        // The engine bounds a drain.
        _ = draining.wait_for(|draining| *draining) => Duration::MAX,
        () = trust_lost => {
            peer.distrust();
            FAREWELL_TIMEOUT
        }
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(patience, connection).await;
}
