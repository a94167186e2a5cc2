//! Sampling: which traces stay. Consistent probability sampling by trace id, so that all spans of a trace, and all
//! gateways, agree.
//!
//! Source: OpenTelemetry specification, "TraceState: Probability Sampling" (`ot=th:…;rv:…`).

mod tracestate;

use std::borrow::Cow;

use crate::otlp::edit::EditList;
use crate::otlp::wire::{put_bytes_field, Field, Reader, WireError};
use crate::otlp::{span, ITEMS, REQUEST_RESOURCES, SCOPES};
use crate::policy;

/// Thresholds and randomness are numbers of 56 bits.
const RANGE: u64 = 1 << 56;

/// Keeps a share of all traces.
#[derive(Debug, Clone, Copy)]
pub struct RatioSampler {
    /// A trace stays if its randomness is at least this. `RANGE`: none does.
    threshold: u64,
}

impl RatioSampler {
    pub fn compile(spec: &policy::Sample) -> Result<RatioSampler, String> {
        if !(0.0..=1.0).contains(&spec.ratio) {
            return Err(format!("ratio {} is not between 0 and 1", spec.ratio));
        }
        Ok(RatioSampler { threshold: ((1.0 - spec.ratio) * RANGE as f64).round() as u64 })
    }
}

/// Removes the spans of traces that the ratio leaves out; returns how many. Scopes and resources that lost all their spans
/// go too. Kept spans say by which probability, unless a stricter sampler said so before.
pub fn sample(request: &[u8], sampler: &RatioSampler, edits: &mut EditList) -> Result<u64, WireError> {
    if sampler.threshold == 0 {
        return Ok(0);
    }
    let mut left_out = 0;
    let mut requests = Reader::new(request);
    while let Some(resource) = requests.next_field()? {
        if resource.number != REQUEST_RESOURCES {
            continue;
        }
        let reader = requests.nested(&resource)?;
        let (kept, spans) = count_kept(reader, SCOPES, &|scope, inner| {
            count_kept_spans(inner.nested(scope)?, sampler)
        })?;
        if kept == 0 && spans > 0 {
            edits.remove(&resource);
            left_out += spans;
            continue;
        }
        edits.enter(&resource);
        let mut scopes = reader;
        while let Some(scope) = scopes.next_field()? {
            if scope.number == SCOPES {
                left_out += sample_scope(scopes, &scope, sampler, edits)?;
            }
        }
        edits.exit();
    }
    Ok(left_out)
}

/// How many of the spans behind fields `number` stay, and how many there are.
fn count_kept<'a>(
    mut reader: Reader<'a>,
    number: u32,
    count: &dyn Fn(&Field<'a>, &Reader<'a>) -> Result<(u64, u64), WireError>,
) -> Result<(u64, u64), WireError> {
    let (mut kept, mut all) = (0, 0);
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            let (inner_kept, inner_all) = count(&field, &reader)?;
            kept += inner_kept;
            all += inner_all;
        }
    }
    Ok((kept, all))
}

fn count_kept_spans(scope: Reader<'_>, sampler: &RatioSampler) -> Result<(u64, u64), WireError> {
    count_kept(scope, ITEMS, &|span, inner| Ok((u64::from(Span::read(inner.nested(span)?)?.kept(sampler)), 1)))
}

fn sample_scope(
    around: Reader<'_>,
    scope: &Field<'_>,
    sampler: &RatioSampler,
    edits: &mut EditList,
) -> Result<u64, WireError> {
    let reader = around.nested(scope)?;
    let (kept, spans) = count_kept_spans(reader, sampler)?;
    if kept == 0 && spans > 0 {
        edits.remove(scope);
        return Ok(spans);
    }
    edits.enter(scope);
    let mut fields = reader;
    while let Some(field) = fields.next_field()? {
        if field.number != ITEMS {
            continue;
        }
        let inner = fields.nested(&field)?;
        let span = Span::read(inner)?;
        if !span.kept(sampler) {
            edits.remove(&field);
        } else if let Some(tracestate) = span.raised_tracestate(sampler) {
            edits.enter(&field);
            put_tracestate(inner, &field, tracestate.as_bytes(), edits)?;
            edits.exit();
        }
    }
    edits.exit();
    Ok(spans - kept)
}

/// Replaces the span's tracestate, or gives it one.
fn put_tracestate(
    mut fields: Reader<'_>,
    around: &Field<'_>,
    tracestate: &[u8],
    edits: &mut EditList,
) -> Result<(), WireError> {
    let mut written = false;
    while let Some(field) = fields.next_field()? {
        if field.number == span::TRACE_STATE {
            if written {
                edits.remove(&field);
            } else {
                edits.replace_content(&field, tracestate);
            }
            written = true;
        }
    }
    if !written {
        edits.insert(around.end, |out| put_bytes_field(out, span::TRACE_STATE, tracestate));
    }
    Ok(())
}

/// What sampling looks at.
#[derive(Default)]
struct Span<'a> {
    trace_id: &'a [u8],
    tracestate: &'a str,
}

impl<'a> Span<'a> {
    fn read(mut fields: Reader<'a>) -> Result<Span<'a>, WireError> {
        let mut span = Span::default();
        while let Some(field) = fields.next_field()? {
            match field.number {
                span::TRACE_ID => span.trace_id = field.bytes()?,
                span::TRACE_STATE => span.tracestate = std::str::from_utf8(field.bytes()?).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(span)
    }

    /// The randomness that the sender gave explicitly, or else the last 7 bytes of the trace id.
    fn randomness(&self) -> u64 {
        tracestate::value(self.tracestate, "rv").filter(|value| value.len() == 14).and_then(hexadecimal).unwrap_or_else(|| {
            self.trace_id.iter().rev().take(7).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        })
    }

    /// The threshold that a sampler before this one applied.
    fn threshold(&self) -> Option<u64> {
        let digits = tracestate::value(self.tracestate, "th")?;
        // Trailing zeros are left out.
        let padded = format!("{digits:0<14}");
        if digits.is_empty() || padded.len() != 14 {
            return None;
        }
        hexadecimal(&padded)
    }

    /// A sampler only ever raises the threshold.
    fn kept(&self, sampler: &RatioSampler) -> bool {
        self.randomness() >= self.threshold().unwrap_or(0).max(sampler.threshold)
    }

    /// The tracestate with this sampler's threshold, if that is higher than what is there.
    fn raised_tracestate(&self, sampler: &RatioSampler) -> Option<Cow<'a, str>> {
        if self.threshold().unwrap_or(0) >= sampler.threshold {
            return None;
        }
        let digits = format!("{:014x}", sampler.threshold);
        let trimmed = digits.trim_end_matches('0');
        tracestate::with_threshold(self.tracestate, trimmed).map(Cow::Owned)
    }
}

fn hexadecimal(digits: &str) -> Option<u64> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.bytes().all(lower).then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests;
