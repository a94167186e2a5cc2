//! How long a span takes to be validated, masked and sampled: 512 typical spans, 10 attributes, an e-mail in one.

use _engine::mask::{check_and_mask, Masker};
use _engine::otlp::edit::EditList;
use _engine::otlp::wire::{put_bytes_field, put_fixed64_field, put_message_field, put_varint_field};
use _engine::otlp::Signal;
use _engine::policy::{Find, Mask, MaskAction, MaskBudget, MaskRule, Sample};
use _engine::sample::{sample, RatioSampler};
use criterion::{criterion_group, criterion_main, Criterion, Throughput};

const SPANS: u64 = 512;

fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    put_message_field(out, number, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message_field(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

fn request(e_mail: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_message_field(&mut out, 1, |out| {
        put_message_field(out, 1, |out| {
            for index in 0..8 {
                attribute(out, 1, &format!("resource.attribute.{index}"), "checkout-service-7f9c");
            }
        });
        put_message_field(out, 2, |out| {
            for index in 0..SPANS {
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

const DEFAULT_DETECTORS: [&str; 19] = [
    "email", "credit_card", "iban", "us_ssn", "phone", "ipv4", "ipv6", "mac", "jwt", "authorization", "private_key",
    "aws_key", "gcp_key", "azure_key", "github_token", "slack_token", "stripe_key", "url_password", "secret_token",
];

fn masker(detectors: &[&str]) -> Masker {
    let keys = ["password", "authorization", "*token*", "*secret*", "http.request.header.*"].map(String::from).to_vec();
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
    let mut group = criterion.benchmark_group("spans");
    group.throughput(Throughput::Elements(SPANS)).sample_size(30);
    let dirty = request("bob.smith@example.com");
    let clean = request("user-1234");
    let mut edits = EditList::default();
    for (name, request, masker) in [
        ("validate", &dirty, None),
        ("mask, clean", &clean, Some(&two)),
        ("mask, an e-mail each", &dirty, Some(&two)),
        ("mask with all detectors, clean", &clean, Some(&all)),
        ("mask with all detectors, an e-mail each", &dirty, Some(&all)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                edits.clear();
                check_and_mask(Signal::Traces, request, masker, None, &mut edits, None).expect("valid");
                edits.apply(request).len()
            });
        });
    }
    let half = RatioSampler::compile(&Sample { ratio: 0.5 }).expect("valid");
    group.bench_function("sample half", |bencher| {
        bencher.iter(|| {
            edits.clear();
            sample(&dirty, &half, &mut edits).expect("valid");
            edits.apply(&dirty).len()
        });
    });
    group.finish();
}

criterion_group!(benches, masking);
criterion_main!(benches);
