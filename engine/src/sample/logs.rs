//! Which log records stay. A record of a trace goes with its trace; another by a hash of its bytes.
//!
//! A log record has no tracestate; the threshold it has passed stands in the attribute that the Collector's probabilistic
//! sampler writes: `sampling.threshold`, hexadecimal digits as in `th`.

use super::tracestate::{hexadecimal_threshold, write_threshold};
use super::{randomness_of, remove_items, Threshold, MAX_THRESHOLD};
use crate::otlp::edit::EditList;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field, Field, Reader, WireError};
use crate::otlp::{any_value, log, KEY, VALUE};

pub(super) const THRESHOLD_KEY: &[u8] = b"sampling.threshold";

/// Removes the records that do not pass `threshold`; returns how many. As `sample` for spans.
pub fn sample_logs(request: &[u8], threshold: Threshold, edits: &mut EditList) -> Result<u64, WireError> {
    if threshold == Threshold::KEEP_ALL {
        return Ok(0);
    }
    remove_items(request, edits, |record, fields, edits| keep_record(record, fields, threshold, edits))
}

/// Whether the record stays; writes the threshold that it has passed.
fn keep_record(
    record: &Field<'_>,
    mut fields: Reader<'_>,
    threshold: Threshold,
    edits: &mut EditList,
) -> Result<bool, WireError> {
    let mut trace_id: &[u8] = &[];
    let mut published: Option<(Field<'_>, u64)> = None;
    while let Some(field) = fields.next_field()? {
        match field.number {
            log::TRACE_ID => trace_id = field.bytes()?,
            log::ATTRIBUTES => {
                let pair = KeyValue::read(field.bytes()?)?;
                if pair.key == THRESHOLD_KEY {
                    let passed = hexadecimal_threshold(pair.value.text()?.as_bytes()).unwrap_or(0);
                    published = Some((field, passed));
                }
            }
            _ => {}
        }
    }
    // An all-zero trace id is none.
    let of_trace = randomness_of(trace_id).filter(|_| trace_id.iter().any(|&byte| byte != 0));
    let randomness = of_trace.map_or_else(|| Ok(hash(record.bytes()?)), Ok)?;
    let passed = published.map_or(0, |(_, passed)| passed);
    if randomness < threshold.bits().max(passed) {
        return Ok(false);
    }
    if passed >= threshold.bits() {
        return Ok(true);
    }
    edits.enter(record);
    if let Some((field, _)) = published {
        edits.remove(&field);
    }
    edits.insert(record.end, |out| {
        put_message_field(out, log::ATTRIBUTES, |out| {
            put_bytes_field(out, KEY, THRESHOLD_KEY);
            let mut digits = Vec::with_capacity(14);
            write_threshold(threshold.bits(), &mut digits);
            put_message_field(out, VALUE, |out| put_bytes_field(out, any_value::STRING, &digits));
        });
    });
    edits.exit();
    Ok(true)
}

/// 56 well-mixed bits of a record: the same bytes have the same, on every replica. (splitmix64's finaliser over each word.)
fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    let mut mix = |word: u64| {
        let mut mixed = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        state = mixed ^ mixed >> 31;
    };
    for word in words.by_ref() {
        mix(word.try_into().map_or(0, u64::from_le_bytes));
    }
    let rest = words.remainder().iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    mix(rest);
    state & (MAX_THRESHOLD - 1)
}

#[cfg(test)]
mod tests;
