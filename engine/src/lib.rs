//! The data path of the telemetry gateway: `gateway._engine`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod admit;
pub mod encode;
pub mod mask;
pub mod otlp;
pub mod policy;
pub mod relabel;
pub mod resource;
pub mod sample;
