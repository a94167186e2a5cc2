//! Who is sending: what a connection and its request's headers show becomes a tenant.
//!
//! The providers are tried in order, and all of them are: two credentials of different tenants are a refusal, whichever comes
//! first. What no provider knows is let pass if another credential says who it is.

pub mod certificate;
mod keys;
pub mod peer;
pub mod refusal;
pub mod tokens;
mod trusted;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use crate::policy::{IdentityProvider, Tenant};
use certificate::{CertificateRefusal, CertificateTenants};
use keys::{Hashed, Keys, Scheme};
use peer::Peer;
use refusal::IdentityRefusal;
use tokens::{Judged, Signals, Tokens, Verdict};
use trusted::TrustedPeers;

/// A tenant, and what the credential that named it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Index into the generation's tenants.
    pub tenant: usize,
    pub signals: Signals,
}

/// What is known of the sender.
#[derive(Debug)]
pub enum Identified {
    Sender(Sender),
    Refused(IdentityRefusal),
    /// A token that nobody has judged yet: ask again when its verdict is there.
    Asked(oneshot::Receiver<Verdict>),
    /// A token that nobody can judge now.
    Unavailable {
        retry_after: Duration,
    },
}

/// What stands in a header.
enum Credential {
    Key(Scheme),
    Token(Scheme),
    /// The tenant's name, if the peer's word is taken.
    TenantName(TrustedPeers),
}

struct HeaderProvider {
    header: HeaderName,
    credential: Credential,
}

/// The identity table of one policy generation.
#[derive(Default)]
pub struct Identity {
    certificates: Vec<CertificateTenants>,
    headers: Vec<HeaderProvider>,
    keys: Keys,
    tenants: HashMap<String, usize>,
    anonymous: Option<usize>,
}

/// What one header value says.
enum Said {
    /// Nothing to this provider.
    Nothing,
    Sender(Sender),
    Refused(IdentityRefusal),
    Asked(oneshot::Receiver<Verdict>),
    Unavailable(Duration),
}

impl Identity {
    /// A table in which nobody stands.
    pub fn nobody() -> Identity {
        Identity::default()
    }

    /// Compiles providers and keys. The error names what is wrong without showing a key.
    pub fn compile(providers: &[IdentityProvider], tenants: &[Tenant]) -> Result<Identity, String> {
        let mut identity = Identity { keys: Keys::compile(tenants)?, ..Identity::default() };
        identity.tenants.extend(tenants.iter().enumerate().map(|(index, tenant)| (tenant.id.clone(), index)));
        for (index, provider) in providers.iter().enumerate() {
            let (header, credential) = match provider {
                IdentityProvider::Mtls { tenant_from, pattern } => {
                    let certificates = CertificateTenants::compile(*tenant_from, pattern.as_deref(), tenants)
                        .map_err(|error| format!("identity[{index}].mtls.{error}"))?;
                    identity.certificates.push(certificates);
                    continue;
                }
                IdentityProvider::Anonymous { tenant } => {
                    let known = identity.tenants.get(tenant);
                    let known =
                        known.ok_or_else(|| format!("identity: the anonymous tenant {tenant:?} does not exist"))?;
                    identity.anonymous = Some(*known);
                    continue;
                }
                IdentityProvider::ApiKey { header, scheme } => {
                    (header, Credential::Key(Scheme::parse(scheme.as_deref())))
                }
                IdentityProvider::Token { header, scheme } => {
                    (header, Credential::Token(Scheme::parse(scheme.as_deref())))
                }
                IdentityProvider::TrustedHeader { header, networks, certificates } => {
                    let peers = TrustedPeers::compile(networks, certificates)
                        .map_err(|error| format!("identity[{index}].trusted_header: {error}"))?;
                    (header, Credential::TenantName(peers))
                }
            };
            let header = HeaderName::try_from(header.as_str())
                .map_err(|_| format!("identity[{index}]: {header:?} is not a header name"))?;
            identity.headers.push(HeaderProvider { header, credential });
        }
        Ok(identity)
    }

    /// Tries the providers in order. A credential that is shown and unknown is never anonymous.
    pub fn identify(&self, headers: &HeaderMap, peer: &Peer, tokens: &Tokens) -> Identified {
        let by_certificate = match self.by_certificate(peer) {
            Ok(tenant) => tenant,
            Err(refusal) => return Identified::Refused(IdentityRefusal::Certificate(refusal)),
        };
        let mut found = by_certificate.map(|tenant| Sender { tenant, signals: Signals::ALL });
        let mut refused: Option<IdentityRefusal> = None;
        let mut recognised: Option<&HeaderValue> = None;
        let mut hashed = Hashed::default();
        for provider in &self.headers {
            for value in headers.get_all(&provider.header) {
                // A key need not be looked for among tokens.
                if recognised.is_some_and(|recognised| std::ptr::eq(recognised, value)) {
                    continue;
                }
                let sender = match self.ask(&provider.credential, value, &mut hashed, peer, tokens) {
                    Said::Nothing => continue,
                    Said::Asked(verdict) => return Identified::Asked(verdict),
                    Said::Unavailable(retry_after) => return Identified::Unavailable { retry_after },
                    Said::Refused(why) => {
                        // What a provider has a reason to refuse says more than that another does not know it.
                        if matches!(refused, None | Some(IdentityRefusal::UnknownCredential)) {
                            refused = Some(why);
                        }
                        continue;
                    }
                    Said::Sender(sender) => sender,
                };
                recognised = Some(value);
                found = match found {
                    None => Some(sender),
                    Some(known) if known.tenant == sender.tenant => {
                        Some(Sender { signals: known.signals.and(sender.signals), ..known })
                    }
                    Some(_) if by_certificate.is_some() => {
                        return Identified::Refused(IdentityRefusal::Certificate(CertificateRefusal::OtherTenant))
                    }
                    Some(_) => return Identified::Refused(IdentityRefusal::ConflictingCredentials),
                };
            }
        }
        if let Some(sender) = found {
            return Identified::Sender(sender);
        }
        Identified::Refused(match (refused, self.anonymous) {
            (Some(why), _) => why,
            _ if peer.certificate.is_some() && !self.certificates.is_empty() => {
                IdentityRefusal::Certificate(CertificateRefusal::WithoutTenant)
            }
            (None, Some(tenant)) => return Identified::Sender(Sender { tenant, signals: Signals::ALL }),
            (None, None) => IdentityRefusal::NoCredential,
        })
    }

    fn ask<'v>(
        &self,
        credential: &Credential,
        value: &'v HeaderValue,
        hashed: &mut Hashed<'v>,
        peer: &Peer,
        tokens: &Tokens,
    ) -> Said {
        let value = value.as_bytes().trim_ascii();
        match credential {
            Credential::Key(scheme) => match self.keys.look_up(scheme, value, hashed) {
                None => Said::Refused(IdentityRefusal::UnknownCredential),
                Some(key) if key.has_expired(unix_now) => Said::Refused(IdentityRefusal::ExpiredKey),
                Some(key) => {
                    key.has_been_used();
                    Said::Sender(Sender { tenant: key.tenant, signals: key.signals })
                }
            },
            Credential::Token(scheme) => {
                let Some(token) = scheme.strip(value) else {
                    return Said::Refused(IdentityRefusal::UnknownCredential);
                };
                match tokens.judge(token, hashed.of(token), peer.address) {
                    Judged::No => Said::Refused(IdentityRefusal::UnknownCredential),
                    Judged::Later(verdict) => Said::Asked(verdict),
                    Judged::Now(Verdict::Unavailable { retry_after }) => Said::Unavailable(retry_after),
                    Judged::Now(Verdict::Refused) => Said::Refused(IdentityRefusal::RefusedToken),
                    Judged::Now(Verdict::Believed { tenant, signals }) => self.named(&tenant, signals),
                }
            }
            // Anybody else may send such a header, to backends that read it; here it means nothing.
            Credential::TenantName(peers) if !peers.include(peer) => Said::Nothing,
            Credential::TenantName(_) => match std::str::from_utf8(value) {
                Ok(name) => self.named(name, Signals::ALL),
                Err(_) => Said::Refused(IdentityRefusal::UnknownTenant),
            },
        }
    }

    fn named(&self, tenant: &str, signals: Signals) -> Said {
        match self.tenants.get(tenant) {
            Some(&tenant) => Said::Sender(Sender { tenant, signals }),
            None => Said::Refused(IdentityRefusal::UnknownTenant),
        }
    }

    /// Tenant and id of each key that was used for the first time since the last call.
    pub fn newly_used_keys(&self) -> Vec<(String, String)> {
        self.keys.newly_used()
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
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
