//! Exemplars, as remote write has them.

use super::labels::put_label;
use super::names::label_name;
use crate::otlp::text::{put_hex, KeyValue};
use crate::otlp::wire::{put_fixed64_field, put_varint_field, Reader, WireError};

/// What the labels of an exemplar may be long together, in characters (OpenMetrics).
const MAX_EXEMPLAR_CHARS: usize = 128;

/// A remote-write Exemplar { labels = 1, value = 2, timestamp = 3 }, encoded.
pub(super) struct Exemplar {
    pub(super) value: f64,
    pub(super) time_ms: u64,
    pub(super) encoded: Vec<u8>,
}

pub(super) fn encode_exemplars(exemplars: &[&[u8]]) -> Result<Vec<Exemplar>, WireError> {
    exemplars.iter().map(|exemplar| encode_exemplar(exemplar)).collect()
}

fn encode_exemplar(exemplar: &[u8]) -> Result<Exemplar, WireError> {
    let (mut time, mut value) = (0, 0.0);
    let (mut span_id, mut trace_id): (&[u8], &[u8]) = (b"", b"");
    let mut attributes = Vec::new();
    let mut fields = Reader::new(exemplar);
    while let Some(field) = fields.next_field()? {
        match field.number {
            2 => time = field.fixed64()?,
            3 => value = field.double()?,
            4 => span_id = field.bytes()?,
            5 => trace_id = field.bytes()?,
            6 => value = field.fixed64()? as i64 as f64,
            7 => attributes.push(field.bytes()?),
            _ => {}
        }
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut chars = 0;
    for (name, id) in [("trace_id", trace_id), ("span_id", span_id)] {
        if !id.is_empty() {
            let mut hex = Vec::with_capacity(id.len() * 2);
            put_hex(&mut hex, id);
            chars += name.len() + hex.len();
            labels.push((name.to_owned(), String::from_utf8_lossy(&hex).into_owned()));
        }
    }
    for attribute in attributes {
        let pair = KeyValue::read(attribute)?;
        let name = label_name(std::str::from_utf8(pair.key).unwrap_or_default()).into_owned();
        let text = pair.value.text()?;
        let length = name.chars().count() + text.chars().count();
        let fresh = !name.is_empty() && !text.is_empty() && labels.iter().all(|(known, _)| *known != name);
        // What does not fit is left out: an exemplar over the limit would be refused as a whole.
        if fresh && chars + length <= MAX_EXEMPLAR_CHARS {
            chars += length;
            labels.push((name, text.into_owned()));
        }
    }
    labels.sort();
    let mut encoded = Vec::new();
    for (name, value) in &labels {
        put_label(&mut encoded, name, value);
    }
    put_fixed64_field(&mut encoded, 2, value.to_bits());
    let time_ms = time / 1_000_000;
    put_varint_field(&mut encoded, 3, time_ms);
    Ok(Exemplar { value, time_ms, encoded })
}
