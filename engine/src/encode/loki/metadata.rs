//! Structured metadata: the attributes that are no stream labels, as pairs of label name and text.

use std::borrow::Cow;

use super::{Resource, ENTRY_METADATA};
use crate::encode::remote_write::names::label_name;
use crate::encode::{Encoded, FormatLimit};
use crate::otlp::text::{for_each, AnyValue, KeyValue};
use crate::otlp::wire::{put_bytes_field, put_message_field, Reader, WireError};
use crate::otlp::MAX_DEPTH;
use crate::policy::LokiEntries;
use crate::resource::TENANT;

pub(super) const PAIR_NAME: u32 = 1;
pub(super) const PAIR_VALUE: u32 = 2;
/// The pair that says how many others an entry has lost to its limits, and the bytes that it may take.
const LEFT_OUT: &str = "metadata_left_out";
const LEFT_OUT_BYTES: usize = LEFT_OUT.len() + 20;
/// More pairs of one owner are not looked at: more than any entry may have, and some that come twice.
const MAX_COLLECTED: usize = 4096;
/// A pair of a longer name is left out. Each member of a map repeats the map's name, so that a long one would multiply.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// Names and values that go with an entry; the names are label names.
#[derive(Default)]
pub(super) struct Metadata<'a> {
    pub(super) pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// How many are not among them since they were too many, or their names too long.
    pub(super) left_out: u64,
}

impl<'a> Metadata<'a> {
    /// Adds an attribute; a map becomes one pair a member, the names joined by `_`.
    pub(super) fn flatten(&mut self, pair: KeyValue<'a>, depth: usize) -> Result<(), WireError> {
        if self.is_full() {
            self.left_out += 1;
            return Ok(());
        }
        let name = attribute_name(pair.key);
        self.flatten_as(name, pair.value, depth)
    }

    pub(super) fn flatten_as(
        &mut self,
        name: Cow<'a, str>,
        value: AnyValue<'a>,
        depth: usize,
    ) -> Result<(), WireError> {
        if let AnyValue::Map(map) = value {
            if depth < MAX_DEPTH {
                return for_each(map, |member| {
                    if self.is_full() || name.len() > MAX_NAME_BYTES {
                        self.left_out += 1;
                        return Ok(());
                    }
                    let member = KeyValue::read(member)?;
                    self.flatten_as(member_name(&name, member.key), member.value, depth + 1)
                });
            }
        }
        self.push(name, value.text()?);
        Ok(())
    }

    pub(super) fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        if name.len() > MAX_NAME_BYTES {
            self.left_out += 1;
        } else if !name.is_empty() && !value.is_empty() {
            self.pairs.push((name, value));
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pairs.len() >= MAX_COLLECTED
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }
}

/// The metadata around the records of one scope: the scope's and the resource's.
pub(super) struct Surroundings<'a> {
    pub(super) resource: &'a Resource<'a>,
    pub(super) limits: LokiEntries,
    /// What of them an entry may have at most, each name once, the scope's first.
    pub(super) kept: Vec<(&'a str, &'a str)>,
    /// The same, encoded, for records that have none of these names.
    pub(super) encoded: Vec<u8>,
    /// Names that came twice, and pairs that are too many for any entry.
    pub(super) collisions: u64,
    pub(super) left_out: u64,
    /// The scope claims another tenant.
    pub(super) claims_tenant: bool,
    /// It does, or has a name that a record's own field may take, or pairs had to be left out.
    pub(super) special: bool,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(scope: &'a Metadata<'a>, resource: &'a Resource<'a>, limits: LokiEntries) -> Self {
        let mut around = Surroundings {
            resource,
            limits,
            kept: Vec::new(),
            encoded: Vec::new(),
            collisions: 0,
            left_out: scope.left_out + resource.metadata.left_out,
            claims_tenant: false,
            special: false,
        };
        for (name, value) in scope.pairs.iter().chain(&resource.metadata.pairs) {
            if name == TENANT {
                around.claims_tenant |= value != resource.tenant;
            } else if around.kept.iter().any(|(known, _)| known == name) {
                around.collisions += 1;
            } else if around.kept.len() >= limits.max_metadata_pairs {
                around.left_out += 1;
            } else {
                around.special |= is_field_name(name);
                around.kept.push((name, value));
                put_pair(&mut around.encoded, name, value.as_bytes());
            }
        }
        around.special |= around.claims_tenant || around.left_out > 0;
        around
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.kept.iter().any(|(known, _)| *known == name)
    }
}

/// Holds an entry's metadata, which begins at `begin` and has `at_most` so many pairs, to its limits: ids and level come
/// first, and what does not fit is left out, never the line. `left_out` are already.
#[inline]
pub(super) fn limit(
    out: &mut Vec<u8>,
    begin: usize,
    at_most: usize,
    limits: &LokiEntries,
    left_out: u64,
    encoded: &mut Encoded,
) -> Result<(), WireError> {
    // Encoded, they are longer than their texts.
    let fit = left_out == 0 && at_most <= limits.max_metadata_pairs && out.len() - begin <= limits.max_metadata_bytes;
    if fit {
        return Ok(());
    }
    leave_out(out, begin, limits, left_out, encoded)
}

#[cold]
fn leave_out(
    out: &mut Vec<u8>,
    begin: usize,
    limits: &LokiEntries,
    mut left_out: u64,
    encoded: &mut Encoded,
) -> Result<(), WireError> {
    let pairs = encoded_pairs(&out[begin..])?;
    let text_bytes: usize = pairs.iter().map(|pair| pair.text_bytes).sum();
    if left_out == 0 && pairs.len() <= limits.max_metadata_pairs && text_bytes <= limits.max_metadata_bytes {
        return Ok(());
    }
    let whole = out.split_off(begin);
    let mut pairs_left = limits.max_metadata_pairs - 1;
    let mut bytes_left = limits.max_metadata_bytes.saturating_sub(LEFT_OUT_BYTES);
    for pair in encoded_pairs(&whole)? {
        if pairs_left > 0 && pair.text_bytes <= bytes_left && pair.name != LEFT_OUT.as_bytes() {
            pairs_left -= 1;
            bytes_left -= pair.text_bytes;
            out.extend_from_slice(pair.encoded);
        } else {
            left_out += 1;
        }
    }
    put_pair(out, LEFT_OUT, left_out.to_string().as_bytes());
    encoded.limit(FormatLimit::Metadata, left_out);
    Ok(())
}

struct EncodedPair<'a> {
    name: &'a [u8],
    /// Of name and value: what Loki's limit counts.
    text_bytes: usize,
    encoded: &'a [u8],
}

/// The pairs that stand one behind the other in `encoded`.
fn encoded_pairs(encoded: &[u8]) -> Result<Vec<EncodedPair<'_>>, WireError> {
    let mut pairs = Vec::new();
    let mut fields = Reader::new(encoded);
    while let Some(field) = fields.next_field()? {
        let mut pair = EncodedPair { name: b"", text_bytes: 0, encoded: &encoded[field.start..field.end] };
        let mut members = Reader::new(field.bytes()?);
        while let Some(member) = members.next_field()? {
            let text = member.bytes()?;
            pair.text_bytes += text.len();
            if member.number == PAIR_NAME {
                pair.name = text;
            }
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The name of a map's member.
pub(super) fn member_name(map: &str, key: &[u8]) -> Cow<'static, str> {
    Cow::Owned(format!("{map}_{}", attribute_name(key)))
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
