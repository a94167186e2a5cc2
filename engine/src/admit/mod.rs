//! Admission: is there room for this request in its tenant's budget, and in the gateway's memory?

pub mod bucket;
pub mod budget;
pub mod inflight;
pub mod labels;
pub mod limiter;
pub mod series;
pub mod usage;
pub mod volume;

pub use budget::{Budget, Cost, Grant, OverQuota, Surroundings};
