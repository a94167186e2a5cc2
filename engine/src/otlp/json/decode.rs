//! OTLP/JSON to protobuf, as a standard serializer would write it: fields in ascending order, defaults left out, numbers
//! packed.

use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{self, FieldSpec, Kind, Message, Presence};
use crate::otlp::wire::{
    put_bytes_field, put_fixed32_field, put_fixed64_field, put_message_field, put_varint, put_varint_field,
};
use crate::otlp::{Signal, MAX_DEPTH};

/// A map inside a value nests three messages deep; a request has a few more around its values.
const MAX_MESSAGE_DEPTH: usize = 3 * MAX_DEPTH + 16;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What a decoded object was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// False: it has members, and none of them is known.
    pub known_shape: bool,
}

/// Why text is not OTLP/JSON. Says where, never what stood there.
#[derive(Debug)]
pub struct JsonError(serde_json::Error);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not valid OTLP/JSON: {}", self.0)
    }
}

impl std::error::Error for JsonError {}

/// Appends the protobuf form of an OTLP/JSON Export request to `out`.
pub fn decode(signal: Signal, json: &[u8], out: &mut Vec<u8>) -> Result<Decoded, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // The seeds below count the depth of what they recurse into, and what is ignored is skipped without recursion.
    deserializer.disable_recursion_limit();
    let mut known_shape = true;
    let root = MessageSeed { message: schema::request(signal), depth: 0, out, known_shape: Some(&mut known_shape) };
    root.deserialize(&mut deserializer).map_err(JsonError)?;
    deserializer.end().map_err(JsonError)?;
    Ok(Decoded { known_shape })
}

/// Appends the fields of one message.
struct MessageSeed<'o> {
    message: &'static Message,
    depth: usize,
    out: &'o mut Vec<u8>,
    /// Told, at the root, whether any member was known.
    known_shape: Option<&'o mut bool>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAX_MESSAGE_DEPTH {
            return Err(D::Error::custom("it is nested too deeply"));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let begin = self.out.len();
        // Where each field begins, in order of arrival.
        let mut pieces: Vec<(u32, usize)> = Vec::new();
        let (mut any, mut known) = (false, false);
        while let Some(field) = members.next_key_seed(FieldName(self.message))? {
            any = true;
            match field {
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
                Some(field) => {
                    known = true;
                    pieces.push((field.number, self.out.len()));
                    members.next_value_seed(FieldSeed { field, depth: self.depth, out: &mut *self.out })?;
                }
            }
        }
        if let Some(known_shape) = self.known_shape {
            *known_shape = known || !any;
        }
        if !pieces.windows(2).all(|pair| pair[0].0 <= pair[1].0) {
            reorder(self.out, begin, &pieces);
        }
        Ok(())
    }
}

/// Puts the pieces of a message into ascending order of field number.
fn reorder(out: &mut Vec<u8>, begin: usize, pieces: &[(u32, usize)]) {
    let written = out.split_off(begin);
    let ends = pieces.iter().skip(1).map(|(_, start)| *start).chain([begin + written.len()]);
    let mut ranges: Vec<_> = pieces.iter().zip(ends).map(|((number, start), end)| (*number, *start..end)).collect();
    ranges.sort_by_key(|(number, _)| *number);
    for (_, range) in ranges {
        out.extend_from_slice(&written[range.start - begin..range.end - begin]);
    }
}

/// Finds the field that a member's name means.
struct FieldName(&'static Message);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<&'static FieldSpec>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<&'static FieldSpec>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// Appends one field, with all its elements if it is repeated.
struct FieldSeed<'o> {
    field: &'static FieldSpec,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.field.presence, self.field.kind) {
            (Presence::Repeated, _) => write!(f, "an array in {}", self.field.json_name),
            (_, Kind::Nested(_)) => write!(f, "an object in {}", self.field.json_name),
            _ => write!(f, "another type in {}", self.field.json_name),
        }
    }

    /// null is the same as absent.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if self.field.presence != Presence::Repeated {
            return Err(A::Error::custom(format_args!("{} is not an array", self.field.json_name)));
        }
        if let Kind::Text | Kind::Hex | Kind::Base64 | Kind::Nested(_) = self.field.kind {
            let element = ElementSeed { field: self.field, depth: self.depth, out: self.out };
            let mut element = Some(element);
            while let Some(current) = element.take() {
                let ElementSeed { field, depth, out } = current;
                if elements.next_element_seed(ElementSeed { field, depth, out: &mut *out })?.is_some() {
                    element = Some(ElementSeed { field, depth, out });
                }
            }
            return Ok(());
        }
        // Numbers are packed into one field.
        let mut packed = Vec::new();
        while elements.next_element_seed(PackedSeed { field: self.field, packed: &mut packed })?.is_some() {}
        if !packed.is_empty() {
            put_bytes_field(self.out, self.field.number, &packed);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        match (self.field.presence, self.field.kind) {
            (Presence::Explicit, Kind::Nested(message)) => {
                put_nested(self.out, self.field, message, self.depth, members)
            }
            _ => Err(A::Error::custom(format_args!("{} is not an object", self.field.json_name))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.scalar(Scalar::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.scalar(Scalar::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(number))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(value))
    }
}

impl FieldSeed<'_> {
    fn scalar<E: Error>(self, value: Scalar<'_>) -> Result<(), E> {
        if self.field.presence == Presence::Repeated {
            return Err(E::custom(format_args!("{} must be an array", self.field.json_name)));
        }
        put_scalar(self.out, self.field, value).map_err(|what| wrong(self.field, what))
    }
}

fn put_nested<'de, A: MapAccess<'de>>(
    out: &mut Vec<u8>,
    field: &FieldSpec,
    message: &'static Message,
    depth: usize,
    members: A,
) -> Result<(), A::Error> {
    if depth >= MAX_MESSAGE_DEPTH {
        return Err(A::Error::custom("it is nested too deeply"));
    }
    let mut result = Ok(());
    put_message_field(out, field.number, |out| {
        result = MessageSeed { message, depth: depth + 1, out, known_shape: None }.visit_map(members);
    });
    result
}

/// One element of a repeated field that is not packed.
struct ElementSeed<'o> {
    field: &'static FieldSpec,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another type in {}", self.field.json_name)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        match self.field.kind {
            Kind::Nested(message) => put_nested(self.out, self.field, message, self.depth, members),
            _ => Err(A::Error::custom(format_args!("{} does not hold objects", self.field.json_name))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let bytes = text_bytes(self.field.kind, text).map_err(|what| wrong(self.field, what))?;
        put_bytes_field(self.out, self.field.number, &bytes);
        Ok(())
    }
}

/// One element of a packed field.
struct PackedSeed<'o> {
    field: &'static FieldSpec,
    packed: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for PackedSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl PackedSeed<'_> {
    fn number<E: Error>(self, value: Scalar<'_>) -> Result<(), E> {
        match number_bits(self.field.kind, value).map_err(|what| wrong(self.field, what))? {
            Bits::Varint(bits) => put_varint(self.packed, bits),
            Bits::Fixed32(bits) => self.packed.extend_from_slice(&bits.to_le_bytes()),
            Bits::Fixed64(bits) => self.packed.extend_from_slice(&bits.to_le_bytes()),
        }
        Ok(())
    }
}

impl Visitor<'_> for PackedSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number in {}", self.field.json_name)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.number(Scalar::Text(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.number(Scalar::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.number(Scalar::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.number(Scalar::Float(number))
    }
}

/// A JSON value that is neither object nor array.
#[derive(Clone, Copy)]
enum Scalar<'t> {
    Text(&'t str),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

enum Bits {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
}

fn wrong<E: Error>(field: &FieldSpec, what: &str) -> E {
    E::custom(format_args!("{} is not {what}", field.json_name))
}

/// Appends a singular scalar; a default without presence is left out.
fn put_scalar(out: &mut Vec<u8>, field: &FieldSpec, value: Scalar<'_>) -> Result<(), &'static str> {
    let explicit = field.presence == Presence::Explicit;
    if let Kind::Text | Kind::Hex | Kind::Base64 = field.kind {
        let Scalar::Text(text) = value else { return Err("a string") };
        let bytes = text_bytes(field.kind, text)?;
        if explicit || !bytes.is_empty() {
            put_bytes_field(out, field.number, &bytes);
        }
        return Ok(());
    }
    match number_bits(field.kind, value)? {
        Bits::Varint(bits) if explicit || bits != 0 => put_varint_field(out, field.number, bits),
        Bits::Fixed32(bits) if explicit || bits != 0 => put_fixed32_field(out, field.number, bits),
        Bits::Fixed64(bits) if explicit || bits != 0 => put_fixed64_field(out, field.number, bits),
        _ => {}
    }
    Ok(())
}

fn text_bytes(kind: Kind, text: &str) -> Result<std::borrow::Cow<'_, [u8]>, &'static str> {
    match kind {
        Kind::Text => Ok(text.as_bytes().into()),
        Kind::Hex => hexadecimal(text).map(Into::into).ok_or("hexadecimal"),
        Kind::Base64 => {
            let decoded = BASE64.decode(text).or_else(|_| BASE64_URL.decode(text));
            decoded.map(Into::into).map_err(|_| "base64")
        }
        _ => Err("of this type"),
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

fn number_bits(kind: Kind, value: Scalar<'_>) -> Result<Bits, &'static str> {
    Ok(match kind {
        Kind::Bool => match value {
            Scalar::Bool(value) => Bits::Varint(u64::from(value)),
            _ => return Err("true or false"),
        },
        Kind::Double => Bits::Fixed64(double(value).ok_or("a number")?.to_bits()),
        Kind::Enum(names) => match value {
            Scalar::Text(name) if !name.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                let known = names.iter().find(|(known, _)| *known == name).ok_or("a known enum value")?;
                Bits::Varint(known.1 as i64 as u64)
            }
            // OTLP writes numbers; an unknown one is kept.
            _ => Bits::Varint(signed::<i32>(value)? as i64 as u64),
        },
        Kind::Int32 => Bits::Varint(signed::<i32>(value)? as i64 as u64),
        Kind::SInt32 => {
            let number = signed::<i32>(value)?;
            Bits::Varint(u64::from(((number << 1) ^ (number >> 31)) as u32))
        }
        Kind::Int64 => Bits::Varint(signed::<i64>(value)? as u64),
        Kind::SFixed64 => Bits::Fixed64(signed::<i64>(value)? as u64),
        Kind::UInt32 => Bits::Varint(u64::from(signed::<u32>(value)?)),
        Kind::Fixed32 => Bits::Fixed32(signed::<u32>(value)?),
        Kind::UInt64 => Bits::Varint(signed::<u64>(value)?),
        Kind::Fixed64 => Bits::Fixed64(signed::<u64>(value)?),
        Kind::Text | Kind::Hex | Kind::Base64 | Kind::Nested(_) => return Err("of this type"),
    })
}

/// An integer of any width: a JSON number, also with an exponent or a zero fraction, or a string of one.
fn signed<T: TryFrom<i128>>(value: Scalar<'_>) -> Result<T, &'static str> {
    const WHAT: &str = "an integer in range";
    let number = match value {
        Scalar::Unsigned(number) => i128::from(number),
        Scalar::Signed(number) => i128::from(number),
        Scalar::Float(number) if number.fract() == 0.0 && number.abs() < 1e20 => number as i128,
        Scalar::Text(text) => match text.parse::<i128>() {
            Ok(number) => number,
            Err(_) => match text.parse::<f64>() {
                Ok(number) if number.fract() == 0.0 && number.abs() < 1e20 => number as i128,
                _ => return Err(WHAT),
            },
        },
        Scalar::Float(_) | Scalar::Bool(_) => return Err(WHAT),
    };
    T::try_from(number).map_err(|_| WHAT)
}

fn double(value: Scalar<'_>) -> Option<f64> {
    match value {
        Scalar::Unsigned(number) => Some(number as f64),
        Scalar::Signed(number) => Some(number as f64),
        Scalar::Float(number) => Some(number),
        Scalar::Text("NaN") => Some(f64::NAN),
        Scalar::Text("Infinity") => Some(f64::INFINITY),
        Scalar::Text("-Infinity") => Some(f64::NEG_INFINITY),
        Scalar::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        Scalar::Bool(_) => None,
    }
}
