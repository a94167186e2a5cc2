//! What the series budget costs a point: encoding without one, and with one while all series are known, folded, rejected.
//! And what shards cost: of one nothing is dealt.

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use _engine::admit::series::{Now, SeriesBudget};
use _engine::encode::remote_write::RemoteWriteEncoder;
use _engine::encode::split::{deal, Format};
use _engine::policy::SeriesQuota;
use _engine::relabel::Rules;

const POINTS: u64 = 512;

fn text(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::StringValue(value)) }), ..Default::default() }
}

/// 512 points of 16 counters, five attributes each.
fn request(is_monotonic: bool) -> Vec<u8> {
    let metrics = (0..16).map(|metric| {
        let data_points = (0..POINTS / 16).map(|point| NumberDataPoint {
            attributes: vec![
                text("http.request.method", "GET".into()),
                text("http.route", format!("/orders/{point}")),
                text("http.response.status_code", "200".into()),
                text("server.address", "shop.example.com".into()),
                text("url.scheme", "https".into()),
            ],
            start_time_unix_nano: 1_700_000_000_000_000_000,
            time_unix_nano: 1_700_000_100_000_000_000,
            value: Some(Number::AsInt(point as i64)),
            ..Default::default()
        });
        let sum = Sum { data_points: data_points.collect(), aggregation_temporality: 2, is_monotonic };
        Metric { name: format!("http.requests.{metric}"), data: Some(Data::Sum(sum)), ..Default::default() }
    });
    let attributes = vec![text("service.name", "shop".into()), text("service.instance.id", "i1".into())];
    let resource_metrics = ResourceMetrics {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_metrics: vec![ScopeMetrics { metrics: metrics.collect(), ..Default::default() }],
        ..Default::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }.encode_to_vec()
}

fn series(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("series");
    group.throughput(Throughput::Elements(POINTS));
    let (encoder, rules) = (RemoteWriteEncoder::default(), Rules::default());
    let counters = request(true);
    group.bench_function("encode", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            encoder.encode(&counters, "acme", &rules, &mut out)
        });
    });
    group.bench_function("encode_and_deal_to_4_shards", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::new();
            let encoded = encoder.encode(&counters, "acme", &rules, &mut out);
            (encoded, deal(Format::RemoteWrite, 4, out))
        });
    });
    let cases = [("known", 1_000_000, true), ("folded", 0, true), ("rejected", 0, false)];
    for (case, max_active, is_monotonic) in cases {
        let quota =
            SeriesQuota { max_active: Some(max_active), new_per_minute: None, window_s: 3600, max_folded: 100_000 };
        let budget = SeriesBudget::new(Now::read(0));
        let bytes = request(is_monotonic);
        group.bench_function(case, |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                out.clear();
                let mut gate = budget.gate(&quota, Now::read(0));
                let encoded = encoder.encode_through(&mut gate, &bytes, "acme", &rules, &mut out);
                (encoded, gate.close().rejected)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, series);
criterion_main!(benches);
