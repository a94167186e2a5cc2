//! Why a request is nobody's.

use super::certificate::CertificateRefusal;

/// Why a request is refused as UNAUTHENTICATED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdentityRefusal {
    /// Nothing was shown and nobody is anonymous.
    NoCredential,
    /// Something was shown that is nobody's.
    UnknownCredential,
    /// A key whose time is over.
    ExpiredKey,
    /// The identity provider does not believe the token.
    RefusedToken,
    /// A token, or a trusted gateway, names a tenant that is not configured.
    UnknownTenant,
    /// Two credentials of one request are those of different tenants.
    ConflictingCredentials,
    Certificate(CertificateRefusal),
}

const OF_CREDENTIALS: [IdentityRefusal; 6] = [
    IdentityRefusal::NoCredential,
    IdentityRefusal::UnknownCredential,
    IdentityRefusal::ExpiredKey,
    IdentityRefusal::RefusedToken,
    IdentityRefusal::UnknownTenant,
    IdentityRefusal::ConflictingCredentials,
];

impl IdentityRefusal {
    pub const COUNT: usize = OF_CREDENTIALS.len() + CertificateRefusal::ALL.len();

    /// In the order of [`IdentityRefusal::index`].
    pub fn all() -> impl Iterator<Item = IdentityRefusal> {
        OF_CREDENTIALS.into_iter().chain(CertificateRefusal::ALL.map(IdentityRefusal::Certificate))
    }

    pub fn index(self) -> usize {
        match self {
            IdentityRefusal::NoCredential => 0,
            IdentityRefusal::UnknownCredential => 1,
            IdentityRefusal::ExpiredKey => 2,
            IdentityRefusal::RefusedToken => 3,
            IdentityRefusal::UnknownTenant => 4,
            IdentityRefusal::ConflictingCredentials => 5,
            IdentityRefusal::Certificate(refusal) => OF_CREDENTIALS.len() + refusal as usize,
        }
    }

    /// The `reason` of `gateway_unauthenticated_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            IdentityRefusal::NoCredential => "no_credential",
            IdentityRefusal::UnknownCredential => "unknown_credential",
            IdentityRefusal::ExpiredKey => "expired_key",
            IdentityRefusal::RefusedToken => "refused_token",
            IdentityRefusal::UnknownTenant => "unknown_tenant",
            IdentityRefusal::ConflictingCredentials => "conflicting_credentials",
            IdentityRefusal::Certificate(refusal) => refusal.reason(),
        }
    }

    /// What the client is told. It quotes nothing of what was shown.
    pub fn message(self) -> &'static str {
        match self {
            IdentityRefusal::NoCredential => "no credential; send an API key, a token or a client certificate",
            IdentityRefusal::UnknownCredential => "the credential is unknown",
            IdentityRefusal::ExpiredKey => "the API key has expired",
            IdentityRefusal::RefusedToken => "the token is not believed: it has expired, or is not for this gateway",
            IdentityRefusal::UnknownTenant => "the credential names a tenant that does not exist here",
            IdentityRefusal::ConflictingCredentials => "the request's credentials are those of different tenants",
            IdentityRefusal::Certificate(refusal) => refusal.message(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_place_and_a_reason_of_its_own() {
        let all: Vec<_> = IdentityRefusal::all().collect();
        assert_eq!(all.len(), IdentityRefusal::COUNT);
        let mut reasons: Vec<_> = all.iter().map(|refusal| refusal.reason()).collect();
        for (index, refusal) in all.iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal:?}");
        }
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), all.len());
    }
}
