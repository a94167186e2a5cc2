//! Every form of a credential, and what becomes of several.

use super::*;
use crate::identify::peer::PeerCertificate;
use crate::otlp::Signal;
use crate::policy::{ApiKey, TenantFrom};
use base64::Engine as _;
use sha2::{Digest, Sha256};

fn tenant(id: &str, key: &str) -> Tenant {
    let sha256 = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = ApiKey { id: "k1".into(), sha256, signals: None, expires_at: None };
    Tenant { id: id.into(), disabled: false, api_keys: vec![key], policy: 0 }
}

fn providers() -> Vec<IdentityProvider> {
    let api_key = |header: &str, scheme: Option<&str>| IdentityProvider::ApiKey {
        header: header.into(),
        scheme: scheme.map(str::to_owned),
    };
    vec![api_key("authorization", Some("Bearer")), api_key("authorization", Some("Basic")), api_key("x-api-key", None)]
}

fn nobody() -> Peer {
    Peer::new("192.0.2.1".parse().unwrap(), None)
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

fn sender(tenant: usize) -> Result<Sender, IdentityRefusal> {
    Ok(Sender { tenant, signals: Signals::ALL })
}

/// Of requests whose tokens, if any, are judged.
fn judged(identity: &Identity, headers: &HeaderMap, peer: &Peer, tokens: &Tokens) -> Result<Sender, IdentityRefusal> {
    match identity.identify(headers, peer, tokens) {
        Identified::Sender(sender) => Ok(sender),
        Identified::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn who(identity: &Identity, headers: &HeaderMap, peer: &Peer) -> Result<Sender, IdentityRefusal> {
    judged(identity, headers, peer, &Tokens::new().unwrap())
}

#[test]
fn every_form_of_a_key_finds_its_tenant_and_nothing_else_does() {
    let identity =
        Identity::compile(&providers(), &[tenant("acme", "secret-a"), tenant("globex", "secret-b")]).unwrap();
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    for (name, value, expected) in [
        ("authorization", "Bearer secret-a".to_owned(), sender(0)),
        ("authorization", "bearer secret-b".to_owned(), sender(1)),
        ("authorization", basic("acme:secret-a"), sender(0)),
        ("authorization", basic("k1:secret-b"), sender(1)),
        ("authorization", basic("globex:secret-a"), Err(IdentityRefusal::UnknownCredential)),
        ("authorization", "Basic !!!".to_owned(), Err(IdentityRefusal::UnknownCredential)),
        ("authorization", "secret-a".to_owned(), Err(IdentityRefusal::UnknownCredential)),
        ("authorization", "Bearer secret-c".to_owned(), Err(IdentityRefusal::UnknownCredential)),
        ("authorization", "Bearer".to_owned(), Err(IdentityRefusal::UnknownCredential)),
        ("x-api-key", "secret-a".to_owned(), sender(0)),
        ("x-api-key", "".to_owned(), Err(IdentityRefusal::UnknownCredential)),
        ("x-scope-orgid", "acme".to_owned(), Err(IdentityRefusal::NoCredential)),
    ] {
        assert_eq!(who(&identity, &headers(name, &value), &nobody()), expected, "{name}: {value}");
    }
}

#[test]
fn only_the_silent_are_anonymous() {
    let mut providers = providers();
    providers.push(IdentityProvider::Anonymous { tenant: "acme".into() });
    let identity = Identity::compile(&providers, &[tenant("acme", "a")]).unwrap();
    assert_eq!(who(&identity, &HeaderMap::new(), &nobody()), sender(0));
    assert_eq!(who(&identity, &headers("x-api-key", "wrong"), &nobody()), Err(IdentityRefusal::UnknownCredential));
}

#[test]
fn a_certificate_and_a_key_must_name_the_same_tenant() {
    let by_common_name = IdentityProvider::Mtls { tenant_from: TenantFrom::CommonName, pattern: None };
    let everybody = IdentityProvider::Anonymous { tenant: "globex".into() };
    let providers = [vec![by_common_name], providers(), vec![everybody]].concat();
    let patterned = IdentityProvider::Mtls { tenant_from: TenantFrom::CommonName, pattern: Some("host-(.*)".into()) };
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
        (&strict, &none, sender(0)),
        (&strict, &of_acme, sender(0)),
        (&strict, &of_globex, Err(IdentityRefusal::Certificate(CertificateRefusal::OtherTenant))),
        (&lenient, &of_globex, sender(1)),
        (&lenient, &none, Err(IdentityRefusal::Certificate(CertificateRefusal::WithoutTenant))),
    ] {
        assert_eq!(who(identity, headers, &acme), expected);
    }
    assert_eq!(who(&strict, &none, &nobody()), sender(1), "anonymous");
}

#[test]
fn a_hash_that_two_tenants_share_is_refused() {
    let error = Identity::compile(&providers(), &[tenant("acme", "a"), tenant("globex", "a")]).err().unwrap();
    assert_eq!(error, "tenant globex: key k1 has the same hash as key k1 of tenant acme");
}

#[test]
fn a_key_may_end_and_may_be_for_some_signals() {
    let mut keyed = tenant("acme", "a");
    keyed.api_keys[0].signals = Some(vec!["traces".into(), "logs".into()]);
    let mut over = tenant("globex", "b");
    over.api_keys[0].expires_at = Some(1.0);
    let mut later = tenant("initech", "c");
    later.api_keys[0].expires_at = Some(unix_now() + 3600.0);
    let identity = Identity::compile(&providers(), &[keyed, over, later]).unwrap();
    let traces_and_logs = Signals::of([Signal::Traces, Signal::Logs]);
    let key = |key| who(&identity, &headers("x-api-key", key), &nobody());
    assert_eq!(key("a"), Ok(Sender { tenant: 0, signals: traces_and_logs }));
    assert!(!traces_and_logs.contain(Signal::Metrics));
    assert_eq!(key("b"), Err(IdentityRefusal::ExpiredKey));
    assert_eq!(key("c"), sender(2));
    let mut used = identity.newly_used_keys();
    used.sort();
    assert_eq!(used, [("acme".into(), "k1".into()), ("initech".into(), "k1".into())]);
    assert_eq!(identity.newly_used_keys(), []);
}

#[test]
fn two_keys_of_different_tenants_are_a_refusal() {
    let identity = Identity::compile(&providers(), &[tenant("acme", "a"), tenant("globex", "b")]).unwrap();
    for (second, expected) in [
        ("a", sender(0)),
        ("b", Err(IdentityRefusal::ConflictingCredentials)),
        // What nobody knows is let pass beside what somebody does.
        ("c", sender(0)),
    ] {
        let mut both = headers("authorization", "Bearer a");
        both.insert("x-api-key", HeaderValue::from_str(second).unwrap());
        assert_eq!(who(&identity, &both, &nobody()), expected, "{second}");
    }
}

const TOKEN: &str = "Bearer eyJh.eyJi.c2ln";

fn with_tokens() -> Identity {
    let token = IdentityProvider::Token { header: "authorization".into(), scheme: Some("Bearer".into()) };
    let providers = [providers(), vec![token]].concat();
    Identity::compile(&providers, &[tenant("acme", "a"), tenant("globex", "b")]).unwrap()
}

#[test]
fn a_token_is_asked_about_and_then_known() {
    let (identity, tokens) = (with_tokens(), Tokens::new().unwrap());
    let shown = headers("authorization", TOKEN);
    assert!(matches!(identity.identify(&shown, &nobody(), &tokens), Identified::Asked(_)));
    let signals = Signals::of([Signal::Logs]);
    let verdict = Verdict::Believed { tenant: "globex".into(), signals };
    tokens.answer(tokens.drain()[0].id, &verdict, Duration::from_secs(60));
    assert_eq!(judged(&identity, &shown, &nobody(), &tokens), Ok(Sender { tenant: 1, signals }));
    let mut both = shown.clone();
    for (key, expected) in
        [("a", Err(IdentityRefusal::ConflictingCredentials)), ("b", Ok(Sender { tenant: 1, signals }))]
    {
        both.insert("x-api-key", HeaderValue::from_str(key).unwrap());
        assert_eq!(judged(&identity, &both, &nobody(), &tokens), expected, "{key}");
    }
}

#[test]
fn a_token_may_be_refused_or_name_nobody() {
    for (verdict, expected) in [
        (Verdict::Refused, IdentityRefusal::RefusedToken),
        (Verdict::Believed { tenant: "initech".into(), signals: Signals::ALL }, IdentityRefusal::UnknownTenant),
    ] {
        let (identity, tokens) = (with_tokens(), Tokens::new().unwrap());
        let shown = headers("authorization", TOKEN);
        drop(identity.identify(&shown, &nobody(), &tokens));
        tokens.answer(tokens.drain()[0].id, &verdict, Duration::from_secs(60));
        assert_eq!(judged(&identity, &shown, &nobody(), &tokens), Err(expected));
    }
}

#[test]
fn a_key_is_no_question() {
    let (identity, tokens) = (with_tokens(), Tokens::new().unwrap());
    for (value, expected) in [("Bearer a", sender(0)), ("Bearer x", Err(IdentityRefusal::UnknownCredential))] {
        assert_eq!(judged(&identity, &headers("authorization", value), &nobody(), &tokens), expected);
    }
    assert!(tokens.drain().is_empty());
}

#[test]
fn a_header_is_believed_of_trusted_peers_alone() {
    let trusted = IdentityProvider::TrustedHeader {
        header: "x-scope-orgid".into(),
        networks: vec!["192.0.2.0/30".into()],
        certificates: Vec::new(),
    };
    let tenants = [tenant("acme", "a"), tenant("globex", "b")];
    let identity = Identity::compile(&[vec![trusted], providers()].concat(), &tenants).unwrap();
    let stranger = Peer::new("198.51.100.1".parse().unwrap(), None);
    let shown = headers("x-scope-orgid", "globex");
    assert_eq!(who(&identity, &shown, &nobody()), sender(1));
    assert_eq!(who(&identity, &shown, &stranger), Err(IdentityRefusal::NoCredential));
    let unknown = headers("x-scope-orgid", "initech");
    assert_eq!(who(&identity, &unknown, &nobody()), Err(IdentityRefusal::UnknownTenant));
    let mut both = shown.clone();
    both.insert("x-api-key", HeaderValue::from_static("a"));
    assert_eq!(who(&identity, &both, &nobody()), Err(IdentityRefusal::ConflictingCredentials));
    assert_eq!(who(&identity, &both, &stranger), sender(0));
}
