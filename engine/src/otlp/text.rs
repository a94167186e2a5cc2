//! AnyValue as text: for labels, structured metadata and log lines.
//!
//! Forms follow the Collector (`pcommon.Value.AsString`), so that moving from it changes no label: strings as they are,
//! numbers in their shortest decimal form, bytes in base64, arrays and maps as compact JSON, a map's members in the order
//! of their keys.

use std::borrow::Cow;
use std::io::Write;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine;

use super::wire::{Reader, WireError};
use super::{any_value, KEY, MAX_DEPTH, VALUE, VALUES};

/// An AnyValue, borrowed; arrays and maps stay encoded until they are looked into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AnyValue<'a> {
    /// No member of the oneof is set.
    Empty,
    String(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An encoded ArrayValue.
    Array(&'a [u8]),
    /// An encoded KeyValueList.
    Map(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads an encoded AnyValue; of a oneof set twice the last counts.
    #[inline]
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut value = AnyValue::Empty;
        value.merge(message)?;
        Ok(value)
    }

    fn merge(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let mut fields = Reader::new(message);
        while let Some(field) = fields.next_field()? {
            *self = match field.number {
                any_value::STRING => AnyValue::String(field.bytes()?),
                any_value::BOOL => AnyValue::Bool(field.varint()? != 0),
                any_value::INT => AnyValue::Int(field.varint()? as i64),
                any_value::DOUBLE => AnyValue::Double(field.double()?),
                any_value::ARRAY => AnyValue::Array(field.bytes()?),
                any_value::KVLIST => AnyValue::Map(field.bytes()?),
                any_value::BYTES => AnyValue::Bytes(field.bytes()?),
                _ => continue,
            };
        }
        Ok(())
    }

    /// The value as text, of which only a string is borrowed, and not checked again.
    #[inline]
    pub fn text_bytes(&self) -> Result<Cow<'a, [u8]>, WireError> {
        match *self {
            AnyValue::String(text) => Ok(Cow::Borrowed(text)),
            AnyValue::Empty => Ok(Cow::Borrowed(b"")),
            _ => {
                let mut out = Vec::new();
                self.put_text(&mut out)?;
                Ok(Cow::Owned(out))
            }
        }
    }

    /// The value as text; borrowed if it is a string. Text that is not UTF-8 gets replacement characters.
    pub fn text(&self) -> Result<Cow<'a, str>, WireError> {
        match *self {
            AnyValue::String(text) => Ok(String::from_utf8_lossy(text)),
            AnyValue::Empty => Ok(Cow::Borrowed("")),
            AnyValue::Bool(value) => Ok(Cow::Borrowed(bool_text(value))),
            _ => {
                let mut out = Vec::new();
                self.put_text(&mut out)?;
                Ok(Cow::Owned(match String::from_utf8(out) {
                    Ok(text) => text,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                }))
            }
        }
    }

    /// Appends the value as text: strings bare, arrays and maps as JSON.
    pub fn put_text(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match *self {
            AnyValue::Empty => Ok(()),
            AnyValue::String(text) => {
                out.extend_from_slice(text);
                Ok(())
            }
            AnyValue::Bytes(bytes) => {
                put_base64(out, bytes);
                Ok(())
            }
            AnyValue::Double(value) => {
                put_double(out, value);
                Ok(())
            }
            AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Array(_) | AnyValue::Map(_) => self.put_json(out),
        }
    }

    /// Appends the value as compact JSON.
    pub fn put_json(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.put_json_at(out, 0)
    }

    fn put_json_at(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), WireError> {
        // The walk has refused such a value already; this keeps the stack bounded whoever calls.
        if depth > MAX_DEPTH {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match *self {
            AnyValue::Empty => out.extend_from_slice(b"null"),
            AnyValue::String(text) => put_json_string(out, text),
            AnyValue::Bool(value) => out.extend_from_slice(bool_text(value).as_bytes()),
            AnyValue::Int(value) => put_int(out, value),
            AnyValue::Double(value) if value.is_finite() => put_double(out, value),
            // JSON has no such number; ProtoJSON writes them as strings.
            AnyValue::Double(value) => {
                out.push(b'"');
                put_double(out, value);
                out.push(b'"');
            }
            AnyValue::Bytes(bytes) => {
                out.push(b'"');
                put_base64(out, bytes);
                out.push(b'"');
            }
            AnyValue::Array(array) => {
                out.push(b'[');
                let mut separator: &[u8] = b"";
                for_each(array, |element| {
                    out.extend_from_slice(separator);
                    separator = b",";
                    AnyValue::read(element)?.put_json_at(out, depth + 1)
                })?;
                out.push(b']');
            }
            AnyValue::Map(map) => {
                let mut members = Vec::new();
                for_each(map, |member| {
                    members.push(KeyValue::read(member)?);
                    Ok(())
                })?;
                // A map has no order, but its text is a label's value: another text would be another series.
                members.sort_by_key(|member| member.key);
                out.push(b'{');
                let mut separator: &[u8] = b"";
                for KeyValue { key, value } in members {
                    out.extend_from_slice(separator);
                    separator = b",";
                    put_json_string(out, key);
                    out.push(b':');
                    value.put_json_at(out, depth + 1)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

/// A KeyValue, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub value: AnyValue<'a>,
}

impl<'a> KeyValue<'a> {
    /// Reads an encoded KeyValue; fields that occur twice merge as protobuf says, so the last one set counts.
    #[inline]
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut pair = KeyValue { key: b"", value: AnyValue::Empty };
        let mut fields = Reader::new(message);
        while let Some(field) = fields.next_field()? {
            match field.number {
                KEY => pair.key = field.bytes()?,
                VALUE => pair.value.merge(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

/// Calls `visit` with each element of an encoded ArrayValue or KeyValueList.
pub fn for_each<'a>(list: &'a [u8], mut visit: impl FnMut(&'a [u8]) -> Result<(), WireError>) -> Result<(), WireError> {
    let mut fields = Reader::new(list);
    while let Some(field) = fields.next_field()? {
        if field.number == VALUES {
            visit(field.bytes()?)?;
        }
    }
    Ok(())
}

fn bool_text(value: bool) -> &'static str {
    if value {
        "true"
    } else {
        "false"
    }
}

/// Appends a decimal integer.
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    put_uint(out, value.unsigned_abs());
}

/// Appends an unsigned decimal integer.
pub fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Appends the shortest decimal that reads back as `value`; exponents from 1e21 and below 1e-6, as JavaScript and Go.
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    let written = if value.is_nan() {
        out.write_all(b"NaN")
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"Infinity" } else { b"-Infinity" })
    } else if magnitude >= 1e21 {
        // Rust writes 1e300 where Go and JavaScript write 1e+300.
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        write!(out, "{mantissa}e+{exponent}")
    } else if magnitude != 0.0 && magnitude < 1e-6 {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    };
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let begin = out.len();
    // Four digits for every three bytes begun.
    out.resize(begin + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut out[begin..]).unwrap_or(0);
    out.truncate(begin + written);
}

/// Appends `text` as a JSON string, quotes included.
pub fn put_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut copied = 0;
    for (index, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[copied..index]);
        copied = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                out.extend_from_slice(b"\\u00");
                put_hex(out, &[control]);
            }
        }
    }
    out.extend_from_slice(&text[copied..]);
    out.push(b'"');
}

/// Appends `bytes` as lower-case hexadecimal digits.
pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{self as common, ArrayValue, KeyValueList};
    use proptest::prelude::*;
    use prost::Message;

    fn any(value: Any) -> common::AnyValue {
        common::AnyValue { value: Some(value) }
    }

    fn text_of(value: Any) -> String {
        AnyValue::read(&any(value).encode_to_vec()).unwrap().text().unwrap().into_owned()
    }

    fn pair(key: &str, value: Option<Any>) -> common::KeyValue {
        common::KeyValue { key: key.into(), value: Some(common::AnyValue { value }), ..Default::default() }
    }

    #[test]
    fn every_type_has_its_text() {
        let list = |values: Vec<Any>| Any::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() });
        let cases = [
            (Any::StringValue("a \"b\"\n".into()), "a \"b\"\n"),
            (Any::BoolValue(true), "true"),
            (Any::BoolValue(false), "false"),
            (Any::IntValue(0), "0"),
            (Any::IntValue(i64::MIN), "-9223372036854775808"),
            (Any::DoubleValue(1.0), "1"),
            (Any::DoubleValue(0.1), "0.1"),
            (Any::DoubleValue(-2.5), "-2.5"),
            (Any::DoubleValue(1e20), "100000000000000000000"),
            (Any::DoubleValue(1.5e300), "1.5e+300"),
            (Any::DoubleValue(1e-7), "1e-7"),
            (Any::DoubleValue(0.0), "0"),
            (Any::DoubleValue(f64::NAN), "NaN"),
            (Any::DoubleValue(f64::NEG_INFINITY), "-Infinity"),
            (Any::BytesValue(vec![]), ""),
            (Any::BytesValue(vec![0, 255, 16]), "AP8Q"),
            (Any::BytesValue(vec![1]), "AQ=="),
            (list(vec![]), "[]"),
            (
                list(vec![
                    Any::StringValue("x\u{1}\"\\é".into()),
                    Any::IntValue(-3),
                    Any::DoubleValue(f64::INFINITY),
                    Any::BytesValue(vec![1]),
                ]),
                "[\"x\\u0001\\\"\\\\é\",-3,\"Infinity\",\"AQ==\"]",
            ),
            (
                Any::KvlistValue(KeyValueList {
                    values: vec![pair("a", Some(Any::BoolValue(true))), pair("b", None), pair("", Some(list(vec![])))],
                }),
                r#"{"":[],"a":true,"b":null}"#,
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(text_of(value), expected);
        }
        assert_eq!(AnyValue::read(b"").unwrap().text().unwrap(), "");
    }

    #[test]
    fn of_a_value_given_twice_the_last_counts() {
        let mut encoded = pair("k", Some(Any::StringValue("first".into()))).encode_to_vec();
        encoded.extend(pair("k2", Some(Any::IntValue(2))).encode_to_vec());
        assert_eq!(KeyValue::read(&encoded), Ok(KeyValue { key: b"k2", value: AnyValue::Int(2) }));
        let merged = common::KeyValue::decode(encoded.as_slice()).unwrap();
        assert_eq!((merged.key.as_str(), merged.value), ("k2", Some(any(Any::IntValue(2)))));
    }

    #[test]
    fn a_value_nested_too_deep_is_cut_not_followed() {
        let mut value = any(Any::BoolValue(true));
        for _ in 0..MAX_DEPTH + 20 {
            value = any(Any::ArrayValue(ArrayValue { values: vec![value] }));
        }
        let text = AnyValue::read(&value.encode_to_vec()).unwrap().text().unwrap().into_owned();
        assert!(text.contains("[null]"), "{text}");
    }

    fn any_strategy() -> impl Strategy<Value = common::AnyValue> {
        let leaf = prop_oneof![
            Just(None),
            ".{0,12}".prop_map(|text| Some(Any::StringValue(text))),
            proptest::bool::ANY.prop_map(|value| Some(Any::BoolValue(value))),
            proptest::num::i64::ANY.prop_map(|value| Some(Any::IntValue(value))),
            proptest::num::f64::NORMAL.prop_map(|value| Some(Any::DoubleValue(value))),
        ]
        .prop_map(|value| common::AnyValue { value });
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5)
                    .prop_map(|values| any(Any::ArrayValue(ArrayValue { values }))),
                proptest::collection::btree_map(".{0,6}", inner, 0..5).prop_map(|members| {
                    any(Any::KvlistValue(KeyValueList {
                        values: members
                            .into_iter()
                            .map(|(key, value)| common::KeyValue { key, value: Some(value), ..Default::default() })
                            .collect(),
                    }))
                }),
            ]
        })
    }

    fn as_json(value: &common::AnyValue) -> serde_json::Value {
        match &value.value {
            None => serde_json::Value::Null,
            Some(Any::StringValue(text)) => text.as_str().into(),
            Some(Any::BoolValue(value)) => (*value).into(),
            Some(Any::IntValue(value)) => (*value).into(),
            Some(Any::DoubleValue(value)) => (*value).into(),
            Some(Any::ArrayValue(array)) => array.values.iter().map(as_json).collect(),
            Some(Any::KvlistValue(map)) => map
                .values
                .iter()
                .map(|pair| (pair.key.clone(), pair.value.as_ref().map_or(serde_json::Value::Null, as_json)))
                .collect(),
            Some(other) => panic!("not generated: {other:?}"),
        }
    }

    /// Integral doubles come back from JSON as integers; numbers are compared as such.
    fn same(left: &serde_json::Value, right: &serde_json::Value) -> bool {
        use serde_json::Value as Json;
        match (left, right) {
            (Json::Number(left), Json::Number(right)) => left == right || left.as_f64() == right.as_f64(),
            (Json::Array(left), Json::Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
            }
            (Json::Object(left), Json::Object(right)) => {
                left.len() == right.len()
                    && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
            }
            _ => left == right,
        }
    }

    proptest! {
        #[test]
        fn json_reads_back_as_the_value(value in any_strategy()) {
            let mut out = Vec::new();
            AnyValue::read(&value.encode_to_vec()).unwrap().put_json(&mut out).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert!(same(&read, &as_json(&value)), "{read} is not {value:?}");
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(value) = AnyValue::read(&bytes) {
                let _ = value.text();
                let _ = value.put_json(&mut Vec::new());
            }
            let _ = KeyValue::read(&bytes);
        }
    }
}
