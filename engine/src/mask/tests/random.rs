//! Random requests with secrets at every place of the schema; from one seed either as sent or as they should be masked.

use super::attribute as key_value;
use crate::otlp::Signal;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{
    any_value::Value, AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    exemplar, metric::Data, number_data_point, summary_data_point::ValueAtQuantile, Exemplar, ExponentialHistogram,
    ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    span::{Event, Link},
    ResourceSpans, ScopeSpans, Span, Status,
};
use prost::Message;

pub(super) const SECRETS: [&str; 5] =
    ["bob@example.com", "bob%40example.com", "4111 1111 1111 1111", "5555555555554444", "hunter2"];
const MASKED: [&str; 5] = ["[email]", "[email]", "[credit_card]", "[credit_card]", "<hunter>"];

pub(super) struct Random {
    state: u64,
    masked: bool,
}

impl Random {
    /// A request of each signal; `masked`: with the replacements in place of the secrets.
    pub(super) fn requests(seed: u64, masked: bool) -> [(Signal, Vec<u8>); 3] {
        let mut random = Random { state: seed, masked };
        [
            (Signal::Traces, random.traces().encode_to_vec()),
            (Signal::Metrics, random.metrics().encode_to_vec()),
            (Signal::Logs, random.logs().encode_to_vec()),
        ]
    }

    /// SplitMix64.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> usize {
        (self.number() % bound) as usize
    }

    fn many<T>(&mut self, most: u64, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        (self.below(4) > 0).then(|| make(self))
    }

    fn secret(&mut self) -> &'static str {
        // "hunter2" is known by its key only.
        let index = self.below(4);
        if self.masked {
            MASKED[index]
        } else {
            SECRETS[index]
        }
    }

    fn text(&mut self) -> String {
        const WORDS: [&str; 12] = [
            "",
            "GET",
            "/api/v1",
            "ünï",
            "@",
            "100%",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "12:30",
            "{\"a\":\"b\"}",
            "日本語",
            "2024-01-15",
            "\\n",
        ];
        let words = self.many(4, |random| if random.below(5) == 0 { random.secret() } else { WORDS[random.below(12)] });
        // Parted so that neither words nor secrets run together.
        words.join(" / ")
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.many(3, |random| random.attribute(3))
    }

    fn attribute(&mut self, depth: u64) -> KeyValue {
        if self.below(4) > 0 {
            return KeyValue {
                key: self.text(),
                value: self.maybe(|random| random.value(depth)),
                ..KeyValue::default()
            };
        }
        let key = ["password", "PASSWORD", "x-token-y"][self.below(3)];
        let before = match self.below(3) {
            0 => Value::StringValue("hunter2".to_owned()),
            1 => Value::IntValue(self.number() as i64),
            _ => Value::KvlistValue(KeyValueList {
                values: vec![key_value("a", Value::BytesValue(b"hunter2".to_vec()))],
            }),
        };
        key_value(key, if self.masked { Value::StringValue("[redacted]".to_owned()) } else { before })
    }

    fn value(&mut self, depth: u64) -> AnyValue {
        let kinds = if depth == 0 { 6 } else { 8 };
        let value = match self.below(kinds) {
            0 => Value::StringValue(self.text()),
            1 => Value::BytesValue(self.text().into_bytes()),
            2 => Value::BoolValue(true),
            // not long enough for a card number, or one
            3 => match self.below(2) {
                0 => Value::IntValue((self.number() >> 30) as i64),
                _ if self.masked => Value::StringValue("[credit_card]".to_owned()),
                _ => Value::IntValue(5_555_555_555_554_444),
            },
            4 => Value::DoubleValue(self.below(1000) as f64 / 3.0),
            5 => {
                let secret = if self.masked { "[redacted]" } else { "hunter2" };
                Value::StringValue(format!(r#"{{"a": "{}", "password": "{secret}"}}"#, self.secret()))
            }
            6 => Value::ArrayValue(ArrayValue { values: self.many(3, |random| random.value(depth - 1)) }),
            _ => Value::KvlistValue(KeyValueList { values: self.many(3, |random| random.attribute(depth - 1)) }),
        };
        AnyValue { value: Some(value) }
    }

    fn resource(&mut self) -> Resource {
        let entity_refs = self.many(1, |random| EntityRef {
            schema_url: random.text(),
            r#type: random.text(),
            id_keys: random.many(2, Random::text),
            description_keys: random.many(2, Random::text),
        });
        Resource { attributes: self.attributes(), dropped_attributes_count: 1, entity_refs }
    }

    fn scope(&mut self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.text(),
            version: self.text(),
            attributes: self.attributes(),
            dropped_attributes_count: 2,
        }
    }

    fn traces(&mut self) -> ExportTraceServiceRequest {
        let resource_spans = self.many(2, |random| ResourceSpans {
            resource: random.maybe(Random::resource),
            scope_spans: random.many(2, |random| ScopeSpans {
                scope: random.maybe(Random::scope),
                spans: random.many(3, Random::span),
                schema_url: random.text(),
            }),
            schema_url: random.text(),
        });
        ExportTraceServiceRequest { resource_spans }
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.maybe(|random| random.id(8)).unwrap_or_default(),
            flags: 1,
            name: self.text(),
            kind: 2,
            start_time_unix_nano: self.number(),
            end_time_unix_nano: self.number(),
            attributes: self.attributes(),
            dropped_attributes_count: 1,
            events: self.many(2, |random| Event {
                time_unix_nano: random.number(),
                name: random.text(),
                attributes: random.attributes(),
                dropped_attributes_count: 0,
            }),
            dropped_events_count: 1,
            links: self.many(2, |random| Link {
                trace_id: random.id(16),
                span_id: random.id(8),
                trace_state: random.text(),
                attributes: random.attributes(),
                dropped_attributes_count: 0,
                flags: 3,
            }),
            dropped_links_count: 1,
            status: self.maybe(|random| Status { message: random.text(), code: 2 }),
        }
    }

    fn logs(&mut self) -> ExportLogsServiceRequest {
        let resource_logs = self.many(2, |random| ResourceLogs {
            resource: random.maybe(Random::resource),
            scope_logs: random.many(2, |random| ScopeLogs {
                scope: random.maybe(Random::scope),
                log_records: random.many(3, Random::log_record),
                schema_url: random.text(),
            }),
            schema_url: random.text(),
        });
        ExportLogsServiceRequest { resource_logs }
    }

    fn log_record(&mut self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.number(),
            observed_time_unix_nano: self.number(),
            severity_number: 9,
            severity_text: self.text(),
            body: self.maybe(|random| random.value(3)),
            attributes: self.attributes(),
            dropped_attributes_count: 1,
            flags: 1,
            trace_id: self.maybe(|random| random.id(16)).unwrap_or_default(),
            span_id: self.maybe(|random| random.id(8)).unwrap_or_default(),
            event_name: self.text(),
        }
    }

    fn metrics(&mut self) -> ExportMetricsServiceRequest {
        let resource_metrics = self.many(2, |random| ResourceMetrics {
            resource: random.maybe(Random::resource),
            scope_metrics: random.many(2, |random| ScopeMetrics {
                scope: random.maybe(Random::scope),
                metrics: random.many(3, |random| Metric {
                    name: random.text(),
                    description: random.text(),
                    unit: random.text(),
                    metadata: random.attributes(),
                    data: random.maybe(Random::data),
                }),
                schema_url: random.text(),
            }),
            schema_url: random.text(),
        });
        ExportMetricsServiceRequest { resource_metrics }
    }

    fn data(&mut self) -> Data {
        let aggregation_temporality = 2;
        match self.below(5) {
            0 => Data::Gauge(Gauge { data_points: self.many(2, Random::number_point) }),
            1 => {
                let data_points = self.many(2, Random::number_point);
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
            }
            2 => {
                let data_points = self.many(2, |random| HistogramDataPoint {
                    attributes: random.attributes(),
                    count: 3,
                    sum: Some(1.5),
                    bucket_counts: vec![1, 2, 3],
                    explicit_bounds: vec![0.5, 1.0],
                    exemplars: random.exemplars(),
                    max: Some(2.0),
                    ..HistogramDataPoint::default()
                });
                Data::Histogram(Histogram { data_points, aggregation_temporality })
            }
            3 => {
                let data_points = self.many(2, |random| ExponentialHistogramDataPoint {
                    attributes: random.attributes(),
                    scale: -2,
                    positive: Some(Default::default()),
                    exemplars: random.exemplars(),
                    zero_threshold: 0.1,
                    ..ExponentialHistogramDataPoint::default()
                });
                Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
            }
            _ => {
                let data_points = self.many(2, |random| SummaryDataPoint {
                    attributes: random.attributes(),
                    quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 1.0 }],
                    ..SummaryDataPoint::default()
                });
                Data::Summary(Summary { data_points })
            }
        }
    }

    fn number_point(&mut self) -> NumberDataPoint {
        NumberDataPoint {
            attributes: self.attributes(),
            time_unix_nano: self.number(),
            exemplars: self.exemplars(),
            flags: 1,
            value: Some(number_data_point::Value::AsInt(5_555_555_555_554_444)),
            ..NumberDataPoint::default()
        }
    }

    fn exemplars(&mut self) -> Vec<Exemplar> {
        self.many(2, |random| Exemplar {
            filtered_attributes: random.attributes(),
            time_unix_nano: random.number(),
            span_id: random.maybe(|random| random.id(8)).unwrap_or_default(),
            trace_id: random.maybe(|random| random.id(16)).unwrap_or_default(),
            value: Some(exemplar::Value::AsDouble(0.5)),
        })
    }
}
