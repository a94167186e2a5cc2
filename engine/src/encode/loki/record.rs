//! Log records as entries of a stream.

use super::metadata::{attribute_name, is_field_name, put_pair, Metadata, Surroundings, PAIR_NAME, PAIR_VALUE};
use super::{ENTRY_LINE, ENTRY_METADATA, ENTRY_TIMESTAMP};
use crate::encode::Encoded;
use crate::otlp::log;
use crate::otlp::text::{put_hex, put_int, put_uint, AnyValue, KeyValue};
use crate::otlp::wire::{
    put_bytes_field, put_message_field, put_tag, put_varint, put_varint_field, varint_len, Reader, WireError,
};
use crate::resource::TENANT;

/// A log record, borrowed; reused from record to record.
#[derive(Default)]
pub(super) struct Record<'a> {
    pub(super) time: u64,
    pub(super) observed_time: u64,
    severity_number: u64,
    severity_text: &'a [u8],
    body: Option<AnyValue<'a>>,
    event_name: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    flags: u32,
    attributes: Vec<KeyValue<'a>>,
}

impl<'a> Record<'a> {
    pub(super) fn read(&mut self, mut fields: Reader<'a>) -> Result<(), WireError> {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = Record { attributes, ..Record::default() };
        while let Some(field) = fields.next_field()? {
            match field.number {
                log::TIME => self.time = field.fixed64()?,
                log::OBSERVED_TIME => self.observed_time = field.fixed64()?,
                log::SEVERITY_NUMBER => self.severity_number = field.varint()?,
                log::SEVERITY_TEXT => self.severity_text = field.bytes()?,
                log::BODY => self.body = Some(AnyValue::read(field.bytes()?)?),
                log::ATTRIBUTES => self.attributes.push(KeyValue::read(field.bytes()?)?),
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
    /// `names` is kept from record to record.
    pub(super) fn put(
        &self,
        timestamp: u64,
        around: &Surroundings<'_>,
        names: &mut AttributeNames<'a>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        put_message_field(out, ENTRY_TIMESTAMP, |out| {
            put_varint_field(out, 1, timestamp / 1_000_000_000);
            put_varint_field(out, 2, timestamp % 1_000_000_000);
        });
        match self.body {
            Some(AnyValue::String(text)) => put_bytes_field(out, ENTRY_LINE, text),
            Some(body) if body != AnyValue::Empty => put_bytes_field(out, ENTRY_LINE, &body.text_bytes()?),
            // A record without a body is an event: its name is what happened.
            _ => put_bytes_field(out, ENTRY_LINE, self.event_name),
        }
        self.put_own_fields(timestamp, out);
        if !around.resource.tenant_is_label {
            put_pair(out, TENANT, around.resource.tenant.as_bytes());
        }
        if names.are_of(&self.attributes, around) {
            names.put(&self.attributes, out)?;
            out.extend_from_slice(&around.encoded);
            encoded.label_collisions += around.collisions;
            return Ok(());
        }
        self.put_one_by_one(timestamp, around, out, encoded)
    }

    /// The metadata where names collide, values are maps, or a tenant is claimed.
    fn put_one_by_one(
        &self,
        timestamp: u64,
        around: &Surroundings<'_>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        let mut attributes = Metadata::default();
        for &attribute in &self.attributes {
            attributes.flatten(attribute, 0)?;
        }
        let mut claims_tenant = false;
        let nearest_first = [&attributes, around.scope, &around.resource.metadata];
        for (level, metadata) in nearest_first.iter().enumerate() {
            for (index, (name, value)) in metadata.pairs.iter().enumerate() {
                if name == TENANT {
                    // The tenant is who proved to be it, whatever stands in the payload.
                    claims_tenant |= value != around.resource.tenant;
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
        for (id, name) in [(self.trace_id, "trace_id"), (self.span_id, "span_id")] {
            if !id.is_empty() {
                put_written_pair(out, name, |out| put_hex(out, id));
            }
        }
        if !self.severity_text.is_empty() {
            put_pair(out, "severity_text", self.severity_text);
        }
        let observed_time = if self.observed_time == timestamp { 0 } else { self.observed_time };
        for (value, name) in [
            (self.severity_number, "severity_number"),
            (u64::from(self.flags), "flags"),
            (observed_time, "observed_timestamp"),
        ] {
            if value > 0 {
                put_written_pair(out, name, |out| match i64::try_from(value) {
                    Ok(value) => put_int(out, value),
                    Err(_) => put_uint(out, value),
                });
            }
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

/// The names of a record's attributes. Records that follow each other mostly have the same keys: their names are made,
/// and looked for in what is around them, once.
#[derive(Default)]
pub(super) struct AttributeNames<'a> {
    keys: Vec<&'a [u8]>,
    /// LabelPair.name of each key, one behind the other, and where each ends.
    encoded: Vec<u8>,
    ends: Vec<usize>,
    /// Each is a name of its own: nobody else has it, and it is not the tenant's.
    distinct: bool,
}

impl<'a> AttributeNames<'a> {
    /// Whether [`AttributeNames::put`] is right for these attributes.
    fn are_of(&mut self, attributes: &[KeyValue<'a>], around: &Surroundings<'_>) -> bool {
        if around.special {
            return false;
        }
        let same = self.keys.len() == attributes.len()
            && self.keys.iter().zip(attributes).all(|(key, attribute)| *key == attribute.key);
        if !same {
            self.keys.clear();
            self.keys.extend(attributes.iter().map(|attribute| attribute.key));
            self.read_keys(around);
        }
        self.distinct && attributes.iter().all(|attribute| is_plain(attribute.value))
    }

    fn read_keys(&mut self, around: &Surroundings<'_>) {
        let names: Vec<_> = self.keys.iter().map(|key| attribute_name(key)).collect();
        self.encoded.clear();
        self.ends.clear();
        self.distinct = true;
        for (index, name) in names.iter().enumerate() {
            let taken = names[..index].contains(name) || around.has(name);
            self.distinct &= !(taken || name.is_empty() || name == TENANT || is_field_name(name));
            put_bytes_field(&mut self.encoded, PAIR_NAME, name.as_bytes());
            self.ends.push(self.encoded.len());
        }
    }

    fn put(&self, attributes: &[KeyValue<'_>], out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut begin = 0;
        for (attribute, &end) in attributes.iter().zip(&self.ends) {
            let (name, value) = (&self.encoded[begin..end], attribute.value.text_bytes()?);
            begin = end;
            put_tag(out, ENTRY_METADATA, 2);
            put_varint(out, (name.len() + 1 + varint_len(value.len() as u64) + value.len()) as u64);
            out.extend_from_slice(name);
            put_bytes_field(out, PAIR_VALUE, &value);
        }
        Ok(())
    }
}

/// Whether a value is one pair, with text in it.
fn is_plain(value: AnyValue<'_>) -> bool {
    match value {
        AnyValue::String(text) | AnyValue::Bytes(text) => !text.is_empty(),
        AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) | AnyValue::Array(_) => true,
        AnyValue::Empty | AnyValue::Map(_) => false,
    }
}

/// A pair whose value, of fewer than 128 bytes mostly, `write` appends.
fn put_written_pair(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    put_message_field(out, ENTRY_METADATA, |out| {
        put_bytes_field(out, PAIR_NAME, name.as_bytes());
        put_message_field(out, PAIR_VALUE, write);
    });
}
