//! Log records as entries of a stream.

use std::borrow::Cow;

use super::log_form::Form;
use super::metadata::{
    self, attribute_name, is_field_name, put_pair, Metadata, Surroundings, MAX_NAME_BYTES, PAIR_NAME, PAIR_VALUE,
};
use super::{ENTRY_LINE, ENTRY_METADATA, ENTRY_TIMESTAMP};
use crate::encode::Encoded;
use crate::otlp::log;
use crate::otlp::text::{put_hex, put_int, put_uint, AnyValue, KeyValue};
use crate::otlp::wire::{
    put_bytes_field, put_message_field, put_tag, put_varint, put_varint_field, varint_len, Reader, WireError,
};
use crate::policy::LogForm;
use crate::resource::TENANT;

/// How many pairs a record's own fields may be, the tenant's among them.
const MAX_OWN_PAIRS: usize = 12;

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
    /// What the body says, if it is a JSON log line.
    form: Option<Box<Form<'a>>>,
}

/// Where a piece stands of a line that became several.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// From 1.
    pub(super) number: usize,
    pub(super) of: usize,
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

    /// Looks into the body, if it is to be.
    #[inline]
    pub(super) fn read_form(&mut self, log_form: LogForm, encoded: &mut Encoded) -> Result<(), WireError> {
        match self.body {
            Some(body) if log_form != LogForm::Off && Form::may_be(body) => {
                self.form = Form::of(body, encoded)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When it happened, Unix nanoseconds; else when it was seen; else `now`.
    #[inline]
    pub(super) fn timestamp(&self, now: u64) -> u64 {
        let written = self.form.as_ref().map_or(0, |form| form.time);
        [self.time, written, self.observed_time].into_iter().find(|time| *time > 0).unwrap_or(now)
    }

    #[inline]
    pub(super) fn line(&self, log_form: LogForm) -> Result<Cow<'_, [u8]>, WireError> {
        match (self.body, &self.form) {
            (_, Some(form)) if log_form == LogForm::Message => Ok(Cow::Borrowed(form.message.as_bytes())),
            (Some(body), _) if body != AnyValue::Empty => body.text_bytes(),
            // A record without a body is an event: its name is what happened.
            _ => Ok(Cow::Borrowed(self.event_name)),
        }
    }

    /// Appends an EntryAdapter. Of a name that comes more than once the record's own field is written, else the nearest.
    /// Of a line in pieces, the first has all metadata, the others what finds them. `names` is kept from record to record.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn put(
        &self,
        timestamp: u64,
        line: &[u8],
        piece: Option<Piece>,
        around: &Surroundings<'_>,
        names: &mut AttributeNames<'a>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(), WireError> {
        put_message_field(out, ENTRY_TIMESTAMP, |out| {
            put_varint_field(out, 1, timestamp / 1_000_000_000);
            put_varint_field(out, 2, timestamp % 1_000_000_000);
        });
        put_bytes_field(out, ENTRY_LINE, line);
        let begin = out.len();
        self.put_ids(out);
        if let Some(piece) = piece {
            put_pair(out, "part", format!("{}/{}", piece.number, piece.of).as_bytes());
        }
        if !around.resource.tenant_is_label {
            put_pair(out, TENANT, around.resource.tenant.as_bytes());
        }
        if piece.is_some_and(|piece| piece.number > 1) {
            return Ok(());
        }
        self.put_own_fields(timestamp, out);
        if self.form.is_none() && piece.is_none() && names.are_of(&self.attributes, around) {
            names.put(&self.attributes, out)?;
            out.extend_from_slice(&around.encoded);
            encoded.label_collisions += around.collisions;
            let at_most = MAX_OWN_PAIRS + self.attributes.len() + around.kept.len();
            return metadata::limit(out, begin, at_most, &around.limits, 0, encoded);
        }
        let (pairs, left_out) = self.put_one_by_one(timestamp, piece, around, out, encoded)?;
        metadata::limit(out, begin, MAX_OWN_PAIRS + pairs, &around.limits, left_out, encoded)
    }

    /// The metadata where names collide, values are maps, a tenant is claimed, or the body says more. Returns how many
    /// pairs are written, and how many are too many for any entry.
    fn put_one_by_one(
        &self,
        timestamp: u64,
        piece: Option<Piece>,
        around: &Surroundings<'_>,
        out: &mut Vec<u8>,
        encoded: &mut Encoded,
    ) -> Result<(usize, u64), WireError> {
        let mut attributes = Metadata::default();
        for &attribute in &self.attributes {
            attributes.flatten(attribute, 0)?;
        }
        let nothing = Metadata::default();
        let of_form = self.form.as_ref().map_or(&nothing, |form| &form.metadata);
        let mut claims_tenant =
            around.claims_tenant || self.form.as_ref().is_some_and(|form| form.claims(around.resource.tenant));
        let mut left_out = attributes.left_out + of_form.left_out + around.left_out;
        encoded.label_collisions += around.collisions;
        let own = attributes.pairs.iter().chain(&of_form.pairs).map(|(name, value)| (&**name, &**value));
        let service = self.form.as_ref().and_then(|form| form.other_service(around.resource));
        let mut kept: Vec<&str> = Vec::new();
        for (name, value) in own.chain(service).chain(around.kept.iter().copied()) {
            if name == TENANT {
                // The tenant is who proved to be it, whatever stands in the payload.
                claims_tenant |= value != around.resource.tenant;
            } else if kept.contains(&name) || self.has_field(name, timestamp) || (piece.is_some() && name == "part") {
                encoded.label_collisions += 1;
            } else if kept.len() >= around.limits.max_metadata_pairs {
                left_out += 1;
            } else {
                kept.push(name);
                put_pair(out, name, value.as_bytes());
            }
        }
        encoded.tenant_claims += u64::from(claims_tenant);
        Ok((kept.len(), left_out))
    }

    /// What finds the record, of bounded size: a line in pieces repeats it.
    #[inline]
    fn put_ids(&self, out: &mut Vec<u8>) {
        for (id, name) in [(self.trace_id, "trace_id"), (self.span_id, "span_id")] {
            if !id.is_empty() {
                put_written_pair(out, name, |out| put_hex(out, id));
            }
        }
        if let Some(form) = &self.form {
            self.put_ids_of(form, out);
        }
    }

    #[inline]
    fn put_own_fields(&self, timestamp: u64, out: &mut Vec<u8>) {
        let (mut severity_text, mut severity_number) = (self.severity_text, self.severity_number);
        if let Some(form) = self.form.as_ref().filter(|_| self.has_no_severity()) {
            (severity_text, severity_number) = (form.level.as_bytes(), form.severity_number());
        }
        if !severity_text.is_empty() {
            put_pair(out, "severity_text", severity_text);
        }
        let observed_time = if self.observed_time == timestamp { 0 } else { self.observed_time };
        for (value, name) in [
            (severity_number, "severity_number"),
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

    /// Ids and level that only the body says.
    #[cold]
    fn put_ids_of(&self, form: &Form<'_>, out: &mut Vec<u8>) {
        let trace_id = if self.trace_id.is_empty() { form.trace_id.as_str() } else { "" };
        let span_id = if self.span_id.is_empty() { form.span_id.as_str() } else { "" };
        for (name, value) in
            [("trace_id", trace_id), ("span_id", span_id), ("level", &form.level), ("request_id", &form.request_id)]
        {
            if !value.is_empty() {
                put_pair(out, name, value.as_bytes());
            }
        }
    }

    fn has_no_severity(&self) -> bool {
        self.severity_text.is_empty() && self.severity_number == 0
    }

    /// Whether [`Record::put_ids`] or [`Record::put_own_fields`] writes a pair of this name.
    fn has_field(&self, name: &str, timestamp: u64) -> bool {
        let form = |of: fn(&Form<'_>) -> bool| self.form.as_deref().is_some_and(of);
        match name {
            "trace_id" => !self.trace_id.is_empty() || form(|form| !form.trace_id.is_empty()),
            "span_id" => !self.span_id.is_empty() || form(|form| !form.span_id.is_empty()),
            "level" => form(|form| !form.level.is_empty()),
            "request_id" => form(|form| !form.request_id.is_empty()),
            "severity_text" => {
                !self.severity_text.is_empty() || (self.has_no_severity() && form(|form| !form.level.is_empty()))
            }
            "severity_number" => {
                self.severity_number > 0 || (self.has_no_severity() && form(|form| form.severity_number() > 0))
            }
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
        // Of more than an entry may have, the names are not compared with each other.
        if around.special || attributes.len() > around.limits.max_metadata_pairs {
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
            let is_plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
            self.distinct &= is_plain && !(taken || name == TENANT || is_field_name(name));
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
