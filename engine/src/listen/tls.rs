//! TLS for a listener, from PEM text: rustls, TLS 1.2 and 1.3; client certificates and their revocation.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsAcceptor;

use super::Protocol;

/// TLS material of a listener, PEM.
#[derive(Clone, Copy)]
pub struct TlsPem<'a> {
    pub certificate: &'a [u8],
    pub private_key: &'a [u8],
    /// If given, a client certificate must be signed by one of these.
    pub client_ca: Option<&'a [u8]>,
    /// If given, no certificate of a client's chain may stand in one of these.
    pub crl: Option<&'a [u8]>,
    /// Whether a client without a certificate is turned away.
    pub require_client_certificate: bool,
}

/// One TLS configuration, for the handshakes of its time. Connections are checked against each later one.
pub struct TlsContext {
    pub acceptor: TlsAcceptor,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsContext {
    /// Errors name the configuration key at fault, and never quote what is in the file.
    pub fn build(protocol: Protocol, pem: &TlsPem<'_>) -> Result<TlsContext, String> {
        let chain = certificates(pem.certificate).map_err(|error| format!("cert_file: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(pem.private_key)
            .map_err(|_| "key_file: it holds no unencrypted private key in PEM form".to_owned())?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier = match pem.client_ca {
            None => None,
            Some(client_ca) => Some(client_verifier(client_ca, pem.crl, pem.require_client_certificate)?),
        };
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("cert_file: it does not go with key_file: {error}"))?;
        config.alpn_protocols = match protocol {
            Protocol::Grpc => vec![b"h2".to_vec()],
            Protocol::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(TlsContext { acceptor: TlsAcceptor::from(Arc::new(config)), verifier })
    }

    /// Whether a client with this certificate chain would be let in now.
    pub fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.verifier, chain) {
            (None, _) | (_, []) => true,
            (Some(verifier), [certificate, intermediates @ ..]) => {
                verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
            }
        }
    }
}

fn client_verifier(
    client_ca: &[u8],
    crl: Option<&[u8]>,
    require_certificate: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_ca).map_err(|error| format!("client_ca_file: {error}"))? {
        roots.add(certificate).map_err(|error| format!("client_ca_file: it holds an unusable certificate: {error}"))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    if let Some(crl) = crl {
        // Of the whole chain, and closed on doubt, as nginx and HAProxy do: without a list that is in force, of every CA of
        // the chain, nobody can say that a certificate is not revoked.
        builder = builder.with_crls(revocation_lists(crl)?).enforce_revocation_expiration();
    }
    if !require_certificate {
        builder = builder.allow_unauthenticated();
    }
    // The roots are usable, so what is left is a CRL that cannot be read.
    builder.build().map_err(|error| format!("crl_file: it holds an unusable CRL: {error}"))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("it holds no certificate in PEM form"),
        Err(_) => Err("it is not valid PEM"),
    }
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, &'static str> {
    match CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) => Err("crl_file: it holds no CRL in PEM form"),
        Err(_) => Err("crl_file: it is not valid PEM"),
    }
}
