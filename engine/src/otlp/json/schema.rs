//! The OTLP schema as tables: what each field of each message is called in JSON, and how it is written.
//!
//! The rows, in `rows.rs`, are opentelemetry-proto's descriptors, printed; a test compares them.

#[rustfmt::skip]
mod rows;

pub(super) use rows::*;

use crate::otlp::Signal;

/// The type of a field, and so its form on the wire and in JSON.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// bytes, as OTLP writes ids.
    Hex,
    /// Other bytes.
    Base64,
    Bool,
    Enum(Names),
    Int32,
    UInt32,
    SInt32,
    Int64,
    UInt64,
    Fixed32,
    Fixed64,
    SFixed64,
    Double,
    Nested(&'static Message),
}

/// Whether a field that has its default value is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// proto3 scalar: the default is not written.
    Implicit,
    /// `optional`, or a member of a oneof, or a message: written whenever it is set.
    Explicit,
    Repeated,
}

/// Names and numbers of an enum.
pub(super) type Names = &'static [(&'static str, i32)];

pub(super) struct FieldSpec {
    pub(super) number: u32,
    pub(super) json_name: &'static str,
    pub(super) proto_name: &'static str,
    pub(super) presence: Presence,
    pub(super) kind: Kind,
}

/// The fields of a message, by ascending number.
pub(super) struct Message(pub(super) &'static [FieldSpec]);

impl Message {
    /// By either name.
    pub(super) fn named(&self, name: &str) -> Option<&'static FieldSpec> {
        self.0.iter().find(|field| field.json_name == name || field.proto_name == name)
    }

    /// Index of the field with this number.
    pub(super) fn position(&self, number: u32) -> Option<usize> {
        self.0.binary_search_by_key(&number, |field| field.number).ok()
    }
}

/// The message that a signal's request is.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &EXPORT_TRACE_SERVICE_REQUEST,
        Signal::Metrics => &EXPORT_METRICS_SERVICE_REQUEST,
        Signal::Logs => &EXPORT_LOGS_SERVICE_REQUEST,
    }
}

const fn field(
    number: u32,
    json_name: &'static str,
    proto_name: &'static str,
    presence: Presence,
    kind: Kind,
) -> FieldSpec {
    FieldSpec { number, json_name, proto_name, presence, kind }
}
