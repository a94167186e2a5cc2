//! Halves, so that of a request that a backend refuses only the bad item is lost.
//!
//! What describes an item (labels, resource, scope, a metric's name and type, and whatever this crate does not know) stands
//! around it in either half.

use super::schema::{Level, Role};
use super::{count_field, Format};
use crate::otlp::wire::{put_message_field_of, Field, Reader, WireError};

/// A request, and how many items it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    pub payload: Vec<u8>,
    pub items: u64,
}

/// How small the smaller half may be if it saves cutting a top-level message: a quarter. So 30 times halving finds any of
/// five thousand items.
const SMALLEST_SHARE: u64 = 4;

/// Two requests that hold the items of `payload` between them, in order; `None` if it holds at most one.
///
/// The cut is between top-level messages (TimeSeries, StreamAdapter, `Resource*`), where the items on both sides are as
/// equal in number as can be; inside one, in the middle of the items, if a side would be less than a quarter otherwise.
pub fn halve(format: Format, payload: &[u8]) -> Result<Option<(Half, Half)>, WireError> {
    let top = Level::of(format);
    let mut items = 0;
    let mut ends = Vec::new();
    let mut message = Reader::new(payload);
    while let Some(field) = message.next_field()? {
        items += count_field(top.role(field.number), &message, &field)?;
        ends.push(items);
    }
    if items < 2 {
        return Ok(None);
    }
    let smaller = |left: u64| left.min(items - left);
    let between = ends.into_iter().max_by_key(|&end| smaller(end)).unwrap_or_default();
    let left = if smaller(between) >= items.div_ceil(SMALLEST_SHARE) { between } else { items / 2 };
    let half = |is_left, items| {
        let mut out = Vec::with_capacity(payload.len() / 2);
        let side = Side { payload, is_left };
        side.put(top, Reader::new(payload), left, &mut out)?;
        Ok(Half { payload: out, items })
    };
    Ok(Some((half(true, left)?, half(false, items - left)?)))
}

/// One half in the making.
#[derive(Clone, Copy)]
struct Side<'p> {
    /// The whole request, which the readers read.
    payload: &'p [u8],
    is_left: bool,
}

impl Side<'_> {
    /// Appends this side's share of a message; its first `left` items are the left side's, and there are some on both.
    fn put(self, level: Level, message: Reader<'_>, left: u64, out: &mut Vec<u8>) -> Result<(), WireError> {
        let latest = latest_of_first(level, message, left)?;
        let mut before = 0;
        let mut fields = message;
        while let Some(field) = fields.next_field()? {
            let role = level.role(field.number);
            let items = count_field(role, &fields, &field)?;
            let ours = match role {
                Role::Around => true,
                Role::Dated(time) => (time_of(&fields, &field, time)? <= latest) == self.is_left,
                Role::Part(part) if before < left && left < before + items => {
                    let inside = fields.nested(&field)?;
                    let mut put = Ok(());
                    put_message_field_of(field.bytes()?.len() / 2, out, field.number, |out| {
                        put = self.put(part, inside, left - before, out);
                    });
                    put?;
                    false
                }
                // What holds no item goes with the items before it: an encoder writes metadata behind its series.
                Role::Beside | Role::Item(_) | Role::Part(_) => (before + items <= left) == self.is_left,
            };
            if ours {
                out.extend_from_slice(&self.payload[field.start..field.end]);
            }
            before += items;
        }
        Ok(())
    }
}

/// The latest time of the first `items` items of a message; the least one if they have none that matters.
fn latest_of_first(level: Level, mut message: Reader<'_>, items: u64) -> Result<i64, WireError> {
    let mut latest = i64::MIN;
    let mut seen = 0;
    while let Some(field) = message.next_field()? {
        match level.role(field.number) {
            Role::Item(Some(time)) if seen < items => {
                latest = latest.max(time_of(&message, &field, time)?);
                seen += 1;
            }
            Role::Item(_) | Role::Around | Role::Beside | Role::Dated(_) | Role::Part(_) => {}
        }
    }
    Ok(latest)
}

/// A timestamp that is a varint field of the message in `field`; 0 if it is not there.
fn time_of(around: &Reader<'_>, field: &Field<'_>, number: u32) -> Result<i64, WireError> {
    let mut time = 0;
    let mut fields = around.nested(field)?;
    while let Some(field) = fields.next_field()? {
        if field.number == number {
            time = field.varint()? as i64;
        }
    }
    Ok(time)
}
