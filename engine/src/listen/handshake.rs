//! Why TLS handshakes fail: the client hears it by an alert, the operator by a counter.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{CertificateError, Error};

/// Reasons, as few as can be told apart by what an operator would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client showed no certificate, and one is required.
    NoCertificate,
    /// No configured CA signed the client's certificate.
    UnknownIssuer,
    Expired,
    Revoked,
    /// A CA of the client's chain has no CRL, or one that is no longer in force.
    NoValidCrl,
    /// Anything else about the client's certificate.
    BadCertificate,
    /// Not about the client's certificate: another protocol, no common version, a client that distrusts ours.
    Protocol,
    /// The client took longer than `listen.header_timeout`.
    TooSlow,
    /// The client went away.
    ConnectionLost,
}

impl HandshakeFailure {
    pub const ALL: [HandshakeFailure; 9] = [
        HandshakeFailure::NoCertificate,
        HandshakeFailure::UnknownIssuer,
        HandshakeFailure::Expired,
        HandshakeFailure::Revoked,
        HandshakeFailure::NoValidCrl,
        HandshakeFailure::BadCertificate,
        HandshakeFailure::Protocol,
        HandshakeFailure::TooSlow,
        HandshakeFailure::ConnectionLost,
    ];

    /// The `reason` of `gateway_tls_handshake_failures_total`.
    pub fn reason(self) -> &'static str {
        match self {
            HandshakeFailure::NoCertificate => "no_certificate",
            HandshakeFailure::UnknownIssuer => "unknown_issuer",
            HandshakeFailure::Expired => "expired",
            HandshakeFailure::Revoked => "revoked",
            HandshakeFailure::NoValidCrl => "no_valid_crl",
            HandshakeFailure::BadCertificate => "bad_certificate",
            HandshakeFailure::Protocol => "protocol",
            HandshakeFailure::TooSlow => "too_slow",
            HandshakeFailure::ConnectionLost => "connection_lost",
        }
    }

    pub fn of(error: &io::Error) -> HandshakeFailure {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return HandshakeFailure::ConnectionLost;
        };
        match error {
            Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => HandshakeFailure::UnknownIssuer,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => HandshakeFailure::Expired,
                CertificateError::Revoked => HandshakeFailure::Revoked,
                CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => HandshakeFailure::NoValidCrl,
                _ => HandshakeFailure::BadCertificate,
            },
            Error::InvalidCertRevocationList(_) => HandshakeFailure::NoValidCrl,
            _ => HandshakeFailure::Protocol,
        }
    }
}

/// Counters by reason.
#[derive(Default)]
pub struct HandshakeFailures([AtomicU64; HandshakeFailure::ALL.len()]);

impl HandshakeFailures {
    pub fn count(&self, failure: HandshakeFailure) {
        self.0[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        HandshakeFailure::ALL
            .iter()
            .zip(&self.0)
            .map(|(failure, count)| (failure.reason(), count.load(Ordering::Relaxed)))
    }
}
