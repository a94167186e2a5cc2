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
    /// How often each limit of the destination's format took something away; index: [`FormatLimit`].
    pub limited: [u64; FormatLimit::ALL.len()],
}

impl Encoded {
    pub fn drop_items(&mut self, reason: DropReason, items: u64) {
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += items,
            None => self.dropped.push((reason, items)),
        }
    }

    pub fn limit(&mut self, limit: FormatLimit, times: u64) {
        self.limited[limit as usize] += times;
    }
}

/// A limit of a destination's format under which an item was changed, not dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatLimit {
    /// A line that lost its end.
    LineCut,
    /// A line that became several.
    LineSplit,
    /// A pair of structured metadata that was left out.
    Metadata,
    /// A stream label that lost its end, once a resource.
    LabelValue,
    /// A JSON log line that was too large to be read, and is a text like any other.
    LogForm,
}

impl FormatLimit {
    pub const ALL: [FormatLimit; 5] = [
        FormatLimit::LineCut,
        FormatLimit::LineSplit,
        FormatLimit::Metadata,
        FormatLimit::LabelValue,
        FormatLimit::LogForm,
    ];

    pub fn name(self) -> &'static str {
        match self {
            FormatLimit::LineCut => "line_cut",
            FormatLimit::LineSplit => "line_split",
            FormatLimit::Metadata => "metadata",
            FormatLimit::LabelValue => "label_value",
            FormatLimit::LogForm => "log_form",
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
    /// A log line over `max_line_bytes`, where `long_lines: drop` says so.
    LineTooLong,
}

impl DropReason {
    pub const ALL: [DropReason; 4] = [
        DropReason::ExponentialHistogramUnsupported,
        DropReason::DeltaTemporalityUnsupported,
        DropReason::InvalidPoint,
        DropReason::LineTooLong,
    ];

    pub fn name(self) -> &'static str {
        match self {
            DropReason::ExponentialHistogramUnsupported => "exponential_histogram_unsupported",
            DropReason::DeltaTemporalityUnsupported => "delta_temporality_unsupported",
            DropReason::InvalidPoint => "invalid_point",
            DropReason::LineTooLong => "line_too_long",
        }
    }
}
