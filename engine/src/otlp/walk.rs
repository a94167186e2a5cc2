//! One walk over a request that validates all of it and offers every value to a visitor.
//!
//! The walk is driven by the schema's tables and recurses only as deep as those, plus [`MAX_DEPTH`] levels of AnyValue.
//! A singular message field that occurs twice is legal protobuf (the occurrences merge): each is walked.

mod place;
mod schema;

pub use self::place::Place;
use self::schema::{Kind, Schema};
use super::edit::EditList;
use super::wire::{read_varint, Field, Reader, Value, WireError};
use super::{any_value, Malformed, Signal, KEY, MAX_DEPTH, VALUE};
use std::borrow::Cow;
use std::ops::Range;

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    pub place: Place,
    /// The key of the nearest KeyValue around the value.
    pub key: Option<&'a [u8]>,
}

/// A number of an AnyValue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Double(f64),
}

/// The value of an attribute that is one string or one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plain<'a> {
    Text(&'a [u8]),
    Number(Number),
}

/// What becomes of an attribute, by its key; ordered by how much is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Its key is offered; its values are left as they are.
    Keep,
    /// Its key and values are offered one by one.
    Walk,
    /// Its value, of whatever type, becomes [`Visitor::replacement`].
    Replace,
    /// The whole KeyValue goes.
    Remove,
}

/// A message that holds items, or is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// ResourceSpans, ResourceMetrics, ResourceLogs.
    Resource,
    /// ScopeSpans, ScopeMetrics, ScopeLogs.
    Scope,
    Metric,
    /// A span, a point, a log record.
    Item,
}

/// Sees every value of a request, in order of offset, and asks for edits.
pub trait Visitor<'a> {
    /// Whether this visitor ever edits; if not, the walk doesn't keep track of the enclosing messages.
    const EDITS: bool;

    /// Whether fields that the schema does not know stay.
    fn keeps_unknown(&self) -> bool {
        true
    }

    /// What is offered until [`Visitor::end`] belongs to this message, but for the units inside of it.
    #[inline]
    fn begin(&mut self, _unit: Unit, _content: Reader<'a>) -> Result<(), WireError> {
        Ok(())
    }

    /// The innermost unit ends. `items`: which of the request's items are in it, counted from 0.
    #[inline]
    fn end(&mut self, _items: Range<u64>) {}

    /// What becomes of an attribute with this key. Called before its parts are offered, wherever the key stands.
    fn attribute(&mut self, key: &'a [u8]) -> Fate;

    /// Whether an encoded KeyValue has the usual form ([`plain_attribute`]) and holds nothing to edit, and its key and text are
    /// UTF-8; `false` if that is not sure without a closer look, which then follows.
    fn passes(&mut self, attribute: &'a [u8]) -> bool;

    /// The encoded AnyValue that takes the place of `value`, the AnyValue of an attribute to be replaced.
    fn replacement(&mut self, key: &'a [u8], value: &Field<'a>) -> Cow<'static, [u8]>;

    /// An attribute, `field`, has been removed as [`Visitor::attribute`] wanted.
    fn removed(&mut self, key: &'a [u8], field: &Field<'a>);

    /// A string (checked to be UTF-8) or the bytes of an AnyValue; `text` is the content of `field`.
    fn text(&mut self, at: At<'a>, field: &Field<'a>, text: &'a [u8], edits: &mut EditList);

    /// A number of an AnyValue; `field` is the one in that AnyValue.
    fn number(&mut self, at: At<'a>, field: &Field<'a>, number: Number, edits: &mut EditList);
}

/// How far the attributes of a request extend: no list of them is longer, and no KeyValue larger, than this. Those nested in
/// a value count as a part of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub most_attributes: usize,
    pub largest_attribute: usize,
    /// Of the keys of more than [`SHORT`] bytes.
    pub longest_key: usize,
}

/// A length that takes one byte.
pub const SHORT: usize = 127;

/// Walks a whole request.
///
/// After an error `edits` is of no use: clear it.
pub fn walk<'a, V: Visitor<'a>>(
    signal: Signal,
    request: &'a [u8],
    visitor: &mut V,
    edits: &mut EditList,
) -> Result<Extent, Malformed> {
    let mut walk = Walk { visitor, edits, extent: Extent::default(), items: 0 };
    walk.message(Reader::new(request), schema::request(signal))?;
    Ok(walk.extent)
}

/// Validates a whole request.
pub fn validate(signal: Signal, request: &[u8]) -> Result<Extent, Malformed> {
    walk(signal, request, &mut Nobody, &mut EditList::default())
}

/// Looks at nothing: the walk only validates.
struct Nobody;

impl<'a> Visitor<'a> for Nobody {
    const EDITS: bool = false;

    fn attribute(&mut self, _key: &'a [u8]) -> Fate {
        Fate::Walk
    }
    #[inline]
    fn passes(&mut self, attribute: &'a [u8]) -> bool {
        plain_attribute(attribute)
            .is_some_and(|(key, value)| is_utf8(key) && !matches!(value, Plain::Text(text) if !is_utf8(text)))
    }
    fn replacement(&mut self, _key: &'a [u8], _value: &Field<'a>) -> Cow<'static, [u8]> {
        Cow::Borrowed(b"")
    }
    fn removed(&mut self, _key: &'a [u8], _field: &Field<'a>) {}
    #[inline]
    fn text(&mut self, _at: At<'a>, _field: &Field<'a>, _text: &'a [u8], _edits: &mut EditList) {}
    #[inline]
    fn number(&mut self, _at: At<'a>, _field: &Field<'a>, _number: Number, _edits: &mut EditList) {}
}

struct Walk<'w, V> {
    visitor: &'w mut V,
    edits: &'w mut EditList,
    extent: Extent,
    /// Items that have ended.
    items: u64,
}

impl<'a, V: Visitor<'a>> Walk<'_, V> {
    fn message(&mut self, mut reader: Reader<'a>, schema: &'static Schema) -> Result<(), Malformed> {
        let mut seen = 0u32;
        let mut attributes = 0;
        while let Some(field) = reader.next_field()? {
            match *schema.kind(field.number) {
                Kind::Unknown => self.unknown(&field),
                Kind::Varint => {
                    field.varint()?;
                }
                Kind::Fixed32 => {
                    field.fixed32()?;
                }
                Kind::Fixed64 => {
                    field.fixed64()?;
                }
                Kind::Varints => check_varints(&field)?,
                Kind::Fixed64s => check_fixed64s(&field)?,
                Kind::Text(place) => self.string(At { place, key: None }, &field)?,
                Kind::Id { length, required } => {
                    let id = field.bytes()?;
                    if id.len() != length && (required || !id.is_empty()) {
                        return Err(Malformed::IdLength);
                    }
                    seen |= 1 << field.number;
                }
                Kind::Message(inner) => {
                    let nested = reader.nested(&field)?;
                    self.enter(&field);
                    match inner.unit {
                        Some(unit) => self.unit(unit, nested, inner)?,
                        None => self.message(nested, inner)?,
                    }
                    self.exit();
                }
                Kind::KeyValue => {
                    attributes += 1;
                    self.extent.largest_attribute = self.extent.largest_attribute.max(field.end - field.payload);
                    self.key_value(reader.nested(&field)?, &field, Place::AttributeValue, 1)?;
                }
                Kind::AnyValue(place) => {
                    self.any_value(reader.nested(&field)?, &field, At { place, key: None }, 1)?;
                }
            }
        }
        self.extent.most_attributes = self.extent.most_attributes.max(attributes);
        if seen & schema.required != schema.required {
            return Err(Malformed::IdLength);
        }
        Ok(())
    }

    fn unit(&mut self, unit: Unit, reader: Reader<'a>, schema: &'static Schema) -> Result<(), Malformed> {
        if !V::EDITS {
            return self.message(reader, schema);
        }
        let first = self.items;
        self.visitor.begin(unit, reader)?;
        self.message(reader, schema)?;
        self.items += u64::from(unit == Unit::Item);
        self.visitor.end(first..self.items);
        Ok(())
    }

    #[inline]
    fn unknown(&mut self, field: &Field<'a>) {
        if V::EDITS && !self.visitor.keeps_unknown() {
            self.edits.remove(field);
        }
    }

    /// `depth` is that of the attribute's value.
    fn key_value(&mut self, inner: Reader<'a>, field: &Field<'a>, place: Place, depth: usize) -> Result<(), Malformed> {
        if self.visitor.passes(inner.bytes()) {
            return Ok(());
        }
        let (key, fate) = self.key_and_fate(inner)?;
        match fate {
            Fate::Walk => {
                self.enter(field);
                let mut fields = inner;
                while let Some(part) = fields.next_field()? {
                    match part.number {
                        KEY => self.key(key, &part)?,
                        VALUE => {
                            self.any_value(fields.nested(&part)?, &part, At { place, key: Some(key) }, depth)?;
                        }
                        KEY_STRINDEX => {
                            part.varint()?;
                        }
                        _ => self.unknown(&part),
                    }
                }
                self.exit();
            }
            Fate::Keep | Fate::Replace => {
                self.enter(field);
                let mut fields = inner;
                let mut replaced = false;
                while let Some(part) = fields.next_field()? {
                    match part.number {
                        // The key itself may hold a secret.
                        KEY => self.key(key, &part)?,
                        VALUE => {
                            check_any_value(fields.nested(&part)?, &part, depth)?;
                            if fate == Fate::Keep {
                                continue;
                            }
                            // Further occurrences would be merged into the replacement.
                            if replaced {
                                self.edits.remove(&part);
                            } else {
                                let replacement = self.visitor.replacement(key, &part);
                                self.edits.replace_content(&part, &replacement);
                            }
                            replaced = true;
                        }
                        KEY_STRINDEX => {
                            part.varint()?;
                        }
                        _ => self.unknown(&part),
                    }
                }
                self.exit();
            }
            Fate::Remove => {
                let mut nobody =
                    Walk { visitor: &mut Nobody, edits: &mut EditList::default(), extent: Extent::default(), items: 0 };
                nobody.key_value(inner, field, place, depth)?;
                self.edits.remove(field);
                self.visitor.removed(key, field);
            }
        }
        Ok(())
    }

    #[inline]
    fn key(&mut self, key: &'a [u8], part: &Field<'a>) -> Result<(), Malformed> {
        self.extent.longest_key = self.extent.longest_key.max(part.end - part.payload);
        self.string(At { place: Place::AttributeKey, key: Some(key) }, part)
    }

    /// The key, which may stand behind the value, or twice: the one with the harshest fate counts, of equal ones the last.
    #[inline]
    fn key_and_fate(&mut self, mut fields: Reader<'a>) -> Result<(&'a [u8], Fate), Malformed> {
        if !V::EDITS {
            return Ok((b"", Fate::Walk));
        }
        let mut found: Option<(&'a [u8], Fate)> = None;
        while let Some(part) = fields.next_field()? {
            if part.number == KEY {
                let key = part.bytes()?;
                let fate = self.visitor.attribute(key);
                if found.is_none_or(|(_, known)| known <= fate) {
                    found = Some((key, fate));
                }
            }
        }
        Ok(found.unwrap_or_else(|| (b"".as_slice(), self.visitor.attribute(b""))))
    }

    fn any_value(&mut self, inner: Reader<'a>, field: &Field<'a>, at: At<'a>, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        self.enter(field);
        let mut parts = inner;
        while let Some(part) = parts.next_field()? {
            match part.number {
                any_value::STRING => self.string(at, &part)?,
                any_value::BYTES => self.visitor.text(at, &part, part.bytes()?, self.edits),
                any_value::INT => {
                    self.visitor.number(at, &part, Number::Int(part.varint()? as i64), self.edits);
                }
                any_value::DOUBLE => {
                    self.visitor.number(at, &part, Number::Double(part.double()?), self.edits);
                }
                any_value::BOOL | any_value::STRING_STRINDEX => {
                    part.varint()?;
                }
                any_value::ARRAY | any_value::KVLIST => {
                    let mut values = parts.nested(&part)?;
                    self.enter(&part);
                    while let Some(value) = values.next_field()? {
                        if value.number != LIST_VALUES {
                            self.unknown(&value);
                            continue;
                        }
                        let nested = values.nested(&value)?;
                        if part.number == any_value::ARRAY {
                            self.any_value(nested, &value, at, depth + 1)?;
                        } else {
                            self.key_value(nested, &value, at.place, depth + 1)?;
                        }
                    }
                    self.exit();
                }
                _ => self.unknown(&part),
            }
        }
        self.exit();
        Ok(())
    }

    #[inline]
    fn string(&mut self, at: At<'a>, field: &Field<'a>) -> Result<(), Malformed> {
        let text = field.bytes()?;
        if !is_utf8(text) {
            return Err(Malformed::Utf8);
        }
        self.visitor.text(at, field, text, self.edits);
        Ok(())
    }

    #[inline]
    fn enter(&mut self, field: &Field<'a>) {
        if V::EDITS {
            self.edits.enter(field);
        }
    }

    #[inline]
    fn exit(&mut self) {
        if V::EDITS {
            self.edits.exit();
        }
    }
}

/// Most text is ASCII, which is told sooner.
#[inline]
fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || std::str::from_utf8(text).is_ok()
}

/// A KeyValue in the form that nearly all have: a key, then a string, int or double, lengths in one byte each, and nothing
/// else. `None`: it has another form, or is not valid.
#[inline]
pub fn plain_attribute(message: &[u8]) -> Option<(&[u8], Plain<'_>)> {
    let (key, rest) = short_bytes(KEY, message)?;
    let (value, rest) = short_bytes(VALUE, rest)?;
    if !rest.is_empty() {
        return None;
    }
    let &tag = value.first()?;
    let payload = &value[1..];
    let plain = match (u32::from(tag) >> 3, tag & 7) {
        (any_value::STRING, 2) => {
            let (text, rest) = short_bytes(any_value::STRING, value)?;
            if !rest.is_empty() {
                return None;
            }
            Plain::Text(text)
        }
        (any_value::INT, 0) => {
            let (number, width) = read_varint(payload).ok()?;
            if width != payload.len() {
                return None;
            }
            Plain::Number(Number::Int(number as i64))
        }
        (any_value::DOUBLE, 1) => Plain::Number(Number::Double(f64::from_le_bytes(payload.try_into().ok()?))),
        _ => return None,
    };
    Some((key, plain))
}

/// A length-delimited field of fewer than 128 bytes at the start of `message`, and what is behind it.
#[inline(always)]
fn short_bytes(number: u32, message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[tag, length], rest) = message.split_first_chunk::<2>()?;
    if u32::from(tag) != number << 3 | 2 || length >= 0x80 {
        return None;
    }
    rest.split_at_checked(usize::from(length))
}

/// `ArrayValue.values`, `KeyValueList.values`.
const LIST_VALUES: u32 = 1;
/// `KeyValue.key_strindex`; only profiles use it.
const KEY_STRINDEX: u32 = 3;

/// Validates a value that will be replaced as a whole.
fn check_any_value<'a>(inner: Reader<'a>, field: &Field<'a>, depth: usize) -> Result<(), Malformed> {
    let mut nobody =
        Walk { visitor: &mut Nobody, edits: &mut EditList::default(), extent: Extent::default(), items: 0 };
    nobody.any_value(inner, field, At { place: Place::AttributeValue, key: None }, depth)
}

fn check_varints(field: &Field<'_>) -> Result<(), WireError> {
    match field.value {
        Value::Varint(_) => Ok(()),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let (_, width) = read_varint(packed)?;
                packed = &packed[width..];
            }
            Ok(())
        }
        _ => Err(WireError::WrongType),
    }
}

fn check_fixed64s(field: &Field<'_>) -> Result<(), WireError> {
    match field.value {
        Value::Fixed64(_) => Ok(()),
        Value::Bytes(packed) if packed.len() % 8 == 0 => Ok(()),
        Value::Bytes(_) => Err(WireError::Truncated),
        _ => Err(WireError::WrongType),
    }
}

#[cfg(test)]
mod tests;
