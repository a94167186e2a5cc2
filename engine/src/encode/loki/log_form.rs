//! The JSON log line: `{"timestamp", "level", "service", "tenant_id", "request_id", "message", "metadata"}` as a body.
//!
//! A text or a map with a `message` and a `timestamp` or `level` is one. What it says becomes what Loki finds: level and
//! ids in front, `metadata` and all other members as structured metadata, as attributes are. The record's own fields
//! come first; the line's are for records that have none.

use std::borrow::Cow;

use super::metadata::{attribute_name, Metadata};
use super::Resource;
use crate::encode::{Encoded, FormatLimit};
use crate::otlp::text::{for_each, AnyValue, KeyValue};
use crate::otlp::wire::WireError;

mod json;
mod time;

/// A longer body is not looked into.
const MAX_BODY_BYTES: usize = 256 << 10;
/// A longer level or request id is none.
const MAX_ID_BYTES: usize = 256;

/// What a body says.
#[derive(Default)]
pub(super) struct Form<'a> {
    /// Unix nanoseconds; 0: none.
    pub(super) time: u64,
    pub(super) message: Cow<'a, str>,
    /// As it is written.
    pub(super) level: Cow<'a, str>,
    pub(super) request_id: Cow<'a, str>,
    /// Lower-case hexadecimal digits.
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) metadata: Metadata<'a>,
    service: Cow<'a, str>,
    tenant: Cow<'a, str>,
    has_timestamp: bool,
}

impl<'a> Form<'a> {
    /// Whether it is worth a look.
    #[inline]
    pub(super) fn may_be(body: AnyValue<'_>) -> bool {
        match body {
            AnyValue::String(text) => matches!(text.first(), Some(b'{' | b' ' | b'\t' | b'\r' | b'\n')),
            AnyValue::Map(_) => true,
            _ => false,
        }
    }

    /// `None`: the body is none.
    #[cold]
    pub(super) fn of(body: AnyValue<'a>, encoded: &mut Encoded) -> Result<Option<Box<Form<'a>>>, WireError> {
        let members = match body {
            AnyValue::String(text) if text.trim_ascii_start().first() == Some(&b'{') => {
                // Most JSON is of another form: that is seen without reading it.
                if memchr::memmem::find(text, b"\"message\"").is_none() {
                    return Ok(None);
                }
                if text.len() > MAX_BODY_BYTES {
                    encoded.limit(FormatLimit::LogForm, 1);
                    return Ok(None);
                }
                json::members(text)
            }
            AnyValue::Map(map) => Some(members_of_map(map)?),
            _ => None,
        };
        Ok(members.and_then(Form::of_members).map(Box::new))
    }

    fn of_members(members: Members<'a>) -> Option<Form<'a>> {
        let mut form = Form { metadata: members.metadata, ..Form::default() };
        for (key, value) in members.named {
            match key {
                "timestamp" => {
                    form.time = time::unix_nanos(&value).unwrap_or(0);
                    form.has_timestamp = true;
                    if form.time == 0 {
                        form.metadata.pairs.push((key.into(), value));
                    }
                }
                "message" => form.message = value,
                "level" if value.len() <= MAX_ID_BYTES => form.level = value,
                "service" => form.service = value,
                "tenant_id" => form.tenant = value,
                "request_id" if value.len() <= MAX_ID_BYTES => form.request_id = value,
                "trace_id" if is_hex(&value, 32) => form.trace_id = value.to_ascii_lowercase(),
                "span_id" if is_hex(&value, 16) => form.span_id = value.to_ascii_lowercase(),
                // Not what it should be: a value like any other.
                _ => form.metadata.pairs.push((key.into(), value)),
            }
        }
        if form.trace_id.is_empty() && is_hex(&form.request_id, 32) {
            form.trace_id = form.request_id.to_ascii_lowercase();
        }
        let is_log_line = !form.message.is_empty() && (form.has_timestamp || !form.level.is_empty());
        is_log_line.then_some(form)
    }

    /// Whether it names another tenant than the one who sent it.
    pub(super) fn claims(&self, tenant: &str) -> bool {
        !self.tenant.is_empty() && self.tenant != tenant
    }

    /// The service, as metadata, if it is another than the resource's. Where a stream label has that name, it gets the
    /// one that Loki gives such metadata in queries.
    pub(super) fn other_service(&self, resource: &Resource<'_>) -> Option<(&str, &str)> {
        let is_label = resource.pairs.iter().any(|(label, _)| label.label == "service");
        let name = if is_label { "service_extracted" } else { "service" };
        let is_other = !self.service.is_empty() && self.service != resource.service;
        is_other.then_some((name, &*self.service))
    }

    /// OpenTelemetry's number of the level; 0: unknown. Source: logs data model, appendix B.
    pub(super) fn severity_number(&self) -> u64 {
        const NUMBERS: [(&str, u64); 16] = [
            ("trace", 1),
            ("debug", 5),
            ("info", 9),
            ("information", 9),
            ("informational", 9),
            ("notice", 10),
            ("warn", 13),
            ("warning", 13),
            ("error", 17),
            ("err", 17),
            ("critical", 18),
            ("crit", 18),
            ("alert", 19),
            ("fatal", 21),
            ("emergency", 21),
            ("panic", 21),
        ];
        NUMBERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.level)).map_or(0, |(_, number)| *number)
    }
}

/// The members of an object: the scalars under the form's names, and all else as metadata.
#[derive(Default)]
struct Members<'a> {
    named: Vec<(&'static str, Cow<'a, str>)>,
    metadata: Metadata<'a>,
}

impl Members<'_> {
    /// Whether a member is not read any more, and counted as left out.
    fn leaves_out(&mut self, key: &[u8]) -> bool {
        let leaves_out = self.metadata.is_full() && name_of(key).is_none();
        self.metadata.left_out += u64::from(leaves_out);
        leaves_out
    }

    /// Behind a member has been read into the metadata, where it begins at `from`: if it is one pair under a name of the form,
    /// it is no metadata.
    fn take_named(&mut self, key: &[u8], from: usize) {
        let Some(name) = name_of(key) else { return };
        if self.metadata.pairs.len() == from + 1 && self.metadata.pairs[from].0 == name {
            if let Some((_, value)) = self.metadata.pairs.pop() {
                self.named.push((name, value));
            }
        }
    }
}

/// The form's own name that a key is.
fn name_of(key: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 8] =
        ["timestamp", "message", "level", "service", "tenant_id", "request_id", "trace_id", "span_id"];
    NAMES.into_iter().find(|name| name.as_bytes() == key)
}

fn members_of_map(map: &[u8]) -> Result<Members<'_>, WireError> {
    let mut members = Members::default();
    for_each(map, |member| {
        let KeyValue { key, value } = KeyValue::read(member)?;
        if members.leaves_out(key) {
            return Ok(());
        }
        let from = members.metadata.pairs.len();
        match value {
            AnyValue::Map(inner) if key == b"metadata" => {
                for_each(inner, |member| members.metadata.flatten(KeyValue::read(member)?, 1))?;
            }
            _ => members.metadata.flatten_as(attribute_name(key), value, 0)?,
        }
        members.take_named(key, from);
        Ok(())
    })?;
    Ok(members)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.bytes().any(|byte| byte != b'0')
}
