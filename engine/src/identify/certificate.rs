//! The tenant that a client certificate names.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use crate::identify::peer::{Peer, PeerCertificate};
use crate::policy::{Tenant, TenantFrom};

/// A pattern may not compile to more than this.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Why a request over a connection with a client certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateRefusal {
    /// Its validity has ended since the connection was made.
    Expired,
    /// It no longer verifies: revoked, or its CA was taken away, since the connection was made.
    NoLongerTrusted,
    /// None of its names is a tenant's.
    WithoutTenant,
    /// Its names are those of different tenants.
    SeveralTenants,
    /// It names a tenant that is not configured.
    UnknownTenant,
    /// Another credential of the same request is another tenant's.
    OtherTenant,
}

impl CertificateRefusal {
    pub const ALL: [CertificateRefusal; 6] = [
        CertificateRefusal::Expired,
        CertificateRefusal::NoLongerTrusted,
        CertificateRefusal::WithoutTenant,
        CertificateRefusal::SeveralTenants,
        CertificateRefusal::UnknownTenant,
        CertificateRefusal::OtherTenant,
    ];

    /// The `reason` of `gateway_unauthenticated_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            CertificateRefusal::Expired => "certificate_expired",
            CertificateRefusal::NoLongerTrusted => "certificate_no_longer_trusted",
            CertificateRefusal::WithoutTenant => "certificate_without_tenant",
            CertificateRefusal::SeveralTenants => "certificate_of_several_tenants",
            CertificateRefusal::UnknownTenant => "certificate_of_unknown_tenant",
            CertificateRefusal::OtherTenant => "certificate_of_other_tenant",
        }
    }

    /// What the client is told. It quotes nothing of the certificate.
    pub fn message(self) -> &'static str {
        match self {
            CertificateRefusal::Expired => "the client certificate has expired; connect again with a new one",
            CertificateRefusal::NoLongerTrusted => "the client certificate is no longer trusted; connect again",
            CertificateRefusal::WithoutTenant => "no name in the client certificate is a tenant's",
            CertificateRefusal::SeveralTenants => "the client certificate names more than one tenant",
            CertificateRefusal::UnknownTenant => "the client certificate names an unknown tenant",
            CertificateRefusal::OtherTenant => "the client certificate and the API key name different tenants",
        }
    }
}

/// One `mtls` identity provider: which names of a certificate are looked at, and what in them is the tenant.
#[derive(Debug)]
pub struct CertificateTenants {
    names: TenantFrom,
    /// Its one group is the tenant. Without a pattern the whole name is.
    pattern: Option<Regex>,
    tenants: HashMap<String, usize>,
}

impl CertificateTenants {
    /// The error says what is wrong with the pattern.
    pub fn compile(names: TenantFrom, pattern: Option<&str>, tenants: &[Tenant]) -> Result<CertificateTenants, String> {
        let pattern = match pattern {
            Some(pattern) => Some(compile_pattern(pattern)?),
            None if names == TenantFrom::SanUri => return Err("tenant_from: san_uri needs a pattern".to_owned()),
            None => None,
        };
        let tenants = tenants.iter().enumerate().map(|(index, tenant)| (tenant.id.clone(), index)).collect();
        Ok(CertificateTenants { names, pattern, tenants })
    }

    /// `Ok(None)`: there is no certificate to ask.
    pub fn tenant(&self, peer: &Peer) -> Result<Option<usize>, CertificateRefusal> {
        let Some(certificate) = &peer.certificate else { return Ok(None) };
        let mut named = self.names(certificate).iter().filter_map(|name| self.tenant_in(name));
        let id = named.next().ok_or(CertificateRefusal::WithoutTenant)?;
        // Whoever may be two tenants is neither: which one would depend on the order of names.
        if named.any(|other| other != id) {
            return Err(CertificateRefusal::SeveralTenants);
        }
        self.tenants.get(id).copied().map(Some).ok_or(CertificateRefusal::UnknownTenant)
    }

    fn names<'a>(&self, certificate: &'a PeerCertificate) -> &'a [String] {
        match self.names {
            TenantFrom::SanUri => &certificate.san_uris,
            TenantFrom::SanDns => &certificate.san_dns,
            TenantFrom::CommonName => certificate.common_name.as_slice(),
        }
    }

    fn tenant_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        match &self.pattern {
            None => Some(name),
            Some(pattern) => Some(pattern.captures(name)?.get(1)?.as_str()),
        }
    }
}

fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build().map_err(
            |error| {
                match error {
                    regex::Error::CompiledTooBig(limit) => {
                        format!("pattern: it is larger than {limit} bytes when compiled")
                    }
                    // The library draws the pattern with a mark under the place; the last line says what is wrong.
                    other => {
                        let reason = other.to_string().lines().last().unwrap_or_default().replace("error: ", "");
                        format!("pattern: {reason}; regexes are RE2, anchored at both ends")
                    }
                }
            },
        )
    };
    // By itself first: a pattern such as `a)|(b` would be whole again inside the anchors, and escape them.
    let groups = build(pattern)?.captures_len() - 1;
    if groups != 1 {
        return Err(format!(
            "pattern: it has {groups} groups; write exactly one ( ) around the tenant, and (?: ) for others"
        ));
    }
    build(&format!("^(?s:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(ids: &[&str]) -> Vec<Tenant> {
        let tenant = |id: &&str| Tenant { id: (*id).into(), disabled: false, api_keys: Vec::new(), policy: 0 };
        ids.iter().map(tenant).collect()
    }

    fn peer(uris: &[&str], dns: &[&str], common_name: Option<&str>) -> Peer {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = PeerCertificate {
            san_uris: owned(uris),
            san_dns: owned(dns),
            common_name: common_name.map(str::to_owned),
            fingerprint: [0; 32],
            not_after: 0,
        };
        Peer::new("192.0.2.1".parse().unwrap(), Some(certificate))
    }

    fn compile(names: TenantFrom, pattern: Option<&str>) -> Result<CertificateTenants, String> {
        CertificateTenants::compile(names, pattern, &tenants(&["acme", "globex"]))
    }

    #[test]
    fn the_pattern_must_match_the_whole_name() {
        let provider = compile(TenantFrom::SanUri, Some("spiffe://example.org/tenant/([^/]+)(?:/.*)?")).unwrap();
        for (uri, expected) in [
            ("spiffe://example.org/tenant/acme", Ok(Some(0))),
            ("spiffe://example.org/tenant/globex/ns/x", Ok(Some(1))),
            ("spiffe://example.org/tenant/initech", Err(CertificateRefusal::UnknownTenant)),
            ("spiffe://example.org/tenant/acme\0", Err(CertificateRefusal::UnknownTenant)),
            ("spiffe://example.org/tenant/ACME", Err(CertificateRefusal::UnknownTenant)),
            ("spiffe://example.org/tenant/", Err(CertificateRefusal::WithoutTenant)),
            ("spiffe://other.org/?spiffe://example.org/tenant/acme", Err(CertificateRefusal::WithoutTenant)),
            ("https://acme", Err(CertificateRefusal::WithoutTenant)),
        ] {
            assert_eq!(provider.tenant(&peer(&[uri], &["acme"], Some("acme"))), expected, "{uri}");
        }
    }

    #[test]
    fn an_alternative_is_anchored_like_the_whole() {
        let provider = compile(TenantFrom::CommonName, Some("a|(acme)")).unwrap();
        for (name, expected) in [
            ("acme", Ok(Some(0))),
            ("acme.evil.example", Err(CertificateRefusal::WithoutTenant)),
            ("acme\n", Err(CertificateRefusal::WithoutTenant)),
            ("a", Err(CertificateRefusal::WithoutTenant)),
        ] {
            assert_eq!(provider.tenant(&peer(&[], &[], Some(name))), expected, "{name:?}");
        }
    }

    #[test]
    fn without_a_pattern_the_whole_name_is_the_tenant() {
        let by_dns = compile(TenantFrom::SanDns, None).unwrap();
        let by_common_name = compile(TenantFrom::CommonName, None).unwrap();
        assert_eq!(by_dns.tenant(&peer(&[], &["globex"], Some("acme"))), Ok(Some(1)));
        assert_eq!(by_common_name.tenant(&peer(&[], &["globex"], Some("acme"))), Ok(Some(0)));
        assert_eq!(by_common_name.tenant(&peer(&[], &["acme"], None)), Err(CertificateRefusal::WithoutTenant));
    }

    #[test]
    fn a_certificate_of_two_tenants_is_neithers() {
        let provider = compile(TenantFrom::SanDns, Some(r"([^.]+)\.example")).unwrap();
        for (names, expected) in [
            (&["acme.example", "acme.example", "localhost"][..], Ok(Some(0))),
            (&["acme.example", "globex.example"], Err(CertificateRefusal::SeveralTenants)),
            (&["acme.example", "initech.example"], Err(CertificateRefusal::SeveralTenants)),
            (&["initech.example", "acme.example"], Err(CertificateRefusal::SeveralTenants)),
        ] {
            assert_eq!(provider.tenant(&peer(&[], names, None)), expected, "{names:?}");
        }
    }

    #[test]
    fn no_certificate_is_no_answer() {
        let provider = compile(TenantFrom::CommonName, None).unwrap();
        assert_eq!(provider.tenant(&Peer::new("192.0.2.1".parse().unwrap(), None)), Ok(None));
    }

    #[test]
    fn a_bad_pattern_is_refused_with_a_reason() {
        for (pattern, reason) in [
            (Some("a(b"), "pattern: unclosed group; regexes are RE2"),
            (Some("a)|(b"), "pattern: unopened group"),
            (Some("(?=a)(b)"), "look-around"),
            (Some("acme"), "pattern: it has 0 groups; write exactly one ( ) around the tenant"),
            (Some("(a)(b)"), "pattern: it has 2 groups"),
            (Some(r"(\w{1000}){1000}"), "larger than 1048576 bytes when compiled"),
            (None, "tenant_from: san_uri needs a pattern"),
        ] {
            let error = compile(TenantFrom::SanUri, pattern).unwrap_err();
            assert!(error.contains(reason), "{pattern:?}: {error}");
        }
    }
}
