//! Remote write 1.
use super::Encoded; use crate::otlp::wire::WireError; use crate::relabel::Rules;
pub struct RemoteWriteEncoder;
impl RemoteWriteEncoder { pub fn new(_l: &[String]) -> Self { RemoteWriteEncoder }
 pub fn encode(&self, _r: &[u8], _t: &str, _s: &Rules, _o: &mut Vec<u8>) -> Result<Encoded, WireError> { Ok(Encoded::default()) } }
