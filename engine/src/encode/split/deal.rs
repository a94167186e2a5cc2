//! Shares of shards, so that several requests of one tenant can be under way and what has an order keeps it.

use std::hash::Hasher;
use std::ops::Range;

use siphasher::sip::SipHasher13;

use super::schema::{Level, Role};
use super::{count, Format};
use crate::otlp::wire::{Reader, WireError};

/// Says whose items a top-level message holds: the labels of a TimeSeries, the labels of a StreamAdapter, the resource of
/// `Resource*`. It is field 1 in each, repeated in the first.
const IDENTITY: u32 = 1;

/// The key of SipHash-1-3. Fixed, and part of the queue's format: what is queued before a restart and what comes after it
/// must be in the same shard. Who chooses labels to crowd one shard crowds a shard of his own tenant.
const KEY: [u8; 16] = *b"telemetry shards";

/// What one shard gets of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// From 0.
    pub shard: usize,
    pub payload: Vec<u8>,
    /// More than none, unless the whole request has none.
    pub items: u64,
}

/// Messages of one shard that stand next to each other.
struct Run {
    shard: usize,
    place: Range<usize>,
    items: u64,
}

/// Deals the top-level messages of a request to `shards` shards, more than none: a series, a stream or a resource goes to
/// the same one always, in the order of the request. What holds no item goes where the message before it goes.
///
/// In order of the shards; those that get nothing are left out.
pub fn deal(format: Format, shards: usize, payload: Vec<u8>) -> Result<Vec<Dealt>, WireError> {
    let runs = runs(format, shards, &payload)?;
    let items = runs.iter().map(|run| run.items).sum();
    let Some(first) = runs.first() else {
        return Ok(vec![Dealt { shard: 0, payload, items }]);
    };
    if runs.iter().all(|run| run.shard == first.shard) {
        return Ok(vec![Dealt { shard: first.shard, payload, items }]);
    }
    let mut sizes = vec![0; shards];
    for run in &runs {
        sizes[run.shard] += run.place.len();
    }
    let empty = |(shard, size)| Dealt { shard, payload: Vec::with_capacity(size), items: 0 };
    let mut dealt: Vec<Dealt> = sizes.into_iter().enumerate().map(empty).collect();
    for run in runs {
        let share = &mut dealt[run.shard];
        share.payload.extend_from_slice(&payload[run.place]);
        share.items += run.items;
    }
    dealt.retain(|share| !share.payload.is_empty());
    Ok(dealt)
}

/// They join to the whole payload.
fn runs(format: Format, shards: usize, payload: &[u8]) -> Result<Vec<Run>, WireError> {
    let top = Level::of(format);
    let mut runs: Vec<Run> = Vec::new();
    let mut message = Reader::new(payload);
    while let Some(field) = message.next_field()? {
        let next = match top.role(field.number) {
            Role::Part(part) => {
                let inside = message.nested(&field)?;
                let items = count(part, inside)?;
                (items > 0).then(|| shard_of(payload, inside, shards).map(|shard| (shard, items))).transpose()?
            }
            Role::Around | Role::Beside | Role::Dated(_) | Role::Item(_) => None,
        };
        match (runs.last_mut(), next) {
            (Some(last), None) => last.place.end = field.end,
            (Some(last), Some((shard, items))) if last.shard == shard => {
                last.place.end = field.end;
                last.items += items;
            }
            (Some(_), Some((shard, items))) => runs.push(Run { shard, place: field.start..field.end, items }),
            // What stands before the first message goes with it.
            (None, Some((shard, items))) => runs.push(Run { shard, place: 0..field.end, items }),
            (None, None) => {}
        }
    }
    Ok(runs)
}

/// By what identifies the message, as it is encoded.
fn shard_of(payload: &[u8], mut message: Reader<'_>, shards: usize) -> Result<usize, WireError> {
    let mut hasher = SipHasher13::new_with_key(&KEY);
    // Labels stand next to each other: they are hashed at once.
    let mut identity = 0..0;
    while let Some(field) = message.next_field()? {
        if field.number != IDENTITY {
            continue;
        }
        if field.start != identity.end {
            hasher.write(&payload[identity]);
            identity = field.start..field.start;
        }
        identity.end = field.end;
    }
    hasher.write(&payload[identity]);
    // The remainder is below `shards`.
    Ok((hasher.finish() % shards.max(1) as u64) as usize)
}
