//! Remote write 1.
