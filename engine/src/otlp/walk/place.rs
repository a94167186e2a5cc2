//! The places of the schema that hold text.

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    SchemaUrl,
    EntityType,
    EntityKey,
    ScopeName,
    ScopeVersion,
    SpanName,
    TraceState,
    StatusMessage,
    /// Of a span event or a log record.
    EventName,
    SeverityText,
    /// Anywhere in a log record's body.
    LogBody,
    MetricName,
    MetricDescription,
    MetricUnit,
    /// The key of an attribute, or of a member of a map.
    AttributeKey,
    /// The value of an attribute: of a resource, scope, span, event, link, point, exemplar, log record or metric.
    AttributeValue,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::SchemaUrl => "schema_url",
            Place::EntityType => "entity_type",
            Place::EntityKey => "entity_key",
            Place::ScopeName => "scope_name",
            Place::ScopeVersion => "scope_version",
            Place::SpanName => "span_name",
            Place::TraceState => "trace_state",
            Place::StatusMessage => "status_message",
            Place::EventName => "event_name",
            Place::SeverityText => "severity_text",
            Place::LogBody => "log_body",
            Place::MetricName => "metric_name",
            Place::MetricDescription => "metric_description",
            Place::MetricUnit => "metric_unit",
            Place::AttributeKey => "attribute_key",
            Place::AttributeValue => "attribute_value",
        }
    }
}
