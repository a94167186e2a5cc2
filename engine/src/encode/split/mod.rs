//! Taking a backend's request apart: into halves, or into the shares of shards.
//!
//! A part is a request of the same format. Items are what the backend counts, as in [`super::Encoded::items`]; their
//! content is not looked at.

mod deal;
mod halve;
mod schema;

pub use deal::{deal, Dealt};
pub use halve::{halve, Half};

use crate::otlp::wire::{Field, Reader, WireError};
use crate::otlp::Signal;
use schema::{Level, Role};

/// The wire format of a request; uncompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WriteRequest 1.0.
    RemoteWrite,
    /// PushRequest.
    Loki,
    /// `Export*ServiceRequest`.
    Otlp(Signal),
}

impl Format {
    /// `None`: there is no such format, or it does not carry the signal.
    pub fn parse(name: &str, signal: Signal) -> Option<Format> {
        match (name, signal) {
            ("remote_write", Signal::Metrics) => Some(Format::RemoteWrite),
            ("loki", Signal::Logs) => Some(Format::Loki),
            ("otlp", signal) => Some(Format::Otlp(signal)),
            _ => None,
        }
    }
}

fn count(level: Level, mut message: Reader<'_>) -> Result<u64, WireError> {
    let mut items = 0;
    while let Some(field) = message.next_field()? {
        items += count_field(level.role(field.number), &message, &field)?;
    }
    Ok(items)
}

fn count_field(role: Role, message: &Reader<'_>, field: &Field<'_>) -> Result<u64, WireError> {
    match role {
        Role::Around | Role::Beside | Role::Dated(_) => Ok(0),
        Role::Item(_) => field.bytes().map(|_| 1),
        Role::Part(part) => count(part, message.nested(field)?),
    }
}

#[cfg(test)]
mod tests;
