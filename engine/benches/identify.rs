//! What it costs to know who a request is from: an API key, and a token whose verdict is kept, among ten thousand of each.

use std::time::Duration;

use _engine::identify::peer::Peer;
use _engine::identify::tokens::{Judged, Signals, Tokens, Verdict};
use _engine::identify::Identity;
use _engine::policy::{ApiKey, IdentityProvider, Rate, Tenant, TokenLimits};
use criterion::{criterion_group, criterion_main, Criterion};
use http::header::{HeaderMap, HeaderValue, AUTHORIZATION};
use sha2::{Digest, Sha256};

const TENANTS: usize = 10_000;

fn tenant(number: usize) -> Tenant {
    let sha256 = Sha256::digest(format!("key-{number}")).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = ApiKey { id: "k1".into(), sha256, signals: None, expires_at: None };
    Tenant { id: format!("t{number}"), disabled: false, api_keys: vec![key], policy: 0 }
}

/// As long as those of common issuers.
fn token(number: usize) -> String {
    format!("eyJ{}.eyJ{number:0>600}.{}", "a".repeat(80), "s".repeat(342))
}

fn identifying(criterion: &mut Criterion) {
    let authorization = || "authorization".to_owned();
    let providers = [
        IdentityProvider::ApiKey { header: authorization(), scheme: Some("Bearer".into()) },
        IdentityProvider::Token { header: authorization(), scheme: Some("Bearer".into()) },
    ];
    let tenants: Vec<_> = (0..TENANTS).map(tenant).collect();
    let identity = Identity::compile(&providers, &tenants).expect("valid");
    let tokens = Tokens::new().expect("an eventfd");
    let fast = Rate { per_second: 1e9, burst: 1e9 };
    tokens.configure(TokenLimits { questions: fast, questions_per_address: fast, ..TokenLimits::default() });
    let peer = Peer::new("127.0.0.1".parse().expect("an address"), None);
    for number in 0..TENANTS {
        let (token, hash) = (token(number), Sha256::digest(token(number)).into());
        let Judged::Later(_waiting) = tokens.judge(token.as_bytes(), hash, peer.address) else { continue };
        for question in tokens.drain() {
            let verdict = Verdict::Believed { tenant: format!("t{number}").into(), signals: Signals::ALL };
            tokens.answer(question.id, &verdict, Duration::from_secs(3600));
        }
    }
    let mut group = criterion.benchmark_group("identify");
    for (name, credential) in [("key", "key-4711".to_owned()), ("kept token of 1 KiB", token(4711))] {
        let value = HeaderValue::try_from(format!("Bearer {credential}")).expect("a header");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        group.bench_function(name, |bencher| bencher.iter(|| identity.identify(&headers, &peer, &tokens)));
    }
    group.finish();
}

criterion_group!(benches, identifying);
criterion_main!(benches);
