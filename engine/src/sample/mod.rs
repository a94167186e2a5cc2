//! Sampling: which traces stay, by consistent probability.
//!
//! Source: opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling. A trace has 56 random bits (R), the
//! same for all of its spans: `rv` of the tracestate's `ot` member, else the end of the trace id. A sampler has
//! a rejection threshold (T) and keeps what has R >= T; the threshold that a span has passed stands in `th`, so that whoever
//! counts spans can scale them. A sampler only ever raises it.

mod logs;
mod tracestate;

pub use self::logs::sample_logs;

use self::tracestate::OtelState;
use crate::otlp::edit::EditList;
use crate::otlp::wire::{put_tag, put_varint, Field, Reader, WireError};
use crate::otlp::{span, ITEMS, REQUEST_RESOURCES, SCOPES};
use crate::policy;

/// One more than the largest randomness: a span with this threshold never stays.
const MAX_THRESHOLD: u64 = 1 << 56;

/// A rejection threshold: what has less randomness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    pub const KEEP_ALL: Threshold = Threshold(0);
    /// A threshold that is found by measuring has 16 bits: four digits in a tracestate are exact enough.
    const MEASURED_STEP: u64 = 1 << 40;

    /// Keeps at most this share, and about 1 in 65536 less at the most.
    pub fn keeping(probability: f64) -> Threshold {
        let steps = ((1.0 - probability) * (MAX_THRESHOLD / Self::MEASURED_STEP) as f64).ceil().max(0.0) as u64;
        Threshold((steps * Self::MEASURED_STEP).min(MAX_THRESHOLD - Self::MEASURED_STEP))
    }

    /// The share that it keeps, exactly.
    pub fn probability(self) -> f64 {
        1.0 - self.0 as f64 / MAX_THRESHOLD as f64
    }

    fn bits(self) -> u64 {
        self.0
    }
}

/// Keeps a share of all traces.
#[derive(Debug, Clone, Copy, Default)]
pub struct RatioSampler {
    threshold: u64,
}

impl RatioSampler {
    /// Compiles; the error names the setting and says what is wrong with it.
    pub fn compile(spec: &policy::Sample) -> Result<RatioSampler, String> {
        if !(0.0..=1.0).contains(&spec.ratio) {
            return Err(format!("sample.ratio: {} is not between 0 and 1", spec.ratio));
        }
        Ok(RatioSampler { threshold: ((1.0 - spec.ratio) * MAX_THRESHOLD as f64).round() as u64 })
    }

    /// This sampler, or a stricter one.
    pub fn raised_to(self, threshold: Threshold) -> RatioSampler {
        RatioSampler { threshold: self.threshold.max(threshold.0) }
    }

    /// Whether this sampler lets everything pass.
    pub fn keeps_all(&self) -> bool {
        self.threshold == 0
    }
}

/// Removes the spans of traces that the ratio leaves out; returns how many.
///
/// Messages that hold no span afterwards go as well, so that a request without spans becomes empty. The request must
/// have been validated; a span whose trace id is too short to tell is kept. `edits` must be empty; after an error it is
/// of no use.
pub fn sample(request: &[u8], sampler: &RatioSampler, edits: &mut EditList) -> Result<u64, WireError> {
    if sampler.keeps_all() {
        return Ok(0);
    }
    let mut scratch = Vec::new();
    remove_items(request, edits, |span, fields, edits| keep_span(span, fields, sampler, &mut scratch, edits))
}

/// Removes the spans or log records that `keep` refuses, and what is empty then; returns how many. `keep` may edit what stays.
fn remove_items<'r>(
    request: &'r [u8],
    edits: &mut EditList,
    mut keep: impl FnMut(&Field<'r>, Reader<'r>, &mut EditList) -> Result<bool, WireError>,
) -> Result<u64, WireError> {
    let mut removed = 0;
    let mut resources = Reader::new(request);
    while let Some(resource) = resources.next_field()? {
        if resource.number != REQUEST_RESOURCES {
            continue;
        }
        let mut kept_in_resource = false;
        let mut scopes = resources.nested(&resource)?;
        edits.enter(&resource);
        while let Some(scope) = scopes.next_field()? {
            if scope.number != SCOPES {
                continue;
            }
            let mut kept_in_scope = false;
            let mut items = scopes.nested(&scope)?;
            edits.enter(&scope);
            while let Some(item) = items.next_field()? {
                if item.number != ITEMS {
                    continue;
                }
                if keep(&item, items.nested(&item)?, edits)? {
                    kept_in_scope = true;
                } else {
                    edits.remove(&item);
                    removed += 1;
                }
            }
            exit_or_remove(&scope, kept_in_scope, edits);
            kept_in_resource |= kept_in_scope;
        }
        exit_or_remove(&resource, kept_in_resource, edits);
    }
    Ok(removed)
}

fn exit_or_remove(field: &Field<'_>, keep: bool, edits: &mut EditList) {
    if keep {
        edits.exit();
    } else {
        edits.exit_and_remove(field);
    }
}

/// Whether the span stays; writes the threshold that it has passed, by way of `scratch`.
fn keep_span(
    span: &Field<'_>,
    mut fields: Reader<'_>,
    sampler: &RatioSampler,
    scratch: &mut Vec<u8>,
    edits: &mut EditList,
) -> Result<bool, WireError> {
    let mut trace_id: &[u8] = &[];
    let mut trace_state: Option<Field<'_>> = None;
    while let Some(field) = fields.next_field()? {
        match field.number {
            span::TRACE_ID => trace_id = field.bytes()?,
            span::TRACE_STATE => trace_state = Some(field),
            _ => {}
        }
    }
    let text = trace_state.map_or(Ok([].as_slice()), |field| field.bytes())?;
    let state = tracestate::parse(text);
    let known = state.as_ref().map_or(OtelState::default(), |state| state.otel);
    let Some(randomness) = known.randomness.or_else(|| randomness_of(trace_id)) else { return Ok(true) };
    if randomness < sampler.threshold.max(known.threshold.unwrap_or(0)) {
        return Ok(false);
    }
    // A tracestate that cannot be read is not ours to rewrite.
    let Some(state) = state.filter(|_| known.threshold.is_none_or(|passed| passed < sampler.threshold)) else {
        return Ok(true);
    };
    scratch.clear();
    state.write_with_threshold(sampler.threshold, scratch);
    edits.enter(span);
    match trace_state {
        Some(field) => edits.replace_content(&field, scratch),
        None => edits.insert(span.end, |out| {
            put_tag(out, span::TRACE_STATE, 2);
            put_varint(out, scratch.len() as u64);
            out.extend_from_slice(scratch);
        }),
    }
    edits.exit();
    Ok(true)
}

/// The last 56 bits of a trace id.
fn randomness_of(trace_id: &[u8]) -> Option<u64> {
    let tail = trace_id.last_chunk::<8>()?;
    Some(u64::from_be_bytes(*tail) & (MAX_THRESHOLD - 1))
}

#[cfg(test)]
mod tests;
