//! Loki push: OTLP logs become `PushRequest` streams.
//!
//! Sources: `pkg/push/push.proto` of Loki (Apache-2.0) for the wire format; Loki's documentation of native OTLP ingestion
//! for what becomes a label, metadata or the line. Few attributes are stream labels, all others structured metadata.

use std::borrow::Cow;
use std::ops::Range;

use super::{Encoded, FormatLimit};
use crate::admit::series::Streams;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field_of, Field, Reader, WireError};
use crate::otlp::{ITEMS, REQUEST_RESOURCES, RESOURCE, RESOURCE_ATTRIBUTES, SCOPE, SCOPES};
use crate::policy::{LokiEntries, StreamLabel};
use crate::resource::TENANT;

mod lines;
mod log_form;
pub mod merge;
mod metadata;
mod record;

use metadata::{Metadata, Surroundings};
use record::{AttributeNames, Piece, Record};

/// PushRequest.streams, StreamAdapter { labels, entries }, EntryAdapter { timestamp, line, structuredMetadata }.
const STREAMS: u32 = 1;
const STREAM_LABELS: u32 = 1;
const STREAM_ENTRIES: u32 = 2;
const ENTRY_TIMESTAMP: u32 = 1;
const ENTRY_LINE: u32 = 2;
const ENTRY_METADATA: u32 = 3;
const SERVICE_NAME: &[u8] = b"service.name";
/// Marks the stream of what is over a tenant's budget of streams.
const OVERFLOW_LABEL: &str = "otel_overflow";
/// Loki refuses a stream with a longer label value: `max_label_value_length`.
const MAX_LABEL_VALUE_BYTES: usize = 2048;
/// About what an entry takes, for the width of its length prefix.
const ENTRY_BYTES: usize = 300;
/// How much longer than its record an entry may be: the resource's attributes are repeated in each.
const GROWTH: usize = 3;

/// Encodes for one destination.
#[derive(Debug)]
pub struct LokiEncoder {
    /// Sorted by label.
    stream_labels: Vec<StreamLabel>,
    entries: LokiEntries,
}

impl LokiEncoder {
    pub fn new(stream_labels: &[StreamLabel], entries: LokiEntries) -> LokiEncoder {
        let mut stream_labels = stream_labels.to_vec();
        stream_labels.sort_by(|left, right| left.label.cmp(&right.label));
        LokiEncoder { stream_labels, entries }
    }

    /// Appends one stream a resource for an ExportLogsServiceRequest, which was validated. A record without any timestamp
    /// gets `now_unix_nanos`. What is new and over the budget of `streams` goes to the tenant's overflow stream.
    pub fn encode(
        &self,
        request: &[u8],
        tenant: &str,
        now_unix_nanos: u64,
        streams: Option<Streams<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, WireError> {
        let mut encoded = Encoded::default();
        let mut entries = Entries { policy: self.entries, now: now_unix_nanos, places: Vec::new() };
        let mut requests = Reader::new(request);
        while let Some(resource_logs) = requests.next_field()? {
            if resource_logs.number != REQUEST_RESOURCES {
                continue;
            }
            let mut resource = self.read_resource(requests.nested(&resource_logs)?, tenant, &mut encoded)?;
            let over_budget = streams.filter(|streams| !streams.admit(&resource.labels));
            if over_budget.is_some() {
                resource.overflow();
            }
            let stream = out.len();
            let mut written = Ok(());
            put_message_field_of(resource_logs.bytes()?.len() * GROWTH, out, STREAMS, |out| {
                put_bytes_field(out, STREAM_LABELS, resource.labels.as_bytes());
                written = entries.put(&requests, &resource_logs, &resource, out, &mut encoded);
            });
            written?;
            if let Some(streams) = over_budget {
                streams.overflowed(entries.places.len() as u64);
            }
            if entries.places.is_empty() {
                out.truncate(stream);
            }
        }
        Ok(encoded)
    }

    fn read_resource<'a>(
        &'a self,
        mut fields: Reader<'a>,
        tenant: &'a str,
        encoded: &mut Encoded,
    ) -> Result<Resource<'a>, WireError> {
        let mut values: Vec<Option<Cow<'a, str>>> = vec![None; self.stream_labels.len()];
        let mut metadata = Metadata::default();
        let mut service = Cow::Borrowed("");
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
                if pair.key == SERVICE_NAME {
                    service = pair.value.text()?;
                }
                let mut is_in_label = false;
                for (label, value) in self.stream_labels.iter().zip(&mut values) {
                    if label.attribute.as_bytes() == pair.key {
                        let mut text = pair.value.text()?;
                        // A value that is too long is whole in the metadata, and only begins in the label.
                        is_in_label = text.len() <= MAX_LABEL_VALUE_BYTES;
                        if !is_in_label {
                            text = Cow::Owned(lines::beginning(&text, MAX_LABEL_VALUE_BYTES).to_owned());
                            encoded.limit(FormatLimit::LabelValue, 1);
                        }
                        *value = Some(text);
                    }
                }
                if !is_in_label {
                    metadata.flatten(pair, 0)?;
                }
            }
        }
        let mut labels = Vec::new();
        let mut pairs = Vec::new();
        for (label, value) in self.stream_labels.iter().zip(values) {
            // The tenant is who proved to be it, whatever stands in the payload.
            let value = if label.attribute == TENANT { Some(Cow::Borrowed(tenant)) } else { value };
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                labels.push(format!("{}={}", label.label, quoted(&value)));
                pairs.push((label, value));
            }
        }
        if labels.is_empty() {
            // Loki refuses a stream without labels.
            labels.push("service=\"unknown_service\"".to_owned());
        }
        let tenant_is_label = self.stream_labels.iter().any(|label| label.attribute == TENANT);
        Ok(Resource { labels: format!("{{{}}}", labels.join(", ")), pairs, metadata, service, tenant, tenant_is_label })
    }
}

struct Resource<'a> {
    labels: String,
    /// The labels one by one.
    pairs: Vec<(&'a StreamLabel, Cow<'a, str>)>,
    metadata: Metadata<'a>,
    /// Its `service.name`.
    service: Cow<'a, str>,
    tenant: &'a str,
    /// Whether the stream's labels name the tenant.
    tenant_is_label: bool,
}

impl Resource<'_> {
    /// Moves its entries to the tenant's overflow stream; what were their labels becomes metadata.
    fn overflow(&mut self) {
        let mut labels = vec![format!("{OVERFLOW_LABEL}=\"true\"")];
        for (label, value) in std::mem::take(&mut self.pairs) {
            if label.attribute == TENANT {
                labels.push(format!("{}={}", label.label, quoted(&value)));
            } else if !self.metadata.has(&label.label) {
                self.metadata.pairs.push((Cow::Borrowed(label.label.as_str()), value));
            }
        }
        labels.sort();
        self.labels = format!("{{{}}}", labels.join(", "));
    }
}

/// The entries of one stream, in order of arrival.
struct Entries {
    policy: LokiEntries,
    /// What a record without a timestamp gets.
    now: u64,
    /// Timestamp, and where the entry stands in the output.
    places: Vec<(u64, Range<usize>)>,
}

impl Entries {
    /// Appends the records of one resource, sorted by time: Loki wants the entries of a stream in order.
    fn put(
        &mut self,
        request: &Reader<'_>,
        resource_logs: &Field<'_>,
        resource: &Resource<'_>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        self.places.clear();
        let begin = out.len();
        let mut fields = request.nested(resource_logs)?;
        while let Some(scope_logs) = fields.next_field()? {
            if scope_logs.number == SCOPES {
                self.put_scope(fields.nested(&scope_logs)?, resource, out, encoded)?;
            }
        }
        if !self.places.is_sorted_by_key(|(timestamp, _)| *timestamp) {
            self.places.sort_by_key(|(timestamp, _)| *timestamp);
            let arrived = out.split_off(begin);
            for (_, place) in &self.places {
                out.extend_from_slice(&arrived[place.start - begin..place.end - begin]);
            }
        }
        Ok(())
    }

    fn put_scope(
        &mut self,
        reader: Reader<'_>,
        resource: &Resource<'_>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let mut scope = Metadata::default();
        let mut fields = reader;
        while let Some(field) = fields.next_field()? {
            if field.number == SCOPE {
                read_scope(fields.nested(&field)?, &mut scope)?;
            }
        }
        let around = Surroundings::new(&scope, resource, self.policy);
        let mut names = AttributeNames::default();
        let mut record = Record::default();
        let mut fields = reader;
        while let Some(field) = fields.next_field()? {
            if field.number != ITEMS {
                continue;
            }
            record.read(fields.nested(&field)?)?;
            record.read_form(self.policy.log_form, encoded)?;
            let line = record.line(self.policy.log_form)?;
            let timestamp = record.timestamp(self.now);
            if line.len() <= self.policy.max_line_bytes {
                self.put_entry(&record, timestamp, &line, None, &around, &mut names, out, encoded)?;
                continue;
            }
            lines::shorten(&line, &around.limits, encoded, |delay, line, piece, encoded| {
                let timestamp = timestamp.saturating_add(delay);
                self.put_entry(&record, timestamp, line, piece, &around, &mut names, out, encoded)
            })?;
        }
        Ok(())
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn put_entry<'a>(
        &mut self,
        record: &Record<'a>,
        timestamp: u64,
        line: &[u8],
        piece: Option<Piece>,
        around: &Surroundings<'_>,
        names: &mut AttributeNames<'a>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let begin = out.len();
        let mut written = Ok(());
        put_message_field_of(ENTRY_BYTES, out, STREAM_ENTRIES, |out| {
            written = record.put(timestamp, line, piece, around, names, out, encoded);
        });
        self.places.push((timestamp, begin..out.len()));
        encoded.items += 1;
        written
    }
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
mod tests;
