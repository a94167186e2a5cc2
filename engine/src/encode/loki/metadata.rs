//! Structured metadata: the attributes that are no stream labels, as pairs of label name and text.

use std::borrow::Cow;

use super::{Resource, ENTRY_METADATA};
use crate::encode::remote_write::names::label_name;
use crate::otlp::text::{for_each, AnyValue, KeyValue};
use crate::otlp::wire::{put_bytes_field, put_message_field, WireError};
use crate::otlp::MAX_DEPTH;
use crate::resource::TENANT;

pub(super) const PAIR_NAME: u32 = 1;
pub(super) const PAIR_VALUE: u32 = 2;

/// Names and values that go with an entry; the names are label names.
#[derive(Default)]
pub(super) struct Metadata<'a> {
    pub(super) pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Metadata<'a> {
    /// Adds an attribute; a map becomes one pair a member, the names joined by `_`.
    pub(super) fn flatten(&mut self, pair: KeyValue<'a>, depth: usize) -> Result<(), WireError> {
        let name = attribute_name(pair.key);
        self.flatten_as(name, pair.value, depth)
    }

    fn flatten_as(&mut self, name: Cow<'a, str>, value: AnyValue<'a>, depth: usize) -> Result<(), WireError> {
        if let AnyValue::Map(map) = value {
            if depth < MAX_DEPTH {
                return for_each(map, |member| {
                    let member = KeyValue::read(member)?;
                    let inner = attribute_name(member.key);
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

    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }
}

/// The metadata around the records of one scope: the scope's and the resource's.
pub(super) struct Surroundings<'a> {
    pub(super) scope: &'a Metadata<'a>,
    pub(super) resource: &'a Resource<'a>,
    /// For records that have none of these names: encoded once, and the names that came twice.
    pub(super) encoded: Vec<u8>,
    pub(super) collisions: u64,
    /// The scope claims another tenant, or has a name that a record's own field may take.
    pub(super) special: bool,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(scope: &'a Metadata<'a>, resource: &'a Resource<'a>) -> Self {
        let mut around = Surroundings { scope, resource, encoded: Vec::new(), collisions: 0, special: false };
        for (level, metadata) in [scope, &resource.metadata].into_iter().enumerate() {
            for (index, (name, value)) in metadata.pairs.iter().enumerate() {
                if name == TENANT {
                    around.special |= value != resource.tenant;
                    continue;
                }
                around.special |= is_field_name(name);
                if metadata.pairs[..index].iter().any(|(known, _)| known == name) || (level > 0 && scope.has(name)) {
                    around.collisions += 1;
                } else {
                    put_pair(&mut around.encoded, name, value.as_bytes());
                }
            }
        }
        around
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.scope.has(name) || self.resource.metadata.has(name)
    }
}

pub(super) fn attribute_name(key: &[u8]) -> Cow<'_, str> {
    label_name(std::str::from_utf8(key).unwrap_or_default())
}

/// Whether a record's own field, if it is set, has this name.
pub(super) fn is_field_name(name: &str) -> bool {
    matches!(
        name,
        "trace_id" | "span_id" | "severity_text" | "severity_number" | "flags" | "observed_timestamp" | "event_name"
    )
}

#[inline]
pub(super) fn put_pair(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    put_message_field(out, ENTRY_METADATA, |out| {
        put_bytes_field(out, PAIR_NAME, name.as_bytes());
        put_bytes_field(out, PAIR_VALUE, value);
    });
}
