//! Loki push: OTLP logs become `PushRequest` streams.
//!
//! Sources: `pkg/push/push.proto` of Loki (Apache-2.0) for the wire format; Loki's documentation of native OTLP ingestion
//! for what becomes a label, metadata or the line. Few attributes are stream labels, all others structured metadata.

use std::borrow::Cow;

use super::remote_write::names::label_name;
use super::Encoded;
use crate::otlp::text::{put_hex, put_int, put_uint, AnyValue, KeyValue};
use crate::otlp::wire::{put_bytes_field, put_message_field, put_varint_field, Reader, WireError};
use crate::otlp::{log, ITEMS, MAX_DEPTH, REQUEST_RESOURCES, RESOURCE, RESOURCE_ATTRIBUTES, SCOPE, SCOPES};
use crate::policy::StreamLabel;
use crate::resource::TENANT;

/// PushRequest.streams, StreamAdapter { labels, entries }, EntryAdapter { timestamp, line, structuredMetadata }.
const STREAMS: u32 = 1;
const STREAM_LABELS: u32 = 1;
const STREAM_ENTRIES: u32 = 2;
const ENTRY_TIMESTAMP: u32 = 1;
const ENTRY_LINE: u32 = 2;
const ENTRY_METADATA: u32 = 3;

/// Encodes for one destination.
#[derive(Debug)]
pub struct LokiEncoder {
    /// Sorted by label.
    stream_labels: Vec<StreamLabel>,
}

impl LokiEncoder {
    pub fn new(stream_labels: &[StreamLabel]) -> LokiEncoder {
        let mut stream_labels = stream_labels.to_vec();
        stream_labels.sort_by(|left, right| left.label.cmp(&right.label));
        LokiEncoder { stream_labels }
    }

    /// Appends one stream a resource for an ExportLogsServiceRequest, which was validated. A record without any timestamp
    /// gets `now_unix_nanos`.
    pub fn encode(
        &self,
        request: &[u8],
        tenant: &str,
        now_unix_nanos: u64,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        let mut encoded = Encoded::default();
        let mut entries = Entries::default();
        let mut requests = Reader::new(request);
        while let Some(resource_logs) = requests.next_field()? {
            if resource_logs.number != REQUEST_RESOURCES {
                continue;
            }
            let reader = requests.nested(&resource_logs)?;
            let resource = self.read_resource(reader, tenant)?;
            entries.clear();
            let mut fields = reader;
            while let Some(scope_logs) = fields.next_field()? {
                if scope_logs.number == SCOPES {
                    let scope = fields.nested(&scope_logs)?;
                    encode_scope(scope, &resource, now_unix_nanos, &mut entries, &mut encoded)?;
                }
            }
            if !entries.places.is_empty() {
                entries.put_stream(&resource.labels, out);
            }
        }
        Ok(encoded)
    }

    fn read_resource<'a>(&self, mut fields: Reader<'a>, tenant: &'a str) -> Result<Resource<'a>, WireError> {
        let mut values: Vec<Option<Cow<'a, str>>> = vec![None; self.stream_labels.len()];
        let mut metadata = Metadata::default();
        while let Some(field) = fields.next_field()? {
            if field.number != RESOURCE {
                continue;
            }
            let mut attributes = fields.nested(&field)?;
            while let Some(attribute) = attributes.next_field()? {
                if attribute.number != RESOURCE_ATTRIBUTES {
                    continue;
                }
                let pair = KeyValue::read(attribute.bytes()?)?;
                let mut is_label = false;
                for (label, value) in self.stream_labels.iter().zip(&mut values) {
                    if label.attribute.as_bytes() == pair.key {
                        *value = Some(pair.value.text()?);
                        is_label = true;
                    }
                }
                if !is_label {
                    metadata.flatten(pair, 0)?;
                }
            }
        }
        let mut labels = Vec::new();
        for (label, value) in self.stream_labels.iter().zip(values) {
            // The tenant is who proved to be it, whatever stands in the payload.
            let value = if label.attribute == TENANT { Some(Cow::Borrowed(tenant)) } else { value };
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                labels.push(format!("{}={}", label.label, quoted(&value)));
            }
        }
        if labels.is_empty() {
            // Loki refuses a stream without labels.
            labels.push("service=\"unknown_service\"".to_owned());
        }
        let tenant_is_label = self.stream_labels.iter().any(|label| label.attribute == TENANT);
        Ok(Resource { labels: format!("{{{}}}", labels.join(", ")), metadata, tenant, tenant_is_label })
    }
}

struct Resource<'a> {
    labels: String,
    metadata: Metadata<'a>,
    tenant: &'a str,
    /// Whether the stream's labels name the tenant.
    tenant_is_label: bool,
}

/// Names and values that go with an entry; the names are label names.
#[derive(Default)]
struct Metadata<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Metadata<'a> {
    /// Adds an attribute; a map becomes one pair a member, the names joined by `_`.
    fn flatten(&mut self, pair: KeyValue<'a>, depth: usize) -> Result<(), WireError> {
        let name = label_name(std::str::from_utf8(pair.key).unwrap_or_default());
        self.flatten_as(name, pair.value, depth)
    }

    fn flatten_as(&mut self, name: Cow<'a, str>, value: AnyValue<'a>, depth: usize) -> Result<(), WireError> {
        if let AnyValue::Map(map) = value {
            if depth < MAX_DEPTH {
                return crate::otlp::text::for_each(map, |member| {
                    let member = KeyValue::read(member)?;
                    let inner = label_name(std::str::from_utf8(member.key).unwrap_or_default());
                    self.flatten_as(Cow::Owned(format!("{name}_{inner}")), member.value, depth + 1)
                });
            }
        }
        let value = value.text()?;
        if !name.is_empty() && !value.is_empty() {
            self.pairs.push((name, value));
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }
}

/// The encoded entries of one stream, in order of arrival.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    /// Timestamp, and where the entry ends in `bytes`.
    places: Vec<(u64, usize, usize)>,
}

impl Entries {
    fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Sorted by time: Loki wants the entries of a stream in order.
    fn put_stream(&mut self, labels: &str, out: &mut Vec<u8>) {
        self.places.sort_by_key(|(timestamp, _, _)| *timestamp);
        put_message_field(out, STREAMS, |out| {
            put_bytes_field(out, STREAM_LABELS, labels.as_bytes());
            for (_, begin, end) in &self.places {
                put_bytes_field(out, STREAM_ENTRIES, &self.bytes[*begin..*end]);
            }
        });
    }
}

fn encode_scope(
    reader: Reader<'_>,
    resource: &Resource<'_>,
    now: u64,
    entries: &mut Entries,
    encoded: &mut Encoded,
) -> Result<(), WireError> {
    let mut scope = Metadata::default();
    let mut fields = reader;
    while let Some(field) = fields.next_field()? {
        if field.number == SCOPE {
            read_scope(fields.nested(&field)?, &mut scope)?;
        }
    }
    let mut record = Record::default();
    let mut fields = reader;
    while let Some(field) = fields.next_field()? {
        if field.number != ITEMS {
            continue;
        }
        record.read(fields.nested(&field)?)?;
        let timestamp = [record.time, record.observed_time].into_iter().find(|time| *time > 0).unwrap_or(now);
        let begin = entries.bytes.len();
        record.put(timestamp, &scope, resource, &mut entries.bytes, encoded)?;
        entries.places.push((timestamp, begin, entries.bytes.len()));
        encoded.items += 1;
    }
    Ok(())
}

/// InstrumentationScope { name = 1, version = 2, attributes = 3 }.
fn read_scope<'a>(mut fields: Reader<'a>, scope: &mut Metadata<'a>) -> Result<(), WireError> {
    while let Some(field) = fields.next_field()? {
        let name = match field.number {
            1 => "scope_name",
            2 => "scope_version",
            3 => {
                scope.flatten(KeyValue::read(field.bytes()?)?, 0)?;
                continue;
            }
            _ => continue,
        };
        let value = String::from_utf8_lossy(field.bytes()?);
        if !value.is_empty() {
            scope.pairs.push((Cow::Borrowed(name), value));
        }
    }
    Ok(())
}

/// A log record, borrowed; reused from record to record.
#[derive(Default)]
struct Record<'a> {
    time: u64,
    observed_time: u64,
    severity_number: u64,
    severity_text: &'a [u8],
    body: Option<AnyValue<'a>>,
    event_name: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    flags: u32,
    attributes: Metadata<'a>,
}

impl<'a> Record<'a> {
    fn read(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        self.attributes.pairs.clear();
        let attributes = std::mem::take(&mut self.attributes);
        *self = Record { attributes, ..Record::default() };
        while let Some(field) = fields.next_field()? {
            match field.number {
                log::TIME => self.time = field.fixed64()?,
                log::OBSERVED_TIME => self.observed_time = field.fixed64()?,
                log::SEVERITY_NUMBER => self.severity_number = field.varint()?,
                log::SEVERITY_TEXT => self.severity_text = field.bytes()?,
                log::BODY => self.body = Some(AnyValue::read(field.bytes()?)?),
                log::ATTRIBUTES => self.attributes.flatten(KeyValue::read(field.bytes()?)?, 0)?,
                log::FLAGS => self.flags = field.fixed32()?,
                log::TRACE_ID => self.trace_id = field.bytes()?,
                log::SPAN_ID => self.span_id = field.bytes()?,
                log::EVENT_NAME => self.event_name = field.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends an EntryAdapter. Of a name that comes more than once the record's own field is written, else the nearest.
    fn put(
        &self,
        timestamp: u64,
        scope: &Metadata<'_>,
        resource: &Resource<'_>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        put_message_field(out, ENTRY_TIMESTAMP, |out| {
            put_varint_field(out, 1, timestamp / 1_000_000_000);
            put_varint_field(out, 2, timestamp % 1_000_000_000);
        });
        match self.body {
            Some(AnyValue::String(text)) => put_bytes_field(out, ENTRY_LINE, text),
            Some(body) if body != AnyValue::Empty => {
                let mut line = Vec::new();
                body.put_text(&mut line)?;
                put_bytes_field(out, ENTRY_LINE, &line);
            }
            // A record without a body is an event: its name is what happened.
            _ => put_bytes_field(out, ENTRY_LINE, self.event_name),
        }
        self.put_own_fields(timestamp, out);
        if !resource.tenant_is_label {
            put_pair(out, TENANT, resource.tenant.as_bytes());
        }
        let mut claims_tenant = false;
        let nearest_first = [&self.attributes, scope, &resource.metadata];
        for (level, metadata) in nearest_first.iter().enumerate() {
            for (index, (name, value)) in metadata.pairs.iter().enumerate() {
                if name == TENANT {
                    // The tenant is who proved to be it, whatever stands in the payload.
                    claims_tenant |= value != resource.tenant;
                    continue;
                }
                let nearer = nearest_first[..level].iter().any(|metadata| metadata.has(name));
                let earlier = metadata.pairs[..index].iter().any(|(known, _)| known == name);
                if nearer || earlier || self.has_field(name, timestamp) {
                    encoded.label_collisions += 1;
                } else {
                    put_pair(out, name, value.as_bytes());
                }
            }
        }
        encoded.tenant_claims += u64::from(claims_tenant);
        Ok(())
    }

    fn put_own_fields(&self, timestamp: u64, out: &mut Vec<u8>) {
        let mut text = Vec::with_capacity(32);
        let mut hex = |id: &[u8], name: &str, out: &mut Vec<u8>| {
            if !id.is_empty() {
                text.clear();
                put_hex(&mut text, id);
                put_pair(out, name, &text);
            }
        };
        hex(self.trace_id, "trace_id", out);
        hex(self.span_id, "span_id", out);
        if !self.severity_text.is_empty() {
            put_pair(out, "severity_text", self.severity_text);
        }
        let mut number = |value: u64, name: &str, out: &mut Vec<u8>| {
            if value > 0 {
                text.clear();
                match i64::try_from(value) {
                    Ok(value) => put_int(&mut text, value),
                    Err(_) => put_uint(&mut text, value),
                }
                put_pair(out, name, &text);
            }
        };
        number(self.severity_number, "severity_number", out);
        number(u64::from(self.flags), "flags", out);
        if self.observed_time != timestamp {
            number(self.observed_time, "observed_timestamp", out);
        }
        if self.body.is_some() && !self.event_name.is_empty() {
            put_pair(out, "event_name", self.event_name);
        }
    }

    /// Whether [`Record::put_own_fields`] writes a pair of this name.
    fn has_field(&self, name: &str, timestamp: u64) -> bool {
        match name {
            "trace_id" => !self.trace_id.is_empty(),
            "span_id" => !self.span_id.is_empty(),
            "severity_text" => !self.severity_text.is_empty(),
            "severity_number" => self.severity_number > 0,
            "flags" => self.flags > 0,
            "observed_timestamp" => self.observed_time > 0 && self.observed_time != timestamp,
            "event_name" => self.body.is_some() && !self.event_name.is_empty(),
            _ => false,
        }
    }
}

fn put_pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    put_message_field(out, ENTRY_METADATA, |out| {
        put_bytes_field(out, 1, name.as_bytes());
        put_bytes_field(out, 2, value);
    });
}

/// A label value in double quotes, escaped as Go and LogQL read it.
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[path = "loki_tests.rs"]
mod tests;
