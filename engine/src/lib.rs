//! The data path of the telemetry gateway: `gateway._engine`.
//!
//! Start at `pipeline.rs`, the path of a request. `listen` brings requests in, `batch` hands batches out, `python.rs` is
//! the surface that Python sees. Stages do not know each other.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod admit;
mod answers;
pub mod batch;
pub mod compress;
pub mod encode;
pub mod engine;
pub mod events;
pub mod explain;
pub mod generation;
pub mod identify;
pub mod lane;
pub mod ledger;
pub mod listen;
pub mod lock;
pub mod mask;
mod matcher;
pub mod otlp;
pub mod payload;
pub mod pipeline;
pub mod policy;
pub mod relabel;
pub mod resource;
pub mod routes;
pub mod sample;
mod shares;
pub mod trial;

#[cfg(feature = "python")]
mod python;
