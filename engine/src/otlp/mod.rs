//! OTLP as bytes: the schema's field numbers, a counting walk, and what all stages share.
//!
//! Source: opentelemetry-proto (v1 of common, resource, trace, metrics and logs).

pub mod edit;
pub mod items;
pub mod json;
pub mod text;
pub mod walk;
pub mod wire;

use serde::{Deserialize, Serialize};
use wire::{Reader, WireError};

/// The three kinds of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    pub fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// Why a payload is refused as malformed (INVALID_ARGUMENT, 400).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    Wire(WireError),
    /// A trace id that is not 16 bytes or a span id that is not 8.
    IdLength,
    /// A string field is not UTF-8.
    Utf8,
    /// AnyValue nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A resource with more than [`MAX_RESOURCE_ATTRIBUTES`].
    TooManyAttributes,
}

impl From<WireError> for Malformed {
    fn from(error: WireError) -> Self {
        Malformed::Wire(error)
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Malformed::Wire(error) => write!(f, "not a valid protobuf message: {error}"),
            Malformed::IdLength => f.write_str("a trace id must be 16 bytes and a span id 8"),
            Malformed::Utf8 => f.write_str("a string field is not valid UTF-8"),
            Malformed::TooDeep => write!(f, "a value is nested deeper than {MAX_DEPTH} levels"),
            Malformed::TooManyAttributes => {
                write!(f, "a resource has more than {MAX_RESOURCE_ATTRIBUTES} attributes")
            }
        }
    }
}

impl std::error::Error for Malformed {}

/// How deep AnyValue may nest; protobuf runtimes stop at 100 messages.
pub const MAX_DEPTH: usize = 64;

/// How many attributes a resource may have; OpenTelemetry SDKs stop at 128 by default. Relabelling looks each label up
/// in the whole set, so the work grows with the square.
pub const MAX_RESOURCE_ATTRIBUTES: usize = 1024;

/// `repeated ResourceSpans resource_spans = 1`, and the same number in the metrics and logs requests.
pub const REQUEST_RESOURCES: u32 = 1;
/// ResourceSpans, ResourceMetrics, ResourceLogs: `resource = 1`, `scope_* = 2`, `schema_url = 3`.
pub const RESOURCE: u32 = 1;
pub const SCOPES: u32 = 2;
pub const SCHEMA_URL: u32 = 3;
/// ScopeSpans, ScopeMetrics, ScopeLogs: `scope = 1`, items `= 2`, `schema_url = 3`.
pub const SCOPE: u32 = 1;
pub const ITEMS: u32 = 2;
/// `Resource.attributes`.
pub const RESOURCE_ATTRIBUTES: u32 = 1;
/// KeyValue.
pub const KEY: u32 = 1;
pub const VALUE: u32 = 2;
/// `ArrayValue.values`, `KeyValueList.values`.
pub const VALUES: u32 = 1;

/// AnyValue's oneof.
pub mod any_value {
    pub const STRING: u32 = 1;
    pub const BOOL: u32 = 2;
    pub const INT: u32 = 3;
    pub const DOUBLE: u32 = 4;
    pub const ARRAY: u32 = 5;
    pub const KVLIST: u32 = 6;
    pub const BYTES: u32 = 7;
    /// Index into a string table; only profiles use it.
    pub const STRING_STRINDEX: u32 = 8;
}

/// Span.
pub mod span {
    pub const TRACE_ID: u32 = 1;
    pub const SPAN_ID: u32 = 2;
    pub const TRACE_STATE: u32 = 3;
    pub const PARENT_SPAN_ID: u32 = 4;
    pub const NAME: u32 = 5;
    pub const KIND: u32 = 6;
    pub const START_TIME: u32 = 7;
    pub const END_TIME: u32 = 8;
    pub const ATTRIBUTES: u32 = 9;
    pub const EVENTS: u32 = 11;
    pub const LINKS: u32 = 13;
    pub const STATUS: u32 = 15;
}

/// LogRecord.
pub mod log {
    pub const TIME: u32 = 1;
    pub const SEVERITY_NUMBER: u32 = 2;
    pub const SEVERITY_TEXT: u32 = 3;
    pub const BODY: u32 = 5;
    pub const ATTRIBUTES: u32 = 6;
    pub const FLAGS: u32 = 8;
    pub const TRACE_ID: u32 = 9;
    pub const SPAN_ID: u32 = 10;
    pub const OBSERVED_TIME: u32 = 11;
    pub const EVENT_NAME: u32 = 12;
}

/// Metric: the data oneof, whose messages all hold `data_points = 1`.
pub mod metric {
    pub const NAME: u32 = 1;
    pub const DESCRIPTION: u32 = 2;
    pub const UNIT: u32 = 3;
    pub const GAUGE: u32 = 5;
    pub const SUM: u32 = 7;
    pub const HISTOGRAM: u32 = 9;
    pub const EXPONENTIAL_HISTOGRAM: u32 = 10;
    pub const SUMMARY: u32 = 11;
    pub const METADATA: u32 = 12;
    pub const DATA_POINTS: u32 = 1;
}

/// How many items (spans, points, log records) a request holds. Skips over each item by its length.
pub fn count_items(signal: Signal, request: &[u8]) -> Result<u64, WireError> {
    let mut items = 0;
    let mut requests = Reader::new(request);
    while let Some(entry) = requests.next_field()? {
        if entry.number == REQUEST_RESOURCES {
            items += count_resource_items(signal, requests.nested(&entry)?)?;
        }
    }
    Ok(items)
}

/// The items of one ResourceSpans, ResourceMetrics or ResourceLogs.
pub fn count_resource_items(signal: Signal, mut entry: Reader<'_>) -> Result<u64, WireError> {
    let mut items = 0;
    while let Some(scope) = entry.next_field()? {
        if scope.number != SCOPES {
            continue;
        }
        let mut scopes = entry.nested(&scope)?;
        while let Some(item) = scopes.next_field()? {
            if item.number != ITEMS {
                continue;
            }
            items += match signal {
                Signal::Traces | Signal::Logs => 1,
                Signal::Metrics => count_points(scopes.nested(&item)?)?,
            };
        }
    }
    Ok(items)
}

fn count_points(mut metrics: Reader<'_>) -> Result<u64, WireError> {
    let mut points = 0;
    while let Some(data) = metrics.next_field()? {
        if matches!(
            data.number,
            metric::GAUGE | metric::SUM | metric::HISTOGRAM | metric::EXPONENTIAL_HISTOGRAM | metric::SUMMARY
        ) {
            let mut fields = metrics.nested(&data)?;
            while let Some(point) = fields.next_field()? {
                points += u64::from(point.number == metric::DATA_POINTS);
            }
        }
    }
    Ok(points)
}
