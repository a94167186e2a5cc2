//! Stand-in.
use super::detectors::Report;
#[derive(Debug)]
pub(super) struct Literals;
impl Literals {
    pub(super) fn compile(_: &[String], _: bool) -> Result<Literals, String> { Ok(Literals) }
    pub(super) fn find(&self, _: &[u8], _: Report<'_>) {}
}
