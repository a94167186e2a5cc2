//! What a connection tells about its peer: the address, and what the verified client certificate says.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::name::Name;

use crate::identify::certificate::CertificateRefusal;

/// Who is at the other end of a connection. One for all requests of the connection.
#[derive(Debug)]
pub struct Peer {
    /// An IPv4 address is never written as an IPv6 one.
    pub address: IpAddr,
    /// Verified when the connection was made; `None` without TLS, or if the client showed none.
    pub certificate: Option<PeerCertificate>,
    distrusted: AtomicBool,
}

impl Peer {
    pub fn new(address: IpAddr, certificate: Option<PeerCertificate>) -> Peer {
        Peer { address: address.to_canonical(), certificate, distrusted: AtomicBool::new(false) }
    }

    /// The certificate no longer verifies: a newer CRL revokes it, or its CA is gone.
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Relaxed);
    }

    /// Whether requests may still rely on what the handshake proved. Asked for each request, since a connection can
    /// outlive its certificate.
    pub fn check(&self, now: SystemTime) -> Result<(), CertificateRefusal> {
        let Some(certificate) = &self.certificate else { return Ok(()) };
        if self.distrusted.load(Ordering::Relaxed) {
            return Err(CertificateRefusal::NoLongerTrusted);
        }
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if now > certificate.not_after {
            return Err(CertificateRefusal::Expired);
        }
        Ok(())
    }
}

/// The parts of a client certificate that say whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// uniformResourceIdentifier entries of the subject alternative name, such as SPIFFE ids.
    pub san_uris: Vec<String>,
    /// dNSName entries of the subject alternative name.
    pub san_dns: Vec<String>,
    /// Of the subject. A subject with several is ambiguous and counts as one without.
    pub common_name: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// The last second of its validity, Unix time.
    pub not_after: u64,
}

impl PeerCertificate {
    /// Reads a certificate, DER. `None` if it is not one.
    ///
    /// The checks that RFC 5280 asks for beyond the encoding are the verifier's, which has been here before.
    pub fn parse(der: &[u8]) -> Option<PeerCertificate> {
        let certificate = CertificateInner::<Raw>::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let (mut san_uris, mut san_dns) = (Vec::new(), Vec::new());
        if let Some((_critical, SubjectAltName(names))) = body.get_extension::<SubjectAltName>().ok()? {
            for name in names {
                match name {
                    GeneralName::UniformResourceIdentifier(uri) => san_uris.push(uri.to_string()),
                    GeneralName::DnsName(name) => san_dns.push(name.to_string()),
                    _ => {}
                }
            }
        }
        Some(PeerCertificate {
            san_uris,
            san_dns,
            common_name: only_common_name(body.subject()),
            fingerprint: Sha256::digest(der).into(),
            not_after: body.validity().not_after.to_unix_duration().as_secs(),
        })
    }
}

fn only_common_name(subject: &Name) -> Option<String> {
    let mut names = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let (only, None) = (names.next()?, names.next()) else { return None };
    Some(only.value.decode_as::<DirectoryString>().ok()?.value().into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = sans;
        params.not_after = rcgen::date_time_ymd(2031, 5, 4);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    fn full() -> Vec<u8> {
        let address = SanType::IpAddress("192.0.2.1".parse().unwrap());
        let sans = vec![uri("spiffe://example.org/tenant/acme"), dns("a.example"), address, dns("b.example")];
        certificate(&["Ünïcode"], sans)
    }

    #[test]
    fn every_name_of_a_certificate_is_read() {
        let der = full();
        let read = PeerCertificate::parse(&der).unwrap();
        assert_eq!(read.san_uris, ["spiffe://example.org/tenant/acme"]);
        assert_eq!(read.san_dns, ["a.example", "b.example"]);
        assert_eq!(read.common_name.as_deref(), Some("Ünïcode"));
        assert_eq!(read.fingerprint, <[u8; 32]>::from(Sha256::digest(&der)));
        assert_eq!(read.not_after, 1_935_619_200); // 2031-05-04T00:00:00Z
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        let read = PeerCertificate::parse(&certificate(&[], Vec::new())).unwrap();
        assert_eq!((read.san_uris.len(), read.san_dns.len(), read.common_name), (0, 0, None));
    }

    #[test]
    fn a_connection_that_outlives_its_certificate_is_refused() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let parsed = PeerCertificate::parse(&full()).unwrap();
        let last = parsed.not_after;
        let peer = Peer::new("::ffff:192.0.2.7".parse().unwrap(), Some(parsed));
        assert_eq!(peer.address, "192.0.2.7".parse::<IpAddr>().unwrap());
        assert_eq!(peer.check(at(last)), Ok(()));
        assert_eq!(peer.check(at(last + 1)), Err(CertificateRefusal::Expired));
        peer.distrust();
        assert_eq!(peer.check(at(last)), Err(CertificateRefusal::NoLongerTrusted));
        assert_eq!(Peer::new(peer.address, None).check(at(last + 1)), Ok(()));
    }

    #[test]
    fn no_part_of_a_certificate_is_a_certificate() {
        let der = full();
        for length in 0..der.len() {
            assert_eq!(PeerCertificate::parse(&der[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(PeerCertificate::parse(&bytes), None);
        }

        #[test]
        fn a_damaged_certificate_is_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut der = full();
            for (index, byte) in changes {
                let index = index.index(der.len());
                der[index] = byte;
            }
            // Names may differ; a panic is what must not be.
            let _ = PeerCertificate::parse(&der);
        }
    }
}
