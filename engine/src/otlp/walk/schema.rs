//! The OTLP schema as tables: what each field of each message is, for the walk.
//!
//! Source: opentelemetry-proto v1.9 (common, resource, trace, metrics, logs). A field that is not here is unknown, and
//! kept as it is unless the visitor wants it gone.

use super::{Place, Unit};
use crate::otlp::Signal;

/// What a field holds, and so which wire type it must have.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Unknown,
    Varint,
    Fixed32,
    Fixed64,
    /// Repeated varints, packed or one by one.
    Varints,
    /// Repeated fixed64, packed or one by one.
    Fixed64s,
    Text(Place),
    /// `length` bytes; empty is allowed unless `required`.
    Id {
        length: usize,
        required: bool,
    },
    Message(&'static Schema),
    KeyValue,
    AnyValue(Place),
}

/// Field numbers of OTLP messages (AnyValue and KeyValue apart) end at 16.
const FIELDS: usize = 17;

/// The fields of one message, by number.
pub(super) struct Schema {
    kinds: [Kind; FIELDS],
    /// Bit per field number: the ids that must be there.
    pub(super) required: u32,
    pub(super) unit: Option<Unit>,
}

impl Schema {
    const fn of_unit(unit: Unit, fields: &[(usize, Kind)]) -> Schema {
        Schema { unit: Some(unit), ..Schema::new(fields) }
    }

    const fn new(fields: &[(usize, Kind)]) -> Schema {
        let mut schema = Schema { kinds: [Kind::Unknown; FIELDS], required: 0, unit: None };
        let mut index = 0;
        while index < fields.len() {
            let (number, kind) = fields[index];
            schema.kinds[number] = kind;
            if let Kind::Id { required: true, .. } = kind {
                schema.required |= 1 << number;
            }
            index += 1;
        }
        schema
    }

    #[inline]
    pub(super) fn kind(&'static self, number: u32) -> &'static Kind {
        self.kinds.get(number as usize).unwrap_or(&Kind::Unknown)
    }
}

/// The message that a signal's request is.
pub(super) fn request(signal: Signal) -> &'static Schema {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const TRACE_ID: Kind = Kind::Id { length: 16, required: true };
const SPAN_ID: Kind = Kind::Id { length: 8, required: true };
const OPTIONAL_TRACE_ID: Kind = Kind::Id { length: 16, required: false };
const OPTIONAL_SPAN_ID: Kind = Kind::Id { length: 8, required: false };
const SCHEMA_URL: Kind = Kind::Text(Place::SchemaUrl);

static ENTITY_REF: Schema = Schema::new(&[
    (1, SCHEMA_URL),
    (2, Kind::Text(Place::EntityType)),
    (3, Kind::Text(Place::EntityKey)),
    (4, Kind::Text(Place::EntityKey)),
]);
static RESOURCE: Schema = Schema::new(&[(1, Kind::KeyValue), (2, Kind::Varint), (3, Kind::Message(&ENTITY_REF))]);
static SCOPE: Schema = Schema::new(&[
    (1, Kind::Text(Place::ScopeName)),
    (2, Kind::Text(Place::ScopeVersion)),
    (3, Kind::KeyValue),
    (4, Kind::Varint),
]);

static TRACES: Schema = Schema::new(&[(1, Kind::Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Schema = Schema::of_unit(
    Unit::Resource,
    &[(1, Kind::Message(&RESOURCE)), (2, Kind::Message(&SCOPE_SPANS)), (3, SCHEMA_URL)],
);
static SCOPE_SPANS: Schema =
    Schema::of_unit(Unit::Scope, &[(1, Kind::Message(&SCOPE)), (2, Kind::Message(&SPAN)), (3, SCHEMA_URL)]);
static SPAN: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (1, TRACE_ID),
        (2, SPAN_ID),
        (3, Kind::Text(Place::TraceState)),
        (4, OPTIONAL_SPAN_ID),
        (5, Kind::Text(Place::SpanName)),
        (6, Kind::Varint),
        (7, Kind::Fixed64),
        (8, Kind::Fixed64),
        (9, Kind::KeyValue),
        (10, Kind::Varint),
        (11, Kind::Message(&EVENT)),
        (12, Kind::Varint),
        (13, Kind::Message(&LINK)),
        (14, Kind::Varint),
        (15, Kind::Message(&STATUS)),
        (16, Kind::Fixed32),
    ],
);
static EVENT: Schema =
    Schema::new(&[(1, Kind::Fixed64), (2, Kind::Text(Place::EventName)), (3, Kind::KeyValue), (4, Kind::Varint)]);
static LINK: Schema = Schema::new(&[
    (1, TRACE_ID),
    (2, SPAN_ID),
    (3, Kind::Text(Place::TraceState)),
    (4, Kind::KeyValue),
    (5, Kind::Varint),
    (6, Kind::Fixed32),
]);
static STATUS: Schema = Schema::new(&[(2, Kind::Text(Place::StatusMessage)), (3, Kind::Varint)]);

static LOGS: Schema = Schema::new(&[(1, Kind::Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Schema =
    Schema::of_unit(Unit::Resource, &[(1, Kind::Message(&RESOURCE)), (2, Kind::Message(&SCOPE_LOGS)), (3, SCHEMA_URL)]);
static SCOPE_LOGS: Schema =
    Schema::of_unit(Unit::Scope, &[(1, Kind::Message(&SCOPE)), (2, Kind::Message(&LOG_RECORD)), (3, SCHEMA_URL)]);
static LOG_RECORD: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (1, Kind::Fixed64),
        (2, Kind::Varint),
        (3, Kind::Text(Place::SeverityText)),
        (5, Kind::AnyValue(Place::LogBody)),
        (6, Kind::KeyValue),
        (7, Kind::Varint),
        (8, Kind::Fixed32),
        (9, OPTIONAL_TRACE_ID),
        (10, OPTIONAL_SPAN_ID),
        (11, Kind::Fixed64),
        (12, Kind::Text(Place::EventName)),
    ],
);

static METRICS: Schema = Schema::new(&[(1, Kind::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Schema = Schema::of_unit(
    Unit::Resource,
    &[(1, Kind::Message(&RESOURCE)), (2, Kind::Message(&SCOPE_METRICS)), (3, SCHEMA_URL)],
);
static SCOPE_METRICS: Schema =
    Schema::of_unit(Unit::Scope, &[(1, Kind::Message(&SCOPE)), (2, Kind::Message(&METRIC)), (3, SCHEMA_URL)]);
static METRIC: Schema = Schema::of_unit(
    Unit::Metric,
    &[
        (1, Kind::Text(Place::MetricName)),
        (2, Kind::Text(Place::MetricDescription)),
        (3, Kind::Text(Place::MetricUnit)),
        (5, Kind::Message(&GAUGE)),
        (7, Kind::Message(&SUM)),
        (9, Kind::Message(&HISTOGRAM)),
        (10, Kind::Message(&EXPONENTIAL_HISTOGRAM)),
        (11, Kind::Message(&SUMMARY)),
        (12, Kind::KeyValue),
    ],
);
static GAUGE: Schema = Schema::new(&[(1, Kind::Message(&NUMBER_POINT))]);
static SUM: Schema = Schema::new(&[(1, Kind::Message(&NUMBER_POINT)), (2, Kind::Varint), (3, Kind::Varint)]);
static HISTOGRAM: Schema = Schema::new(&[(1, Kind::Message(&HISTOGRAM_POINT)), (2, Kind::Varint)]);
static EXPONENTIAL_HISTOGRAM: Schema =
    Schema::new(&[(1, Kind::Message(&EXPONENTIAL_HISTOGRAM_POINT)), (2, Kind::Varint)]);
static SUMMARY: Schema = Schema::new(&[(1, Kind::Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (2, Kind::Fixed64),
        (3, Kind::Fixed64),
        (4, Kind::Fixed64),
        (5, Kind::Message(&EXEMPLAR)),
        (6, Kind::Fixed64),
        (7, Kind::KeyValue),
        (8, Kind::Varint),
    ],
);
static HISTOGRAM_POINT: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (2, Kind::Fixed64),
        (3, Kind::Fixed64),
        (4, Kind::Fixed64),
        (5, Kind::Fixed64),
        (6, Kind::Fixed64s),
        (7, Kind::Fixed64s),
        (8, Kind::Message(&EXEMPLAR)),
        (9, Kind::KeyValue),
        (10, Kind::Varint),
        (11, Kind::Fixed64),
        (12, Kind::Fixed64),
    ],
);
static EXPONENTIAL_HISTOGRAM_POINT: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (1, Kind::KeyValue),
        (2, Kind::Fixed64),
        (3, Kind::Fixed64),
        (4, Kind::Fixed64),
        (5, Kind::Fixed64),
        (6, Kind::Varint),
        (7, Kind::Fixed64),
        (8, Kind::Message(&BUCKETS)),
        (9, Kind::Message(&BUCKETS)),
        (10, Kind::Varint),
        (11, Kind::Message(&EXEMPLAR)),
        (12, Kind::Fixed64),
        (13, Kind::Fixed64),
        (14, Kind::Fixed64),
    ],
);
static BUCKETS: Schema = Schema::new(&[(1, Kind::Varint), (2, Kind::Varints)]);
static SUMMARY_POINT: Schema = Schema::of_unit(
    Unit::Item,
    &[
        (2, Kind::Fixed64),
        (3, Kind::Fixed64),
        (4, Kind::Fixed64),
        (5, Kind::Fixed64),
        (6, Kind::Message(&QUANTILE)),
        (7, Kind::KeyValue),
        (8, Kind::Varint),
    ],
);
static QUANTILE: Schema = Schema::new(&[(1, Kind::Fixed64), (2, Kind::Fixed64)]);
static EXEMPLAR: Schema = Schema::new(&[
    (2, Kind::Fixed64),
    (3, Kind::Fixed64),
    (4, OPTIONAL_SPAN_ID),
    (5, OPTIONAL_TRACE_ID),
    (6, Kind::Fixed64),
    (7, Kind::KeyValue),
]);
