//! Printed by `python -m tests.support.json_schema_table`.

use super::Kind::{
    Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Int32, Int64, Nested, SFixed64, SInt32, Text, UInt32, UInt64,
};
use super::Presence::{Explicit, Implicit, Repeated};
use super::{field, Message, Names};

// Generated rows from here on.

pub(in super::super) static EXPORT_TRACE_SERVICE_REQUEST: Message = Message(&[
    field(1, "resourceSpans", "resource_spans", Repeated, Nested(&RESOURCE_SPANS)),
]);
pub(in super::super) static RESOURCE_SPANS: Message = Message(&[
    field(1, "resource", "resource", Explicit, Nested(&RESOURCE)),
    field(2, "scopeSpans", "scope_spans", Repeated, Nested(&SCOPE_SPANS)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static RESOURCE: Message = Message(&[
    field(1, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(2, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
    field(3, "entityRefs", "entity_refs", Repeated, Nested(&ENTITY_REF)),
]);
pub(in super::super) static KEY_VALUE: Message = Message(&[
    field(1, "key", "key", Implicit, Text),
    field(2, "value", "value", Explicit, Nested(&ANY_VALUE)),
    field(3, "keyStrindex", "key_strindex", Implicit, Int32),
]);
pub(in super::super) static ANY_VALUE: Message = Message(&[
    field(1, "stringValue", "string_value", Explicit, Text),
    field(2, "boolValue", "bool_value", Explicit, Bool),
    field(3, "intValue", "int_value", Explicit, Int64),
    field(4, "doubleValue", "double_value", Explicit, Double),
    field(5, "arrayValue", "array_value", Explicit, Nested(&ARRAY_VALUE)),
    field(6, "kvlistValue", "kvlist_value", Explicit, Nested(&KEY_VALUE_LIST)),
    field(7, "bytesValue", "bytes_value", Explicit, Base64),
    field(8, "stringValueStrindex", "string_value_strindex", Explicit, Int32),
]);
pub(in super::super) static ARRAY_VALUE: Message = Message(&[
    field(1, "values", "values", Repeated, Nested(&ANY_VALUE)),
]);
pub(in super::super) static KEY_VALUE_LIST: Message = Message(&[
    field(1, "values", "values", Repeated, Nested(&KEY_VALUE)),
]);
pub(in super::super) static ENTITY_REF: Message = Message(&[
    field(1, "schemaUrl", "schema_url", Implicit, Text),
    field(2, "type", "type", Implicit, Text),
    field(3, "idKeys", "id_keys", Repeated, Text),
    field(4, "descriptionKeys", "description_keys", Repeated, Text),
]);
pub(in super::super) static SCOPE_SPANS: Message = Message(&[
    field(1, "scope", "scope", Explicit, Nested(&INSTRUMENTATION_SCOPE)),
    field(2, "spans", "spans", Repeated, Nested(&SPAN)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static INSTRUMENTATION_SCOPE: Message = Message(&[
    field(1, "name", "name", Implicit, Text),
    field(2, "version", "version", Implicit, Text),
    field(3, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(4, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
]);
pub(in super::super) static SPAN: Message = Message(&[
    field(1, "traceId", "trace_id", Implicit, Hex),
    field(2, "spanId", "span_id", Implicit, Hex),
    field(3, "traceState", "trace_state", Implicit, Text),
    field(4, "parentSpanId", "parent_span_id", Implicit, Hex),
    field(5, "name", "name", Implicit, Text),
    field(6, "kind", "kind", Implicit, Enum(SPAN_SPAN_KIND)),
    field(7, "startTimeUnixNano", "start_time_unix_nano", Implicit, Fixed64),
    field(8, "endTimeUnixNano", "end_time_unix_nano", Implicit, Fixed64),
    field(9, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(10, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
    field(11, "events", "events", Repeated, Nested(&SPAN_EVENT)),
    field(12, "droppedEventsCount", "dropped_events_count", Implicit, UInt32),
    field(13, "links", "links", Repeated, Nested(&SPAN_LINK)),
    field(14, "droppedLinksCount", "dropped_links_count", Implicit, UInt32),
    field(15, "status", "status", Explicit, Nested(&STATUS)),
    field(16, "flags", "flags", Implicit, Fixed32),
]);
pub(in super::super) static SPAN_EVENT: Message = Message(&[
    field(1, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(2, "name", "name", Implicit, Text),
    field(3, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(4, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
]);
pub(in super::super) static SPAN_LINK: Message = Message(&[
    field(1, "traceId", "trace_id", Implicit, Hex),
    field(2, "spanId", "span_id", Implicit, Hex),
    field(3, "traceState", "trace_state", Implicit, Text),
    field(4, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(5, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
    field(6, "flags", "flags", Implicit, Fixed32),
]);
pub(in super::super) static STATUS: Message = Message(&[
    field(2, "message", "message", Implicit, Text),
    field(3, "code", "code", Implicit, Enum(STATUS_STATUS_CODE)),
]);
pub(in super::super) static EXPORT_METRICS_SERVICE_REQUEST: Message = Message(&[
    field(1, "resourceMetrics", "resource_metrics", Repeated, Nested(&RESOURCE_METRICS)),
]);
pub(in super::super) static RESOURCE_METRICS: Message = Message(&[
    field(1, "resource", "resource", Explicit, Nested(&RESOURCE)),
    field(2, "scopeMetrics", "scope_metrics", Repeated, Nested(&SCOPE_METRICS)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static SCOPE_METRICS: Message = Message(&[
    field(1, "scope", "scope", Explicit, Nested(&INSTRUMENTATION_SCOPE)),
    field(2, "metrics", "metrics", Repeated, Nested(&METRIC)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static METRIC: Message = Message(&[
    field(1, "name", "name", Implicit, Text),
    field(2, "description", "description", Implicit, Text),
    field(3, "unit", "unit", Implicit, Text),
    field(5, "gauge", "gauge", Explicit, Nested(&GAUGE)),
    field(7, "sum", "sum", Explicit, Nested(&SUM)),
    field(9, "histogram", "histogram", Explicit, Nested(&HISTOGRAM)),
    field(10, "exponentialHistogram", "exponential_histogram", Explicit, Nested(&EXPONENTIAL_HISTOGRAM)),
    field(11, "summary", "summary", Explicit, Nested(&SUMMARY)),
    field(12, "metadata", "metadata", Repeated, Nested(&KEY_VALUE)),
]);
pub(in super::super) static GAUGE: Message = Message(&[
    field(1, "dataPoints", "data_points", Repeated, Nested(&NUMBER_DATA_POINT)),
]);
pub(in super::super) static NUMBER_DATA_POINT: Message = Message(&[
    field(2, "startTimeUnixNano", "start_time_unix_nano", Implicit, Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(4, "asDouble", "as_double", Explicit, Double),
    field(5, "exemplars", "exemplars", Repeated, Nested(&EXEMPLAR)),
    field(6, "asInt", "as_int", Explicit, SFixed64),
    field(7, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(8, "flags", "flags", Implicit, UInt32),
]);
pub(in super::super) static EXEMPLAR: Message = Message(&[
    field(2, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(3, "asDouble", "as_double", Explicit, Double),
    field(4, "spanId", "span_id", Implicit, Hex),
    field(5, "traceId", "trace_id", Implicit, Hex),
    field(6, "asInt", "as_int", Explicit, SFixed64),
    field(7, "filteredAttributes", "filtered_attributes", Repeated, Nested(&KEY_VALUE)),
]);
pub(in super::super) static SUM: Message = Message(&[
    field(1, "dataPoints", "data_points", Repeated, Nested(&NUMBER_DATA_POINT)),
    field(2, "aggregationTemporality", "aggregation_temporality", Implicit, Enum(AGGREGATION_TEMPORALITY)),
    field(3, "isMonotonic", "is_monotonic", Implicit, Bool),
]);
pub(in super::super) static HISTOGRAM: Message = Message(&[
    field(1, "dataPoints", "data_points", Repeated, Nested(&HISTOGRAM_DATA_POINT)),
    field(2, "aggregationTemporality", "aggregation_temporality", Implicit, Enum(AGGREGATION_TEMPORALITY)),
]);
pub(in super::super) static HISTOGRAM_DATA_POINT: Message = Message(&[
    field(2, "startTimeUnixNano", "start_time_unix_nano", Implicit, Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(4, "count", "count", Implicit, Fixed64),
    field(5, "sum", "sum", Explicit, Double),
    field(6, "bucketCounts", "bucket_counts", Repeated, Fixed64),
    field(7, "explicitBounds", "explicit_bounds", Repeated, Double),
    field(8, "exemplars", "exemplars", Repeated, Nested(&EXEMPLAR)),
    field(9, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(10, "flags", "flags", Implicit, UInt32),
    field(11, "min", "min", Explicit, Double),
    field(12, "max", "max", Explicit, Double),
]);
pub(in super::super) static EXPONENTIAL_HISTOGRAM: Message = Message(&[
    field(1, "dataPoints", "data_points", Repeated, Nested(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    field(2, "aggregationTemporality", "aggregation_temporality", Implicit, Enum(AGGREGATION_TEMPORALITY)),
]);
pub(in super::super) static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = Message(&[
    field(1, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(2, "startTimeUnixNano", "start_time_unix_nano", Implicit, Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(4, "count", "count", Implicit, Fixed64),
    field(5, "sum", "sum", Explicit, Double),
    field(6, "scale", "scale", Implicit, SInt32),
    field(7, "zeroCount", "zero_count", Implicit, Fixed64),
    field(8, "positive", "positive", Explicit, Nested(&EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS)),
    field(9, "negative", "negative", Explicit, Nested(&EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS)),
    field(10, "flags", "flags", Implicit, UInt32),
    field(11, "exemplars", "exemplars", Repeated, Nested(&EXEMPLAR)),
    field(12, "min", "min", Explicit, Double),
    field(13, "max", "max", Explicit, Double),
    field(14, "zeroThreshold", "zero_threshold", Implicit, Double),
]);
pub(in super::super) static EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS: Message = Message(&[
    field(1, "offset", "offset", Implicit, SInt32),
    field(2, "bucketCounts", "bucket_counts", Repeated, UInt64),
]);
pub(in super::super) static SUMMARY: Message = Message(&[
    field(1, "dataPoints", "data_points", Repeated, Nested(&SUMMARY_DATA_POINT)),
]);
pub(in super::super) static SUMMARY_DATA_POINT: Message = Message(&[
    field(2, "startTimeUnixNano", "start_time_unix_nano", Implicit, Fixed64),
    field(3, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(4, "count", "count", Implicit, Fixed64),
    field(5, "sum", "sum", Implicit, Double),
    field(6, "quantileValues", "quantile_values", Repeated, Nested(&SUMMARY_DATA_POINT_VALUE_AT_QUANTILE)),
    field(7, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(8, "flags", "flags", Implicit, UInt32),
]);
pub(in super::super) static SUMMARY_DATA_POINT_VALUE_AT_QUANTILE: Message = Message(&[
    field(1, "quantile", "quantile", Implicit, Double),
    field(2, "value", "value", Implicit, Double),
]);
pub(in super::super) static EXPORT_LOGS_SERVICE_REQUEST: Message = Message(&[
    field(1, "resourceLogs", "resource_logs", Repeated, Nested(&RESOURCE_LOGS)),
]);
pub(in super::super) static RESOURCE_LOGS: Message = Message(&[
    field(1, "resource", "resource", Explicit, Nested(&RESOURCE)),
    field(2, "scopeLogs", "scope_logs", Repeated, Nested(&SCOPE_LOGS)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static SCOPE_LOGS: Message = Message(&[
    field(1, "scope", "scope", Explicit, Nested(&INSTRUMENTATION_SCOPE)),
    field(2, "logRecords", "log_records", Repeated, Nested(&LOG_RECORD)),
    field(3, "schemaUrl", "schema_url", Implicit, Text),
]);
pub(in super::super) static LOG_RECORD: Message = Message(&[
    field(1, "timeUnixNano", "time_unix_nano", Implicit, Fixed64),
    field(2, "severityNumber", "severity_number", Implicit, Enum(SEVERITY_NUMBER)),
    field(3, "severityText", "severity_text", Implicit, Text),
    field(5, "body", "body", Explicit, Nested(&ANY_VALUE)),
    field(6, "attributes", "attributes", Repeated, Nested(&KEY_VALUE)),
    field(7, "droppedAttributesCount", "dropped_attributes_count", Implicit, UInt32),
    field(8, "flags", "flags", Implicit, Fixed32),
    field(9, "traceId", "trace_id", Implicit, Hex),
    field(10, "spanId", "span_id", Implicit, Hex),
    field(11, "observedTimeUnixNano", "observed_time_unix_nano", Implicit, Fixed64),
    field(12, "eventName", "event_name", Implicit, Text),
]);
const SPAN_SPAN_KIND: Names = &[
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
const STATUS_STATUS_CODE: Names = &[
    ("STATUS_CODE_UNSET", 0),
    ("STATUS_CODE_OK", 1),
    ("STATUS_CODE_ERROR", 2),
];
const AGGREGATION_TEMPORALITY: Names = &[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
const SEVERITY_NUMBER: Names = &[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];
