//! Encoders: a masked, relabelled request becomes the wire format of a destination.
//!
//! Each appends to an open batch; protobuf concatenation is merge, so appending is batching.

pub mod loki;
pub mod remote_write;
pub mod split;

/// What became of one request at one destination.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What the backend counts (spans, log lines, samples), `dropped` included.
    pub items: u64,
    /// Of `items`, what this destination's format cannot carry.
    pub dropped: Vec<(DropReason, u64)>,
    /// Items of the request of which relabelling left nothing; not in `items`.
    pub filtered: u64,
    /// Labels that met another of the same name after translation.
    pub label_collisions: u64,
    /// Items that claimed another tenant by a label of their own.
    pub tenant_claims: u64,
}

impl Encoded {
    pub fn drop_items(&mut self, reason: DropReason, items: u64) {
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += items,
            None => self.dropped.push((reason, items)),
        }
    }
}

/// Why an accepted item cannot be carried by a destination's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    ExponentialHistogramUnsupported,
    DeltaTemporalityUnsupported,
    /// A histogram whose bucket counts and bounds do not fit, a metric without a name or data, and the like.
    InvalidPoint,
}

impl DropReason {
    pub const ALL: [DropReason; 3] = [
        DropReason::ExponentialHistogramUnsupported,
        DropReason::DeltaTemporalityUnsupported,
        DropReason::InvalidPoint,
    ];

    pub fn name(self) -> &'static str {
        match self {
            DropReason::ExponentialHistogramUnsupported => "exponential_histogram_unsupported",
            DropReason::DeltaTemporalityUnsupported => "delta_temporality_unsupported",
            DropReason::InvalidPoint => "invalid_point",
        }
    }
}
