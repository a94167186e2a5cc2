//! OTLP/JSON.
use super::wire::WireError; use super::Signal;
pub struct Decoded { pub known_shape: bool }
#[derive(Debug)] pub struct JsonError;
impl std::fmt::Display for JsonError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("x") } }
pub fn decode(_s: Signal, _j: &[u8], _o: &mut Vec<u8>) -> Result<Decoded, JsonError> { Ok(Decoded { known_shape: true }) }
pub fn encode(_s: Signal, _r: &[u8], _o: &mut Vec<u8>) -> Result<(), WireError> { Ok(()) }
