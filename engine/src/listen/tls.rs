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

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
        KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    };

    use super::*;

    struct Authority(Issuer<'static, KeyPair>, String);

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    impl Authority {
        fn issue(&self, serial: u64) -> (CertificateDer<'static>, String, String) {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.serial_number = Some(serial.into());
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.0).unwrap();
            (certificate.der().clone(), certificate.pem(), key.serialize_pem())
        }

        fn crl(&self, revoked: &[u64], until: i32) -> String {
            let entry = |serial: &u64| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: rcgen::date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2024, 1, 1),
                next_update: rcgen::date_time_ymd(until, 1, 1),
                crl_number: 1u64.into(),
                issuing_distribution_point: None,
                revoked_certs: revoked.iter().map(entry).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.0).unwrap().pem().unwrap()
        }
    }

    #[test]
    fn a_chain_is_trusted_as_long_as_every_ca_and_crl_says_so() {
        let (ours, other) = (authority("ours"), authority("other"));
        let (_, certificate, key) = ours.issue(1);
        let chain = [ours.issue(7).0];
        let (good, revoked, lapsed) = (ours.crl(&[3], 2200), ours.crl(&[7], 2200), ours.crl(&[], 2025));
        let both = format!("{}{good}", other.crl(&[7], 2200));
        for (ca, crl, trusted) in [
            (&ours.1, None, true),
            (&other.1, None, false),
            (&ours.1, Some(&good), true),
            (&ours.1, Some(&both), true),
            (&ours.1, Some(&revoked), false),
            (&ours.1, Some(&lapsed), false),
            (&ours.1, Some(&other.crl(&[], 2200)), false),
        ] {
            let pem = TlsPem {
                certificate: certificate.as_bytes(),
                private_key: key.as_bytes(),
                client_ca: Some(ca.as_bytes()),
                crl: crl.map(String::as_bytes),
                require_client_certificate: true,
            };
            let context = TlsContext::build(Protocol::Http, &pem).unwrap();
            assert_eq!(context.trusts(&chain), trusted);
            assert!(context.trusts(&[]), "who showed nothing has nothing to lose");
        }
    }

    #[test]
    fn an_error_names_the_key_at_fault_and_quotes_no_file() {
        let authority = authority("ours");
        let (_, certificate, key) = authority.issue(1);
        let (_, _, other_key) = authority.issue(2);
        let armoured = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let (no_certificate, no_crl) = (armoured("CERTIFICATE"), armoured("X509 CRL"));
        let ca = Some(authority.1.as_str());
        for (certificate, key, client_ca, crl, start) in [
            ("", key.as_str(), None, None, "cert_file: it holds no certificate"),
            (&no_certificate, &key, None, None, "cert_file: it does not go with key_file"),
            (&certificate, &certificate, None, None, "key_file: it holds no unencrypted private key"),
            (&certificate, &other_key, None, None, "cert_file: it does not go with key_file"),
            (&certificate, &key, Some(""), None, "client_ca_file: it holds no certificate"),
            (&certificate, &key, Some(&no_certificate), None, "client_ca_file: it holds an unusable certificate"),
            (&certificate, &key, ca, Some(""), "crl_file: it holds no CRL"),
            (&certificate, &key, ca, Some(&no_crl), "crl_file: it holds an unusable CRL"),
        ] {
            let pem = TlsPem {
                certificate: certificate.as_bytes(),
                private_key: key.as_bytes(),
                client_ca: client_ca.map(str::as_bytes),
                crl: crl.map(str::as_bytes),
                require_client_certificate: true,
            };
            let error = TlsContext::build(Protocol::Grpc, &pem).err().unwrap();
            assert!(error.starts_with(start), "{error}");
            assert!(!error.contains("AAAA") && !error.contains("BEGIN"), "{error}");
        }
    }
}
