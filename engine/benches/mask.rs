//! How long items take to be validated, masked and sampled, in requests of 512, by the default rules and by others: typical
//! spans with an e-mail in one of ten attributes, and log records with an e-mail and a card number in the body, as
//! `gateway send` makes them; and what takes as long as nothing is found in them.
//!
//! `cargo bench -p engine --bench mask -- logs` prints the log records a second of one core.

use _engine::mask::{check_and_mask, Masker};
use _engine::otlp::edit::EditList;
use _engine::otlp::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_varint_field};
use _engine::otlp::Signal;
use _engine::policy::{Find, Mask, MaskAction, MaskBudget, MaskRule, Sample};
use _engine::sample::{sample, RatioSampler};
use criterion::{criterion_group, criterion_main, Criterion, Throughput};

const ITEMS: u64 = 512;

fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message_field(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

fn traces(e_mail: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| {
        put_message_field(out, 1, |out| {
            for index in 0..8 {
                attribute(out, 1, &format!("resource.attribute.{index}"), "checkout-service-7f9c");
            }
        });
        put_message_field(out, 2, |out| {
            for index in 0..ITEMS {
                put_message_field(out, 2, |out| {
                    let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                    put_bytes_field(out, 1, &[id, id].concat());
                    put_bytes_field(out, 2, &id);
                    put_bytes_field(out, 4, &id);
                    put_bytes_field(out, 5, b"POST /api/v1/checkout");
                    put_varint_field(out, 6, 2);
                    put_fixed64_field(out, 7, 1_700_000_000_000_000_000);
                    put_fixed64_field(out, 8, 1_700_000_000_100_000_000);
                    attribute(out, 9, "http.request.method", "POST");
                    attribute(out, 9, "url.full", "https://shop.example.com/api/v1/checkout?cart=81723&step=2");
                    attribute(out, 9, "http.route", "/api/v1/checkout");
                    attribute(out, 9, "server.address", "shop.example.com");
                    attribute(
                        out,
                        9,
                        "user_agent.original",
                        "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0",
                    );
                    attribute(out, 9, "network.peer.address", "10.42.7.19");
                    attribute(out, 9, "enduser.id", e_mail);
                    attribute(out, 9, "session.id", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
                    attribute(out, 9, "thread.name", "worker-12");
                    put_message_field(out, 9, |out| {
                        put_bytes_field(out, 1, b"http.response.status_code");
                        put_message_field(out, 2, |out| put_varint_field(out, 3, 200));
                    });
                });
            }
        });
    });
    out
}

/// The body is one line: `who` did it.
fn logs(who: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| {
        put_message_field(out, 1, |out| {
            for (key, value) in RESOURCE {
                attribute(out, 1, key, value);
            }
        });
        put_message_field(out, 2, |out| {
            for index in 0..ITEMS {
                put_message_field(out, 2, |out| {
                    put_fixed64_field(out, 1, 1_700_000_000_000_000_000 + index);
                    put_varint_field(out, 2, 9);
                    put_bytes_field(out, 3, b"INFO");
                    put_message_field(out, 5, |out| {
                        put_bytes_field(out, 1, format!("order {index} {who}, took 12 ms").as_bytes());
                    });
                    attribute(out, 6, "http.route", "/api/checkout");
                    attribute(out, 6, "logger", "shop.payment");
                    put_message_field(out, 6, |out| {
                        put_bytes_field(out, 1, b"thread");
                        put_message_field(out, 2, |out| put_varint_field(out, 3, index % 8));
                    });
                    put_fixed64_field(out, 11, 1_700_000_000_000_000_000 + index);
                });
            }
        });
    });
    out
}

const RESOURCE: [(&str, &str); 8] = [
    ("service.name", "checkout"),
    ("service.namespace", "shop"),
    ("service.instance.id", "checkout-7d9f-1"),
    ("service.version", "1.42.0"),
    ("deployment.environment.name", "production"),
    ("cloud.region", "eu-central-1"),
    ("host.name", "node-17"),
    ("k8s.pod.name", "checkout-7d9f8c6b5-x2x4z"),
];

/// `SENSITIVE_KEYS` of gateway/policy/masking.py.
#[rustfmt::skip]
const DEFAULT_KEYS: [&str; 41] = [
    "*password", "*passwd", "*passphrase", "pwd", "*.pwd", "*_pwd",
    "*secret", "*secret_key", "*secret-key", "*secretkey", "*credential", "*credentials",
    "*token", "jwt", "*api_key", "*api-key", "*apikey", "*access_key", "*access-key", "*accesskey",
    "*private_key", "*private-key", "*privatekey", "*signing_key", "*encryption_key",
    "*authorization", "*cookie", "*cookies", "jsessionid", "phpsessid", "otp", "*_otp",
    "ssn", "card_number", "*.card_number", "credit_card", "*.credit_card", "cvv", "cvc", "iban", "*.iban",
];

/// `DEFAULT_DETECTORS` of gateway/config/masking.py.
const DEFAULT_DETECTORS: [&str; 19] = [
    "email",
    "credit_card",
    "iban",
    "us_ssn",
    "phone",
    "ipv4",
    "ipv6",
    "mac",
    "jwt",
    "authorization",
    "private_key",
    "aws_key",
    "gcp_key",
    "azure_key",
    "github_token",
    "slack_token",
    "stripe_key",
    "url_password",
    "secret_token",
];

fn masker(detectors: &[&str]) -> Masker {
    let keys = DEFAULT_KEYS.map(String::from).to_vec();
    let detectors = detectors.iter().map(|name| name.to_string()).collect();
    let rule = |name: &str, find| MaskRule { name: name.to_owned(), find, action: MaskAction::Redact };
    let mask = Mask {
        rules: vec![rule("keys", Find::Keys(keys)), rule("detectors", Find::Detectors(detectors))],
        allow_keys: Vec::new(),
        allow_services: Vec::new(),
        budget: MaskBudget::default(),
        dry_run: false,
        pseudonym_key: None,
    };
    Masker::compile(&mask).expect("valid")
}

fn masking(criterion: &mut Criterion) {
    let two = masker(&["email", "credit_card"]);
    let all = masker(&DEFAULT_DETECTORS);
    let dirty = traces("bob.smith@example.com");
    let clean = traces("user-1234");
    bench(
        criterion,
        Signal::Traces,
        "spans",
        &[
            ("validate", &dirty, None),
            ("mask, clean", &clean, Some(&two)),
            ("mask, an e-mail each", &dirty, Some(&two)),
            ("mask by default, clean", &clean, Some(&all)),
            ("mask by default, an e-mail each", &dirty, Some(&all)),
        ],
    );
    let dirty = logs("of jane.doe@customer.example.com paid with card 4111 1111 1111 1111");
    let clean = logs("of user-20481 paid by invoice");
    bench(
        criterion,
        Signal::Logs,
        "logs",
        &[
            ("validate", &dirty, None),
            ("mask by default, clean", &clean, Some(&all)),
            ("mask by default, an e-mail and a card each", &dirty, Some(&all)),
        ],
    );
}

type Case<'c> = (&'static str, &'c [u8], Option<&'c Masker>);

fn bench(criterion: &mut Criterion, signal: Signal, name: &str, cases: &[Case<'_>]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ITEMS)).sample_size(30);
    let mut edits = EditList::default();
    for &(name, request, masker) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                edits.clear();
                check_and_mask(signal, request, masker, None, &mut edits, None).expect("valid");
                edits.apply(request).len()
            });
        });
    }
    group.finish();
}

fn sampling(criterion: &mut Criterion) {
    let half = RatioSampler::compile(&Sample { ratio: 0.5 }).expect("valid");
    let request = traces("user-1234");
    let mut edits = EditList::default();
    let mut group = criterion.benchmark_group("spans");
    group.throughput(Throughput::Elements(ITEMS)).sample_size(30);
    group.bench_function("sample half", |bencher| {
        bencher.iter(|| {
            edits.clear();
            sample(&request, &half, &mut edits).expect("valid");
            edits.apply(&request).len()
        });
    });
    group.finish();
}

criterion_group!(benches, masking, sampling);
criterion_main!(benches);
