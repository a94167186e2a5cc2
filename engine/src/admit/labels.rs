//! Limits on labels: how many attributes, how long their keys and values. What is over is refused, never cut: a cut label
//! is another label, and whoever counts by it counts wrong.
//!
//! Each list of attributes is held to the limits: of a resource, a scope and a metric (all their items go), of an item, and
//! of its events, links and exemplars (the item goes).

use crate::otlp::edit::EditList;
use crate::otlp::items::{retain, Level};
use crate::otlp::walk::{Extent, SHORT};
use crate::otlp::wire::{Field, Reader, WireError};
use crate::otlp::{any_value, log, metric, span, Signal, KEY, RESOURCE, RESOURCE_ATTRIBUTES, SCOPE, VALUE};
use crate::policy::LabelLimits;

const SCOPE_ATTRIBUTES: u32 = 3;
const EVENT_ATTRIBUTES: u32 = 3;
const LINK_ATTRIBUTES: u32 = 4;
const EXEMPLAR_ATTRIBUTES: u32 = 7;

impl LabelLimits {
    /// Whether a request whose attributes extend so far may hold anything over the limits.
    pub fn may_refuse(&self, extent: &Extent) -> bool {
        // What is shorter as a whole than a bound has no part that is over it.
        let longest_key = extent.longest_key.max(SHORT).min(extent.largest_attribute);
        extent.most_attributes > self.attributes()
            || longest_key > self.key_bytes()
            || extent.largest_attribute > self.value_bytes()
    }

    fn attributes(&self) -> usize {
        self.max_attributes.unwrap_or(usize::MAX)
    }

    fn key_bytes(&self) -> usize {
        self.max_attribute_key_bytes.unwrap_or(usize::MAX)
    }

    fn value_bytes(&self) -> usize {
        self.max_attribute_value_bytes.unwrap_or(usize::MAX)
    }
}

/// What an item over the limits has, as a client reads it.
impl std::fmt::Display for LabelLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limits = [
            ("attributes", self.max_attributes),
            ("bytes in an attribute's key", self.max_attribute_key_bytes),
            ("bytes in an attribute's value", self.max_attribute_value_bytes),
        ];
        let mut between = "more than ";
        for (what, limit) in limits {
            if let Some(limit) = limit {
                write!(f, "{between}{limit} {what}")?;
                between = " or ";
            }
        }
        Ok(())
    }
}

/// Collects the edits that remove every item over the limits from a validated request; returns how many.
pub fn refuse_items(
    signal: Signal,
    request: &[u8],
    limits: &LabelLimits,
    edits: &mut EditList,
) -> Result<u64, WireError> {
    retain(signal, request, edits, &mut |level, message| within(signal, level, message, limits))
}

/// Where the attributes of a message stand: its own, and those of messages inside (field of the message, field in it).
struct Lists {
    own: Option<u32>,
    nested: [Option<(u32, u32)>; 2],
}

fn lists(signal: Signal, level: Level) -> Lists {
    let exemplars = |number| [Some((number, EXEMPLAR_ATTRIBUTES)), None];
    let (own, nested) = match (level, signal) {
        (Level::Request | Level::Data(_), _) => (None, [None, None]),
        (Level::Resource, _) => (None, [Some((RESOURCE, RESOURCE_ATTRIBUTES)), None]),
        (Level::Scope, _) => (None, [Some((SCOPE, SCOPE_ATTRIBUTES)), None]),
        (Level::Metric, _) => (Some(metric::METADATA), [None, None]),
        (Level::Item(None), Signal::Logs) => (Some(log::ATTRIBUTES), [None, None]),
        (Level::Item(None), _) => {
            (Some(span::ATTRIBUTES), [Some((span::EVENTS, EVENT_ATTRIBUTES)), Some((span::LINKS, LINK_ATTRIBUTES))])
        }
        (Level::Item(Some(metric::HISTOGRAM)), _) => (Some(9), exemplars(8)),
        (Level::Item(Some(metric::EXPONENTIAL_HISTOGRAM)), _) => (Some(1), exemplars(11)),
        (Level::Item(Some(metric::SUMMARY)), _) => (Some(7), [None, None]),
        // NumberDataPoint
        (Level::Item(Some(_)), _) => (Some(7), exemplars(5)),
    };
    Lists { own, nested }
}

fn within(signal: Signal, level: Level, mut message: Reader<'_>, limits: &LabelLimits) -> Result<bool, WireError> {
    let lists = lists(signal, level);
    if lists.own.is_none() && lists.nested[0].is_none() {
        return Ok(true);
    }
    let mut attributes = 0;
    while let Some(field) = message.next_field()? {
        if lists.own == Some(field.number) {
            attributes += 1;
            if attributes > limits.attributes() || !attribute_within(&field, limits)? {
                return Ok(false);
            }
        }
        for (_, number) in lists.nested.iter().flatten().filter(|(outer, _)| *outer == field.number) {
            let mut inner = message.nested(&field)?;
            let mut attributes = 0;
            while let Some(field) = inner.next_field()? {
                if field.number != *number {
                    continue;
                }
                attributes += 1;
                if attributes > limits.attributes() || !attribute_within(&field, limits)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn attribute_within(attribute: &Field<'_>, limits: &LabelLimits) -> Result<bool, WireError> {
    let content = attribute.bytes()?;
    if content.len() <= limits.key_bytes().min(limits.value_bytes()) {
        return Ok(true);
    }
    let mut parts = Reader::new(content);
    while let Some(part) = parts.next_field()? {
        let fits = match part.number {
            KEY => part.bytes()?.len() <= limits.key_bytes(),
            VALUE => value_bytes(parts.nested(&part)?)? <= limits.value_bytes(),
            _ => true,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A text's or byte string's own length; of a list or map, that of its encoding. Numbers have none worth a limit.
fn value_bytes(mut value: Reader<'_>) -> Result<usize, WireError> {
    let mut longest = 0;
    while let Some(part) = value.next_field()? {
        if matches!(part.number, any_value::STRING | any_value::BYTES | any_value::ARRAY | any_value::KVLIST) {
            longest = longest.max(part.bytes()?.len());
        }
    }
    Ok(longest)
}

#[cfg(test)]
mod tests;
