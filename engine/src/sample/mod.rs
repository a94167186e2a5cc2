//! The sample stage.
use crate::otlp::{edit::EditList, wire::WireError};
use crate::policy;
pub struct RatioSampler;
impl RatioSampler { pub fn compile(_spec: &policy::Sample) -> Result<RatioSampler, String> { Ok(RatioSampler) } }
pub fn sample(_r: &[u8], _s: &RatioSampler, _e: &mut EditList) -> Result<u64, WireError> { Ok(0) }
