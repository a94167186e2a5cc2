//! The budget as a gate of the encoder: points of series over budget are not written, but folded or rejected.
//!
//! The encoder shows the labels it has just made, so a known series costs a hash and a look-up. A point is read a second
//! time only when something becomes of it.

use std::sync::atomic::Ordering;

use super::fold::{Family, Fold, Point, Value, View};
use super::table::{Fingerprint, Seen, Window};
use super::{Now, SeriesBudget};
use crate::encode::remote_write::fixed64s;
use crate::encode::remote_write::gate::{Gate, Metric};
use crate::lock::lock;
use crate::otlp::edit::EditList;
use crate::otlp::items::{retain, Level};
use crate::otlp::wire::{Reader, WireError};
use crate::otlp::{metric, Signal};
use crate::policy::SeriesQuota;

/// What the budget did to a request.
#[derive(Debug, Default)]
pub struct Held {
    /// Points of new series that can't be folded.
    pub rejected: u64,
    /// Points that live on in an overflow series.
    pub folded: u64,
    /// Overflow series to be written, for [`SeriesBudget::emit`].
    pub grown: Vec<u64>,
    /// Where the points that were rejected or folded stand in the request, ascending.
    refused: Vec<usize>,
}

impl Held {
    /// Whether every point was within the budget.
    pub fn nothing(&self) -> bool {
        self.refused.is_empty()
    }

    /// Takes what was rejected or folded out of the request that went through the gate. Messages without points go with
    /// their points. `edits` must be empty.
    pub fn take_out(&self, request: &[u8], edits: &mut EditList) -> Result<(), WireError> {
        let mut refused = self.refused.iter().peekable();
        retain(Signal::Metrics, request, edits, &mut |level, message| {
            let is_refused = |at: &&usize| **at == message.position();
            Ok(!(matches!(level, Level::Item(_)) && refused.next_if(is_refused).is_some()))
        })
        .map(|_| ())
    }

    fn grow(&mut self, overflow: u64) {
        if !self.grown.contains(&overflow) {
            self.grown.push(overflow);
        }
    }
}

/// The budget of one tenant, held against one request.
pub struct SeriesGate<'b> {
    budget: &'b SeriesBudget,
    max_active: u64,
    now: Now,
    window: Window,
    view: View,
    held: Held,
    point: CumulativePoint,
}

impl SeriesBudget {
    pub fn gate(&self, quota: &SeriesQuota, now: Now) -> SeriesGate<'_> {
        let window = now.window(quota.window_s);
        SeriesGate {
            budget: self,
            max_active: quota.max_active.unwrap_or(u64::MAX),
            now,
            window,
            view: View { window, since_ns: self.since_ns, max_folded: quota.max_folded },
            held: Held::default(),
            point: CumulativePoint::default(),
        }
    }
}

impl Gate for SeriesGate<'_> {
    const DECIDES: bool = true;

    #[inline]
    fn admits(
        &mut self,
        metric: &Metric<'_>,
        labels: &[u8],
        weight: u32,
        point: Reader<'_>,
    ) -> Result<bool, WireError> {
        let fingerprint = self.budget.key.fingerprint(labels);
        let admit = || self.budget.take_new(self.now, weight);
        match self.budget.table.see(fingerprint, weight, self.window, self.max_active, admit) {
            Seen::Known => Ok(true),
            Seen::Admitted => self.admitted(fingerprint, metric, point).map(|()| true),
            Seen::Refused => self.refused(fingerprint, metric, labels, point).map(|()| false),
        }
    }
}

impl SeriesGate<'_> {
    /// What became of the request.
    pub fn close(self) -> Held {
        self.held
    }

    /// A new series; it may have been folded until here.
    fn admitted(&mut self, series: Fingerprint, metric: &Metric<'_>, point: Reader<'_>) -> Result<(), WireError> {
        if !is_foldable(metric) || self.budget.folded.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let point = self.point.read(point, metric.data)?;
        let mut folder = lock(&self.budget.folder);
        let grown = folder.graduate(series, &point);
        self.budget.folded.store(folder.folded(), Ordering::Relaxed);
        grown.into_iter().for_each(|id| self.held.grow(id));
        Ok(())
    }

    /// A series over budget: folded, or else rejected.
    #[cold]
    fn refused(
        &mut self,
        series: Fingerprint,
        metric: &Metric<'_>,
        labels: &[u8],
        point: Reader<'_>,
    ) -> Result<(), WireError> {
        self.held.refused.push(point.position());
        match self.fold(series, metric, point)? {
            Fold::Taken { overflow, new } => {
                self.held.folded += 1;
                self.held.grow(overflow);
                if new {
                    self.note_growth(labels)?;
                }
            }
            Fold::Refused => {
                self.held.rejected += 1;
                self.note_growth(labels)?;
            }
        }
        Ok(())
    }

    fn fold(&mut self, series: Fingerprint, metric: &Metric<'_>, point: Reader<'_>) -> Result<Fold, WireError> {
        if !is_foldable(metric) {
            return Ok(Fold::Refused);
        }
        let family = Family {
            job: metric.job,
            metric: metric.name,
            unit: metric.unit,
            description: std::str::from_utf8(metric.description).unwrap_or_default(),
            histogram: metric.data == metric::HISTOGRAM,
        };
        let id = family.id(&self.budget.key);
        let point = self.point.read(point, metric.data)?;
        let mut folder = lock(&self.budget.folder);
        let fold = folder.fold(series, &family, id, &point, &self.view);
        if fold != Fold::Refused {
            self.budget.folded.store(folder.folded(), Ordering::Relaxed);
            self.budget.folded_points.fetch_add(1, Ordering::Relaxed);
        }
        Ok(fold)
    }

    /// `labels`: encoded Label { name = 1, value = 2 }, each as field 1.
    fn note_growth(&self, labels: &[u8]) -> Result<(), WireError> {
        let mut growth = lock(&self.budget.growth);
        let mut fields = Reader::new(labels);
        while let Some(label) = fields.next_field()? {
            let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
            let mut parts = fields.nested(&label)?;
            while let Some(part) = parts.next_field()? {
                match part.number {
                    1 => name = part.bytes()?,
                    2 => value = part.bytes()?,
                    _ => {}
                }
            }
            growth.add(&self.budget.key, name, value, self.window);
        }
        Ok(())
    }
}

/// Whether points of the metric can be summed: what counts up, from one start.
fn is_foldable(metric: &Metric<'_>) -> bool {
    metric.cumulative && (metric.data == metric::HISTOGRAM || (metric.data == metric::SUM && metric.monotonic))
}

/// The buckets of a point that is folded; the memory is used again.
#[derive(Default)]
struct CumulativePoint {
    counts: Vec<u64>,
    bounds: Vec<u64>,
}

const NO_RECORDED_VALUE: u64 = 1;

impl CumulativePoint {
    /// A NumberDataPoint of a sum or a HistogramDataPoint; `data` says which.
    fn read(&mut self, mut fields: Reader<'_>, data: u32) -> Result<Point<'_>, WireError> {
        self.counts.clear();
        self.bounds.clear();
        let (mut start_ns, mut time_ns, mut flags) = (0, 0, 0);
        let (mut number, mut total, mut sum) = (0.0, 0, None);
        while let Some(field) = fields.next_field()? {
            match (data, field.number) {
                (_, 2) => start_ns = field.fixed64()?,
                (_, 3) => time_ns = field.fixed64()?,
                (metric::SUM, 4) => number = field.double()?,
                (metric::SUM, 6) => number = field.fixed64()? as i64 as f64,
                (metric::SUM, 8) | (metric::HISTOGRAM, 10) => flags = field.varint()?,
                (metric::HISTOGRAM, 4) => total = field.fixed64()?,
                (metric::HISTOGRAM, 5) => sum = Some(field.double()?),
                (metric::HISTOGRAM, 6) => fixed64s(&field, &mut self.counts)?,
                (metric::HISTOGRAM, 7) => fixed64s(&field, &mut self.bounds)?,
                _ => {}
            }
        }
        let value = if flags & NO_RECORDED_VALUE != 0 {
            Value::None
        } else if data == metric::HISTOGRAM {
            self.counts.push(total);
            Value::Histogram { counts: &self.counts, bounds: &self.bounds, sum }
        } else {
            Value::Number(number)
        };
        Ok(Point { start_ns, time_ns, value })
    }
}
