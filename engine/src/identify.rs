//! Who is sending: a credential in the headers becomes a tenant, from a table.
//!
//! Keys are known by their SHA-256 only. The presented key is hashed and looked up by the hash, so the time that a look-up
//! takes tells nothing about the key; the final comparison is constant-time besides.

pub mod certificate;
pub mod tokens;

use std::collections::HashMap;

use base64::Engine as _;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::listen::peer::Peer;
use crate::policy::{IdentityProvider, Tenant};
use certificate::{CertificateRefusal, CertificateTenants};

/// What the headers say about the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identified {
    /// Index into the generation's tenants.
    Tenant(usize),
    /// Nothing was shown and nobody is anonymous.
    NoCredential,
    /// Something was shown that is nobody's.
    UnknownCredential,
    /// A client certificate was shown that is nobody's, or more than one's.
    Certificate(CertificateRefusal),
}

#[derive(Debug)]
enum Scheme {
    /// The header's value is the key.
    Bare,
    /// `Basic`, RFC 7617: the password is the key, the user name is the tenant or the key's id.
    Basic,
    /// Any other scheme (RFC 9110 §11.1, compared without case) in front of the key.
    Named(String),
}

#[derive(Debug)]
struct KeyHeader {
    name: HeaderName,
    scheme: Scheme,
}

struct KnownKey {
    sha256: [u8; 32],
    key_id: String,
    tenant_id: String,
    tenant: usize,
}

/// The identity table of one policy generation.
pub struct Identity {
    certificates: Vec<CertificateTenants>,
    headers: Vec<KeyHeader>,
    keys: HashMap<[u8; 32], KnownKey>,
    anonymous: Option<usize>,
}

impl Identity {
    /// A table in which nobody stands.
    pub fn nobody() -> Identity {
        Identity { certificates: Vec::new(), headers: Vec::new(), keys: HashMap::new(), anonymous: None }
    }

    /// Compiles providers and keys. The error names what is wrong without showing a key.
    pub fn compile(providers: &[IdentityProvider], tenants: &[Tenant]) -> Result<Identity, String> {
        let mut identity = Identity::nobody();
        for (index, provider) in providers.iter().enumerate() {
            match provider {
                IdentityProvider::Mtls { tenant_from, pattern } => {
                    let certificates = CertificateTenants::compile(*tenant_from, pattern.as_deref(), tenants)
                        .map_err(|error| format!("identity[{index}].mtls.{error}"))?;
                    identity.certificates.push(certificates);
                }
                IdentityProvider::ApiKey { header, scheme } => {
                    let name = HeaderName::try_from(header.as_str())
                        .map_err(|_| format!("identity: {header:?} is not a header name"))?;
                    let scheme = match scheme.as_deref() {
                        None | Some("") => Scheme::Bare,
                        Some(scheme) if scheme.eq_ignore_ascii_case("basic") => Scheme::Basic,
                        Some(scheme) => Scheme::Named(scheme.to_owned()),
                    };
                    identity.headers.push(KeyHeader { name, scheme });
                }
                IdentityProvider::Anonymous { tenant } => {
                    let index = tenants.iter().position(|known| known.id == *tenant);
                    identity.anonymous =
                        Some(index.ok_or_else(|| format!("identity: the anonymous tenant {tenant:?} does not exist"))?);
                }
            }
        }
        for (index, tenant) in tenants.iter().enumerate() {
            for key in &tenant.api_keys {
                let sha256 = parse_sha256(&key.sha256).ok_or_else(|| {
                    format!("tenant {}: key {}: sha256 is not 64 hexadecimal digits", tenant.id, key.id)
                })?;
                let known = KnownKey { sha256, key_id: key.id.clone(), tenant_id: tenant.id.clone(), tenant: index };
                if let Some(other) = identity.keys.insert(sha256, known) {
                    return Err(format!(
                        "tenant {}: key {} has the same hash as key {} of tenant {}",
                        tenant.id, key.id, other.key_id, other.tenant_id
                    ));
                }
            }
        }
        Ok(identity)
    }

    /// Tries the providers in order. A credential that is shown and unknown is never anonymous.
    pub fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Identified {
        let by_certificate = match self.by_certificate(peer) {
            Ok(tenant) => tenant,
            Err(refusal) => return Identified::Certificate(refusal),
        };
        let mut shown = false;
        for provider in &self.headers {
            for value in headers.get_all(&provider.name) {
                shown = true;
                if let Some(tenant) = self.look_up(&provider.scheme, value) {
                    return match by_certificate {
                        Some(other) if other != tenant => Identified::Certificate(CertificateRefusal::OtherTenant),
                        _ => Identified::Tenant(tenant),
                    };
                }
            }
        }
        match (by_certificate, self.anonymous) {
            (Some(tenant), _) => Identified::Tenant(tenant),
            _ if shown => Identified::UnknownCredential,
            _ if peer.certificate.is_some() && !self.certificates.is_empty() => {
                Identified::Certificate(CertificateRefusal::WithoutTenant)
            }
            (None, Some(tenant)) => Identified::Tenant(tenant),
            (None, None) => Identified::NoCredential,
        }
    }

    /// The one tenant that the providers see in the certificate.
    fn by_certificate(&self, peer: &Peer) -> Result<Option<usize>, CertificateRefusal> {
        let mut found = None;
        for provider in &self.certificates {
            let tenant = match provider.tenant(peer) {
                Ok(tenant) => tenant,
                // A certificate that is not about tenants leaves the word to other credentials.
                Err(CertificateRefusal::WithoutTenant) => None,
                Err(refusal) => return Err(refusal),
            };
            if found.is_some() && tenant.is_some() && found != tenant {
                return Err(CertificateRefusal::SeveralTenants);
            }
            found = found.or(tenant);
        }
        Ok(found)
    }

    fn look_up(&self, scheme: &Scheme, value: &HeaderValue) -> Option<usize> {
        let value = value.as_bytes().trim_ascii();
        match scheme {
            Scheme::Bare => self.find(value).map(|key| key.tenant),
            Scheme::Named(scheme) => self.find(strip_scheme(value, scheme)?).map(|key| key.tenant),
            Scheme::Basic => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(strip_scheme(value, "basic")?).ok()?;
                let colon = memchr::memchr(b':', &decoded)?;
                let key = self.find(&decoded[colon + 1..])?;
                let user = &decoded[..colon];
                (user == key.tenant_id.as_bytes() || user == key.key_id.as_bytes()).then_some(key.tenant)
            }
        }
    }

    fn find(&self, key: &[u8]) -> Option<&KnownKey> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let known = self.keys.get(&hash)?;
        bool::from(known.sha256.ct_eq(&hash)).then_some(known)
    }
}

fn strip_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    head.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
}

fn parse_sha256(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0u8; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::peer::PeerCertificate;
    use crate::policy::{ApiKey, TenantFrom};

    fn tenant(id: &str, key: &str) -> Tenant {
        let sha256 = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Tenant { id: id.into(), disabled: false, api_keys: vec![ApiKey { id: "k1".into(), sha256 }], policy: 0 }
    }

    fn providers() -> Vec<IdentityProvider> {
        let api_key = |header: &str, scheme: Option<&str>| IdentityProvider::ApiKey {
            header: header.into(),
            scheme: scheme.map(str::to_owned),
        };
        vec![
            api_key("authorization", Some("Bearer")),
            api_key("authorization", Some("Basic")),
            api_key("x-api-key", None),
        ]
    }

    fn nobody() -> Peer {
        Peer::new("192.0.2.1".parse().unwrap(), None)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn every_form_of_a_key_finds_its_tenant_and_nothing_else_does() {
        let identity =
            Identity::compile(&providers(), &[tenant("acme", "secret-a"), tenant("globex", "secret-b")]).unwrap();
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        for (name, value, expected) in [
            ("authorization", "Bearer secret-a".to_owned(), Identified::Tenant(0)),
            ("authorization", "bearer secret-b".to_owned(), Identified::Tenant(1)),
            ("authorization", basic("acme:secret-a"), Identified::Tenant(0)),
            ("authorization", basic("k1:secret-b"), Identified::Tenant(1)),
            ("authorization", basic("globex:secret-a"), Identified::UnknownCredential),
            ("authorization", "Basic !!!".to_owned(), Identified::UnknownCredential),
            ("authorization", "secret-a".to_owned(), Identified::UnknownCredential),
            ("authorization", "Bearer secret-c".to_owned(), Identified::UnknownCredential),
            ("authorization", "Bearer".to_owned(), Identified::UnknownCredential),
            ("x-api-key", "secret-a".to_owned(), Identified::Tenant(0)),
            ("x-api-key", "".to_owned(), Identified::UnknownCredential),
            ("x-scope-orgid", "acme".to_owned(), Identified::NoCredential),
        ] {
            assert_eq!(identity.identify(&headers(name, &value), &nobody()), expected, "{name}: {value}");
        }
    }

    #[test]
    fn only_the_silent_are_anonymous() {
        let mut providers = providers();
        providers.push(IdentityProvider::Anonymous { tenant: "acme".into() });
        let identity = Identity::compile(&providers, &[tenant("acme", "a")]).unwrap();
        assert_eq!(identity.identify(&HeaderMap::new(), &nobody()), Identified::Tenant(0));
        assert_eq!(identity.identify(&headers("x-api-key", "wrong"), &nobody()), Identified::UnknownCredential);
    }

    #[test]
    fn a_certificate_and_a_key_must_name_the_same_tenant() {
        let by_common_name = IdentityProvider::Mtls { tenant_from: TenantFrom::CommonName, pattern: None };
        let everybody = IdentityProvider::Anonymous { tenant: "globex".into() };
        let providers = [vec![by_common_name], providers(), vec![everybody]].concat();
        let patterned =
            IdentityProvider::Mtls { tenant_from: TenantFrom::CommonName, pattern: Some("host-(.*)".into()) };
        let lenient = [vec![patterned], providers.clone()[1..].to_vec()].concat();
        let tenants = [tenant("acme", "a"), tenant("globex", "b")];
        let strict = Identity::compile(&providers, &tenants).unwrap();
        let lenient = Identity::compile(&lenient, &tenants).unwrap();
        let acme = Peer::new(
            "192.0.2.1".parse().unwrap(),
            Some(PeerCertificate {
                san_uris: Vec::new(),
                san_dns: Vec::new(),
                common_name: Some("acme".into()),
                fingerprint: [0; 32],
                not_after: 0,
            }),
        );
        let (none, of_acme, of_globex) = (HeaderMap::new(), headers("x-api-key", "a"), headers("x-api-key", "b"));
        for (identity, headers, expected) in [
            (&strict, &none, Identified::Tenant(0)),
            (&strict, &of_acme, Identified::Tenant(0)),
            (&strict, &of_globex, Identified::Certificate(CertificateRefusal::OtherTenant)),
            (&lenient, &of_globex, Identified::Tenant(1)),
            (&lenient, &none, Identified::Certificate(CertificateRefusal::WithoutTenant)),
        ] {
            assert_eq!(identity.identify(headers, &acme), expected);
        }
        assert_eq!(strict.identify(&none, &nobody()), Identified::Tenant(1), "anonymous");
    }

    #[test]
    fn a_hash_that_two_tenants_share_is_refused() {
        let error = Identity::compile(&providers(), &[tenant("acme", "a"), tenant("globex", "a")]).err().unwrap();
        assert_eq!(error, "tenant globex: key k1 has the same hash as key k1 of tenant acme");
    }
}
