//! Protobuf wire primitives: a borrowing reader with absolute offsets, and writers.
//!
//! Source: protobuf.dev/programming-guides/encoding. Nothing is decoded into objects; a reader borrows slices of the
//! request and tells where each field stands, so that later stages can edit the bytes in place.

use std::fmt;
use std::ops::Range;

/// Why bytes are not a protobuf message of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The message ends inside a field.
    Truncated,
    /// A varint of more than ten bytes, or a tag over 32 bits.
    BadVarint,
    /// Field number 0, or a group (wire types 3 and 4), or an unknown wire type.
    BadTag,
    /// A known field came with another wire type than the schema's.
    WrongType,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WireError::Truncated => "the message ends inside a field",
            WireError::BadVarint => "a varint is longer than ten bytes",
            WireError::BadTag => "a field has an invalid tag",
            WireError::WrongType => "a field has another wire type than OTLP gives it",
        })
    }
}

impl std::error::Error for WireError {}

/// The payload of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field as it stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    /// Offset of the tag in the reader's buffer.
    pub start: usize,
    /// Offset behind the tag: of the length prefix for `Bytes`, else of the payload. Measured, since a sender may pad varints.
    prefix: usize,
    /// Offset of the payload: behind the tag and, for `Bytes`, behind the length.
    pub payload: usize,
    /// Offset behind the field.
    pub end: usize,
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WrongType),
        }
    }

    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::WrongType),
        }
    }

    pub fn fixed64(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Fixed64(value) => Ok(value),
            _ => Err(WireError::WrongType),
        }
    }

    pub fn fixed32(&self) -> Result<u32, WireError> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(WireError::WrongType),
        }
    }

    pub fn double(&self) -> Result<f64, WireError> {
        self.fixed64().map(f64::from_bits)
    }

    /// Where the length prefix of a length-delimited field stands: between tag and payload.
    pub fn length_prefix(&self) -> Range<usize> {
        self.prefix..self.payload
    }
}

/// Walks the fields of one message inside a buffer; all offsets are offsets into that buffer.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// Up to the end of the message.
    buffer: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads the whole buffer as one message.
    pub fn new(buffer: &'a [u8]) -> Self {
        Reader { buffer, position: 0 }
    }

    /// Reads the message that `field` holds, in the same buffer. `Err(WrongType)` if the field holds no bytes.
    pub fn nested(&self, field: &Field<'a>) -> Result<Reader<'a>, WireError> {
        field.bytes()?;
        let buffer = self.buffer.get(..field.end).ok_or(WireError::Truncated)?;
        Ok(Reader { buffer, position: field.payload })
    }

    /// Where it stands in the buffer.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is still to be read.
    pub fn bytes(&self) -> &'a [u8] {
        &self.buffer[self.position..]
    }

    /// The next field, or `None` behind the last one.
    // Inlined by force: returned through memory, the field is written in parts and read back whole, which stalls the
    // store buffer; that took a third of the time of a walk.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.position >= self.buffer.len() {
            return Ok(None);
        }
        let start = self.position;
        let tag = self.read_varint()?;
        if tag > u64::from(u32::MAX) {
            return Err(WireError::BadVarint);
        }
        let number = (tag >> 3) as u32;
        if number == 0 {
            return Err(WireError::BadTag);
        }
        let prefix = self.position;
        let (value, payload) = match tag & 7 {
            0 => {
                let payload = self.position;
                (Value::Varint(self.read_varint()?), payload)
            }
            1 => {
                let payload = self.position;
                (Value::Fixed64(u64::from_le_bytes(self.read_array::<8>()?)), payload)
            }
            2 => {
                let length = self.read_varint()?;
                let payload = self.position;
                let available = (self.buffer.len() - payload) as u64;
                if length > available {
                    return Err(WireError::Truncated);
                }
                self.position = payload + length as usize;
                (Value::Bytes(&self.buffer[payload..self.position]), payload)
            }
            5 => {
                let payload = self.position;
                (Value::Fixed32(u32::from_le_bytes(self.read_array::<4>()?)), payload)
            }
            _ => return Err(WireError::BadTag),
        };
        Ok(Some(Field { number, value, start, prefix, payload, end: self.position }))
    }

    #[inline]
    fn read_varint(&mut self) -> Result<u64, WireError> {
        let rest = &self.buffer[self.position..];
        let (value, width) = read_varint(rest)?;
        self.position += width;
        Ok(value)
    }

    #[inline]
    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let rest = &self.buffer[self.position..];
        let array: [u8; N] = rest.get(..N).and_then(|bytes| bytes.try_into().ok()).ok_or(WireError::Truncated)?;
        self.position += N;
        Ok(array)
    }
}

/// A varint at the start of `bytes`, and its width.
#[inline(always)]
pub fn read_varint(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    match *bytes {
        [byte, ..] if byte < 0x80 => Ok((u64::from(byte), 1)),
        [low, high, ..] if high < 0x80 => Ok((u64::from(low & 0x7f) | u64::from(high) << 7, 2)),
        _ => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index as u32);
        if byte < 0x80 {
            // The tenth byte holds bit 63 only.
            if index == 9 && byte > 1 {
                return Err(WireError::BadVarint);
            }
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() >= 10 { WireError::BadVarint } else { WireError::Truncated })
}

/// How many bytes a varint takes, 1 to 10.
#[inline]
pub fn varint_len(value: u64) -> usize {
    // Seven payload bits a byte; `| 1` gives zero its one byte.
    ((63 - (value | 1).leading_zeros()) / 7 + 1) as usize
}

#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    put_varint(out, u64::from(number << 3 | wire_type));
}

/// A varint field; written also when zero.
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 0);
    put_varint(out, value);
}

/// A fixed64 or double field (pass `f64::to_bits`); written also when zero.
pub fn put_fixed64_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_fixed32_field(out: &mut Vec<u8>, number: u32, value: u32) {
    put_tag(out, number, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A string, bytes or encoded-message field; written also when empty.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A nested message whose content `write` appends. The length prefix is put in afterwards; one byte is reserved for it,
/// so only messages of 128 bytes and more are moved.
#[inline]
pub fn put_message_field(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_message_field_of(1, out, number, write);
}

/// [`put_message_field`] for a message that has about `expected` bytes: it is moved only if its length prefix turns out to
/// have another width than that many bytes would want.
#[inline]
pub fn put_message_field_of(expected: usize, out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, 2);
    let prefix = out.len();
    let reserved = varint_len(expected as u64);
    out.resize(prefix + reserved, 0);
    write(out);
    let content = prefix + reserved..out.len();
    let length = content.len() as u64;
    let width = varint_len(length);
    if width != reserved {
        let end = prefix + width + content.len();
        out.resize(out.len().max(end), 0);
        out.copy_within(content, prefix + width);
        out.truncate(end);
    }
    let mut rest = length;
    for (index, byte) in out[prefix..prefix + width].iter_mut().enumerate() {
        *byte = rest as u8 | 0x80;
        if index + 1 == width {
            *byte &= 0x7f;
        }
        rest >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_reads_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(read_varint(&out), Ok((value, out.len())));
        }

        #[test]
        fn a_nested_message_has_the_length_of_its_content(
            content in proptest::collection::vec(any::<u8>(), 0..40_000),
            expected in 0usize..100_000,
        ) {
            let mut out = vec![7];
            put_message_field(&mut out, 3, |out| out.extend_from_slice(&content));
            let mut plain = vec![7];
            put_bytes_field(&mut plain, 3, &content);
            prop_assert_eq!(&out, &plain);
            out.truncate(1);
            put_message_field_of(expected, &mut out, 3, |out| out.extend_from_slice(&content));
            prop_assert_eq!(out, plain);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(field)) = reader.next_field() {
                let prefix = field.length_prefix();
                prop_assert!(field.start < prefix.start && prefix.start <= prefix.end && prefix.end == field.payload && field.payload <= field.end);
            }
        }
    }

    #[test]
    fn padded_varints_are_found_whole() {
        // field 1 with its tag in two bytes, length 2 written in three bytes, payload "hi"
        let bytes = [0x8a, 0x00, 0x82, 0x80, 0x00, b'h', b'i'];
        let field = Reader::new(&bytes).next_field().unwrap().unwrap();
        assert_eq!(field.length_prefix(), 2..5);
        assert_eq!(field.bytes().unwrap(), b"hi");
    }
}
