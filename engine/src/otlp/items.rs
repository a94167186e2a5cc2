//! Choosing items of a request: which stay, by edits on the wire bytes; and how many fit into so many bytes.

use super::edit::EditList;
use super::wire::{Field, Reader, WireError};
use super::{metric, Signal, ITEMS, REQUEST_RESOURCES, SCOPES};
use std::ops::Range;

/// What a message of a request is, from the outside in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Request,
    /// ResourceSpans, ResourceMetrics, ResourceLogs.
    Resource,
    /// ScopeSpans, ScopeMetrics, ScopeLogs.
    Scope,
    Metric,
    /// Gauge, Sum and so on: the field of Metric that holds it.
    Data(u32),
    /// A span or a log record, or a point of the data in this field of Metric.
    Item(Option<u32>),
}

impl Level {
    /// What the field `number` of a message of this level holds, as far as there are items in it.
    pub(crate) fn child(self, signal: Signal, number: u32) -> Option<Level> {
        match (self, number) {
            (Level::Request, REQUEST_RESOURCES) => Some(Level::Resource),
            (Level::Resource, SCOPES) => Some(Level::Scope),
            (Level::Scope, ITEMS) if signal == Signal::Metrics => Some(Level::Metric),
            (Level::Scope, ITEMS) => Some(Level::Item(None)),
            (
                Level::Metric,
                metric::GAUGE | metric::SUM | metric::HISTOGRAM | metric::EXPONENTIAL_HISTOGRAM | metric::SUMMARY,
            ) => Some(Level::Data(number)),
            (Level::Data(data), metric::DATA_POINTS) => Some(Level::Item(Some(data))),
            _ => None,
        }
    }
}

/// Removes what `keep` refuses, with all that is in it, and every message whose items are all removed. Returns how many
/// items went.
///
/// `keep` is asked from the outside in; the messages inside of a removed one are not offered. `edits` must be empty; after
/// an error it is of no use.
pub fn retain(
    signal: Signal,
    request: &[u8],
    edits: &mut EditList,
    keep: &mut impl FnMut(Level, Reader<'_>) -> Result<bool, WireError>,
) -> Result<u64, WireError> {
    let mut removed = 0;
    retain_inside(signal, Level::Request, Reader::new(request), edits, keep, &mut removed)?;
    Ok(removed)
}

/// Whether anything inside went, and whether any item is left.
struct Inside {
    lost: bool,
    left: bool,
}

fn retain_inside(
    signal: Signal,
    level: Level,
    mut message: Reader<'_>,
    edits: &mut EditList,
    keep: &mut impl FnMut(Level, Reader<'_>) -> Result<bool, WireError>,
    removed: &mut u64,
) -> Result<Inside, WireError> {
    let mut inside = Inside { lost: false, left: false };
    while let Some(field) = message.next_field()? {
        let Some(child) = level.child(signal, field.number) else { continue };
        let content = message.nested(&field)?;
        if !keep(child, content)? {
            *removed += count(signal, child, content)?;
            edits.remove(&field);
            inside.lost = true;
            continue;
        }
        if let Level::Item(_) = child {
            inside.left = true;
            continue;
        }
        edits.enter(&field);
        let below = retain_inside(signal, child, content, edits, keep, removed)?;
        if below.lost && !below.left {
            edits.exit_and_remove(&field);
        } else {
            edits.exit();
        }
        inside.lost |= below.lost;
        inside.left |= below.left;
    }
    Ok(inside)
}

fn count(signal: Signal, level: Level, mut message: Reader<'_>) -> Result<u64, WireError> {
    if let Level::Item(_) = level {
        return Ok(1);
    }
    let mut items = 0;
    while let Some(field) = message.next_field()? {
        if let Some(child) = level.child(signal, field.number) {
            items += count(signal, child, message.nested(&field)?)?;
        }
    }
    Ok(items)
}

/// The first items of a request, and the bytes from its start to the end of the last of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub items: u64,
    pub bytes: u64,
}

/// The longest prefix of at most so many items and bytes; the whole request if it fits.
pub fn prefix_within(signal: Signal, request: &[u8], max_items: u64, max_bytes: u64) -> Result<Prefix, WireError> {
    let mut prefix = Prefix::default();
    let mut offer = |item: &Field<'_>| {
        let end = item.end as u64;
        let fits = prefix.items < max_items && end <= max_bytes;
        if fits {
            prefix = Prefix { items: prefix.items + 1, bytes: end };
        }
        fits
    };
    let all = offer_items(signal, Level::Request, Reader::new(request), &mut offer)?;
    if all && request.len() as u64 <= max_bytes {
        prefix.bytes = request.len() as u64;
    }
    Ok(prefix)
}

/// Offers items in order until one is refused; false then.
fn offer_items(
    signal: Signal,
    level: Level,
    mut message: Reader<'_>,
    offer: &mut impl FnMut(&Field<'_>) -> bool,
) -> Result<bool, WireError> {
    while let Some(field) = message.next_field()? {
        let Some(child) = level.child(signal, field.number) else { continue };
        let goes_on = match child {
            Level::Item(_) => offer(&field),
            _ => offer_items(signal, child, message.nested(&field)?, offer)?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Leaves out the items of these indices, which ascend; returns how many went.
pub fn leave_out(
    signal: Signal,
    request: &[u8],
    indices: &[Range<u64>],
    edits: &mut EditList,
) -> Result<u64, WireError> {
    let (mut index, mut rest) = (0, indices);
    retain(signal, request, edits, &mut |level, _| {
        let Level::Item(_) = level else { return Ok(true) };
        while rest.first().is_some_and(|range| range.end <= index) {
            rest = &rest[1..];
        }
        let keeps = !rest.first().is_some_and(|range| range.contains(&index));
        index += 1;
        Ok(keeps)
    })
}

/// Keeps the first `items`; returns how many went.
pub fn keep_first(signal: Signal, request: &[u8], items: u64, edits: &mut EditList) -> Result<u64, WireError> {
    leave_out(signal, request, std::slice::from_ref(&(items..u64::MAX)), edits)
}

#[cfg(test)]
mod tests;
