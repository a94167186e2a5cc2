//! Who decides, point by point, what is written: the series budget, or nobody.
//!
//! Counting series means making their labels, which is most of what encoding costs. So whoever counts them stands beside
//! the encoder and is shown the labels as they are written.

use crate::otlp::wire::{Reader, WireError};

/// A metric as it came.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'m> {
    /// `job` of its resource, as Prometheus has it; empty if the resource names no service.
    pub job: &'m str,
    pub name: &'m str,
    pub unit: &'m str,
    pub description: &'m [u8],
    /// The field of OTLP's Metric that holds the points.
    pub data: u32,
    pub cumulative: bool,
    pub monotonic: bool,
}

/// Decides about points as they are encoded.
///
/// It is asked once a point, in the order of the request; not about points that relabelling drops.
pub trait Gate {
    /// Whether it ever refuses. If not, nothing is made only to ask it.
    const DECIDES: bool;

    /// Whether a point is written. One that is refused leaves no trace.
    ///
    /// `labels` identify it: those of its TimeSeries; of a histogram or summary those that all its series share, under the
    /// family's name. `weight`: how many series it is. `point`: its message.
    fn admits(&mut self, metric: &Metric<'_>, labels: &[u8], weight: u32, point: Reader<'_>)
        -> Result<bool, WireError>;
}

/// Lets everything pass.
pub struct Open;

impl Gate for Open {
    const DECIDES: bool = false;

    #[inline(always)]
    fn admits(&mut self, _: &Metric<'_>, _: &[u8], _: u32, _: Reader<'_>) -> Result<bool, WireError> {
        Ok(true)
    }
}
