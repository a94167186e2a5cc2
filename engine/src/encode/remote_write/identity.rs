//! What identifies a series in remote write, without writing it: for the series budget, which must count what the backend
//! will count.

use super::labels::{Extra, PointLabels};
use super::names::{metric_name, NameKind};
use super::{RemoteWriteEncoder, Resource, Shape};
use crate::otlp::metric;
use crate::otlp::wire::{Reader, WireError};
use crate::relabel::Rules;

pub(crate) use super::points::fixed64s;

impl RemoteWriteEncoder {
    /// What the series of one `ResourceMetrics` have in common.
    pub(crate) fn identity<'a>(&self, reader: Reader<'a>, tenant: &str) -> Result<ResourceIdentity<'a>, WireError> {
        Resource::read(reader, &self.promote, tenant).map(ResourceIdentity)
    }

    /// An encoder that promotes what any of `encoders` does: where labels differ, series do.
    pub(crate) fn union<'e>(encoders: impl Iterator<Item = &'e RemoteWriteEncoder>) -> RemoteWriteEncoder {
        let mut promote: Vec<_> = encoders.flat_map(|encoder| encoder.promote.iter().cloned()).collect();
        promote.sort();
        promote.dedup();
        RemoteWriteEncoder { promote }
    }
}

/// A resource's share in the labels of its series.
pub(crate) struct ResourceIdentity<'a>(Resource<'a>);

impl ResourceIdentity<'_> {
    pub(crate) fn job(&self) -> &str {
        let job = self.0.labels.identifying.iter().find(|(name, _)| *name == "job");
        job.map_or("", |(_, value)| value.as_str())
    }

    pub(crate) fn series<'s>(&'s self, tenant: &'s str, rules: &'s Rules) -> SeriesIdentity<'s> {
        SeriesIdentity { labels: PointLabels::new(&self.0.labels, tenant, rules), encoded: Vec::new() }
    }
}

/// Makes the labels of one point after the other.
pub(crate) struct SeriesIdentity<'s> {
    labels: PointLabels<'s>,
    encoded: Vec<u8>,
}

impl<'s> SeriesIdentity<'s> {
    /// The labels as a TimeSeries has them; of a histogram or summary those that all of its series share, under the
    /// family's name. `None`: the rules drop it.
    pub(crate) fn labels(&mut self, attributes: &[&'s [u8]], family: &str) -> Result<Option<&[u8]>, WireError> {
        self.labels.fill(attributes)?;
        self.encoded.clear();
        let kept = self.labels.put(&mut self.encoded, family, Extra::None);
        Ok(kept.then_some(self.encoded.as_slice()))
    }
}

pub(crate) fn read_shape(points: Reader<'_>) -> Result<Shape, WireError> {
    Shape::read(points)
}

/// The family's name in Prometheus; `data` is the field of Metric.
pub(crate) fn family_name(name: &str, unit: &str, data: u32, monotonic: bool) -> String {
    metric_name(name, unit, name_kind(data, monotonic))
}

pub(super) fn name_kind(data: u32, monotonic: bool) -> NameKind {
    match data {
        metric::GAUGE => NameKind::Gauge,
        metric::SUM if monotonic => NameKind::MonotonicCounter,
        _ => NameKind::Other,
    }
}
