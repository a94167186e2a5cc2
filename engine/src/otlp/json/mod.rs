//! OTLP/JSON: to protobuf as a request comes in, from protobuf as lines go out. Driven by tables; nothing is decoded into
//! objects.
//!
//! Sources: OTLP specification (JSON Protobuf Encoding): ids are hexadecimal, enums are integers, names are lowerCamelCase,
//! unknown fields are ignored; ProtoJSON for everything else.

mod decode;
mod encode;
mod path;
mod schema;

pub use decode::{decode, Decoded, JsonError};
pub use encode::encode;
pub use path::path_of;

#[cfg(test)]
mod tests;
