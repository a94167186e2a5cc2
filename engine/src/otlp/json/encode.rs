//! Protobuf to OTLP/JSON, compact: one request a line for files.

use std::borrow::Cow;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine;

use super::schema::{self, FieldSpec, Kind, Message, Presence};
use crate::otlp::text::{put_double, put_hex, put_int, put_json_string, put_uint};
use crate::otlp::wire::{read_varint, Field, Reader, Value, WireError};
use crate::otlp::Signal;

/// Appends one Export request, which was validated, as compact JSON without a newline.
pub fn encode(signal: Signal, request: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    put_message(out, schema::request(signal), request)
}

fn put_message(out: &mut Vec<u8>, message: &'static Message, bytes: &[u8]) -> Result<(), WireError> {
    let mut fields: Vec<(usize, Field<'_>)> = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next_field()? {
        if let Some(position) = message.position(field.number) {
            fields.push((position, field));
        }
    }
    // In order almost always; stable, so that the elements of a repeated field stay in theirs.
    fields.sort_by_key(|(position, _)| *position);
    out.push(b'{');
    let mut separator: &[u8] = b"";
    for group in fields.chunk_by(|left, right| left.0 == right.0) {
        let spec = &message.0[group[0].0];
        out.extend_from_slice(separator);
        separator = b",";
        put_json_string(out, spec.json_name.as_bytes());
        out.push(b':');
        match spec.presence {
            Presence::Repeated => put_repeated(out, spec, group)?,
            Presence::Implicit | Presence::Explicit => put_singular(out, spec, group)?,
        }
    }
    out.push(b'}');
    Ok(())
}

fn put_repeated(out: &mut Vec<u8>, spec: &FieldSpec, group: &[(usize, Field<'_>)]) -> Result<(), WireError> {
    out.push(b'[');
    let mut separator: &[u8] = b"";
    let mut separate = |out: &mut Vec<u8>| {
        out.extend_from_slice(separator);
        separator = b",";
    };
    for (_, field) in group {
        match (spec.kind, field.value) {
            (Kind::Nested(message), Value::Bytes(bytes)) => {
                separate(out);
                put_message(out, message, bytes)?;
            }
            (Kind::Text | Kind::Hex | Kind::Base64, _) => {
                separate(out);
                put_scalar(out, spec.kind, field.value)?;
            }
            (kind, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let (value, width) = read_packed(kind, packed)?;
                    packed = &packed[width..];
                    separate(out);
                    put_scalar(out, kind, value)?;
                }
            }
            (kind, value) => {
                separate(out);
                put_scalar(out, kind, value)?;
            }
        }
    }
    out.push(b']');
    Ok(())
}

/// One number of a packed field, and how wide it is.
fn read_packed(kind: Kind, packed: &[u8]) -> Result<(Value<'static>, usize), WireError> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::SFixed64 => {
            let bytes = packed.first_chunk::<8>().ok_or(WireError::Truncated)?;
            Ok((Value::Fixed64(u64::from_le_bytes(*bytes)), 8))
        }
        Kind::Fixed32 => {
            let bytes = packed.first_chunk::<4>().ok_or(WireError::Truncated)?;
            Ok((Value::Fixed32(u32::from_le_bytes(*bytes)), 4))
        }
        _ => read_varint(packed).map(|(value, width)| (Value::Varint(value), width)),
    }
}

/// Of a scalar that is given twice the last counts; messages merge, which for bytes is concatenation.
fn put_singular(out: &mut Vec<u8>, spec: &FieldSpec, group: &[(usize, Field<'_>)]) -> Result<(), WireError> {
    if let Kind::Nested(message) = spec.kind {
        let merged = match group {
            [(_, only)] => Cow::Borrowed(only.bytes()?),
            _ => {
                let parts = group.iter().map(|(_, field)| field.bytes()).collect::<Result<Vec<_>, _>>()?;
                Cow::Owned(parts.concat())
            }
        };
        return put_message(out, message, &merged);
    }
    match group.last() {
        Some((_, field)) => put_scalar(out, spec.kind, field.value),
        None => Ok(()),
    }
}

fn put_scalar(out: &mut Vec<u8>, kind: Kind, value: Value<'_>) -> Result<(), WireError> {
    match (kind, value) {
        (Kind::Text, Value::Bytes(text)) => put_json_string(out, text),
        (Kind::Hex, Value::Bytes(bytes)) => {
            out.push(b'"');
            put_hex(out, bytes);
            out.push(b'"');
        }
        (Kind::Base64, Value::Bytes(bytes)) => {
            out.push(b'"');
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.push(b'"');
        }
        (Kind::Bool, Value::Varint(bits)) => out.extend_from_slice(if bits != 0 { b"true" } else { b"false" }),
        (Kind::Enum(_) | Kind::Int32, Value::Varint(bits)) => put_int(out, i64::from(bits as i32)),
        (Kind::SInt32, Value::Varint(bits)) => {
            let bits = bits as u32;
            put_int(out, i64::from((bits >> 1) as i32 ^ -((bits & 1) as i32)));
        }
        (Kind::UInt32, Value::Varint(bits)) => put_uint(out, u64::from(bits as u32)),
        (Kind::Fixed32, Value::Fixed32(bits)) => put_uint(out, u64::from(bits)),
        // 64-bit integers are strings in ProtoJSON: JavaScript's numbers would round them.
        (Kind::Int64, Value::Varint(bits)) | (Kind::SFixed64, Value::Fixed64(bits)) => {
            out.push(b'"');
            put_int(out, bits as i64);
            out.push(b'"');
        }
        (Kind::UInt64, Value::Varint(bits)) | (Kind::Fixed64, Value::Fixed64(bits)) => {
            out.push(b'"');
            put_uint(out, bits);
            out.push(b'"');
        }
        (Kind::Double, Value::Fixed64(bits)) => {
            let number = f64::from_bits(bits);
            if number == 0.0 && number.is_sign_negative() {
                // Some parsers read `-0` as the integer 0, without its sign.
                out.extend_from_slice(b"-0.0");
            } else if number.is_finite() {
                put_double(out, number);
            } else {
                out.push(b'"');
                put_double(out, number);
                out.push(b'"');
            }
        }
        _ => return Err(WireError::WrongType),
    }
    Ok(())
}
