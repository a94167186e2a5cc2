//! Connections: accepted up to a bound, served until the client goes or the listeners close.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::handshake::HandshakeFailure;
use super::session::speak;
use super::tls::TlsContext;
use super::{Protocol, Shared};
use crate::identify::peer::{Peer, PeerCertificate};

/// How often a connection's certificate is verified anew even if no file changes: chains and CRLs end by themselves too.
const RECHECK_INTERVAL: Duration = Duration::from_secs(300);
/// How long to rest when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on `listener` until the engine drains. Several threads may share one socket, each with its own loop.
pub async fn serve(listener: TcpListener, protocol: Protocol, shared: Arc<Shared>) {
    let mut departure = shared.departure.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = departure.wait_for(|departure| departure.draining) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let open = Open::new(&shared, protocol);
        if shared.open_connections() > shared.limits.max_connections {
            shared.refused_connections.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tokio::spawn(connection(stream, address, open));
    }
}

/// accept(2) passes on errors of the connection that was being accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// A connection that is counted as open for as long as this lives.
struct Open {
    shared: Arc<Shared>,
    protocol: Protocol,
}

impl Open {
    fn new(shared: &Arc<Shared>, protocol: Protocol) -> Open {
        shared.connections[protocol as usize].fetch_add(1, Ordering::Relaxed);
        Open { shared: Arc::clone(shared), protocol }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections[self.protocol as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, open: Open) {
    let Open { shared, protocol } = &open;
    let protocol = *protocol;
    // Without it small answers wait for the client's delayed ACK. A socket that refuses the option is slower, not wrong.
    let _ = stream.set_nodelay(true);
    let mut tls = shared.tls[protocol as usize].subscribe();
    let context = tls.borrow_and_update().clone();
    let Some(context) = context else {
        return speak(stream, Arc::new(Peer::new(address.ip(), None)), pending(), protocol, shared).await;
    };
    let accepted = tokio::time::timeout(shared.limits.header_timeout, context.acceptor.accept(stream)).await;
    drop(context);
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        // The client has been told by a TLS alert.
        Ok(Err(error)) => return shared.handshake_failures.count(HandshakeFailure::of(&error)),
        Err(_) => return shared.handshake_failures.count(HandshakeFailure::TooSlow),
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
    speak(stream, peer, trust_lost(tls, chain), protocol, shared).await;
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
