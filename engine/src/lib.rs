//! The data path of the telemetry gateway: `gateway._engine`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod otlp;
pub mod policy;
