//! The members of a JSON text, flat; what has no escapes is borrowed from it.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use super::Members;
use crate::encode::loki::metadata::{attribute_name, member_name, Metadata, MAX_NAME_BYTES};
use crate::otlp::text::put_double;

/// `None`: not one whole JSON object. It may nest as deep as serde_json follows, 128.
pub(super) fn members(text: &[u8]) -> Option<Members<'_>> {
    let mut json = serde_json::Deserializer::from_str(std::str::from_utf8(text).ok()?);
    let members = json.deserialize_map(Object).ok()?;
    json.end().ok().map(|()| members)
}

struct Object;

impl<'a> Visitor<'a> for Object {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Members<'a>, M::Error> {
        let mut members = Members::default();
        while let Some(Key(key)) = map.next_key()? {
            if members.leaves_out(key.as_bytes()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let from = members.metadata.pairs.len();
            map.next_value_seed(Flat {
                name: attribute_name_of(&key),
                in_metadata: key == "metadata",
                into: &mut members.metadata,
            })?;
            members.take_named(key.as_bytes(), from);
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn attribute_name_of<'a>(key: &Cow<'a, str>) -> Cow<'a, str> {
    match key {
        Cow::Borrowed(key) => attribute_name(key.as_bytes()),
        Cow::Owned(key) => Cow::Owned(attribute_name(key.as_bytes()).into_owned()),
    }
}

/// Reads one value into pairs, as [`Metadata::flatten`] does.
struct Flat<'m, 'a> {
    name: Cow<'a, str>,
    /// It is the member `metadata`, whose own members go by their names alone.
    in_metadata: bool,
    into: &'m mut Metadata<'a>,
}

impl<'a> Flat<'_, 'a> {
    fn push(self, value: Cow<'a, str>) {
        self.into.push(self.name, value);
    }
}

impl<'a> DeserializeSeed<'a> for Flat<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Flat<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<(), E> {
        self.push(Cow::Borrowed(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.push(Cow::Owned(value.to_owned()));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.push(Cow::Borrowed(if value { "true" } else { "false" }));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.push(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.push(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let mut text = Vec::new();
        put_double(&mut text, value);
        self.push(Cow::Owned(String::from_utf8_lossy(&text).into_owned()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(self, elements: S) -> Result<(), S::Error> {
        let array = serde_json::Value::deserialize(SeqAccessDeserializer::new(elements))?;
        self.push(Cow::Owned(array.to_string()));
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if self.into.is_full() || self.name.len() > MAX_NAME_BYTES {
                self.into.left_out += 1;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let name = match self.in_metadata {
                true => attribute_name_of(&key),
                false => member_name(&self.name, key.as_bytes()),
            };
            map.next_value_seed(Flat { name, in_metadata: false, into: &mut *self.into })?;
        }
        Ok(())
    }
}
