//! The budget as a stage: points of series over budget leave the request, to be folded or rejected.

use std::sync::atomic::Ordering;

use super::fold::{Family, Fold, Point, Value, View};
use super::table::{Fingerprint, Seen, Window};
use super::{Now, SeriesBudget};
use crate::batch::lock;
use crate::encode::remote_write::identity::{family_name, fixed64s, read_shape, SeriesIdentity};
use crate::encode::remote_write::RemoteWriteEncoder;
use crate::otlp::edit::EditList;
use crate::otlp::wire::{Field, Reader, Value as WireValue, WireError};
use crate::otlp::{metric, ITEMS, REQUEST_RESOURCES, SCOPES};
use crate::policy::SeriesQuota;
use crate::relabel::Rules;

/// What the budget did to a request.
#[derive(Debug, Default)]
pub struct Held {
    /// Points of new series that can't be folded.
    pub rejected: u64,
    /// Points that live on in an overflow series.
    pub folded: u64,
    /// Overflow series to be written, for [`SeriesBudget::emit`].
    pub grown: Vec<u64>,
}

/// Takes the points of series over budget out of an `ExportMetricsServiceRequest`, which was validated.
///
/// `names` and `rules` say how remote write will name the series. `edits` must be empty; messages without points go with
/// their points.
#[allow(clippy::too_many_arguments)]
pub fn enforce(
    budget: &SeriesBudget,
    quota: &SeriesQuota,
    names: &RemoteWriteEncoder,
    rules: &Rules,
    tenant: &str,
    now: Now,
    request: &[u8],
    edits: &mut EditList,
) -> Result<Held, WireError> {
    let window = now.window(quota.window_s);
    let view = View { window, since_ns: budget.since_ns, max_folded: quota.max_folded };
    let mut stage = Stage { budget, quota, now, window, view, held: Held::default() };
    let mut resources = Reader::new(request);
    while let Some(resource) = resources.next_field()? {
        if resource.number != REQUEST_RESOURCES {
            continue;
        }
        let reader = resources.nested(&resource)?;
        let identity = names.identity(reader, tenant)?;
        let mut series = identity.series(tenant, rules);
        let mut points = Points::default();
        let mut left = Left::default();
        let mut scopes = reader;
        edits.enter(&resource);
        while let Some(scope) = scopes.next_field()? {
            if scope.number != SCOPES {
                continue;
            }
            let mut in_scope = Left::default();
            let mut metrics = scopes.nested(&scope)?;
            edits.enter(&scope);
            while let Some(item) = metrics.next_field()? {
                if item.number == ITEMS {
                    let job = identity.job();
                    edits.enter(&item);
                    let here = stage.metric(metrics.nested(&item)?, job, &mut series, &mut points, edits)?;
                    here.exit(&item, edits);
                    in_scope.add(here);
                }
            }
            in_scope.exit(&scope, edits);
            left.add(in_scope);
        }
        left.exit(&resource, edits);
    }
    Ok(stage.held)
}

/// How many points of a message stayed and went.
#[derive(Debug, Default, Clone, Copy)]
struct Left {
    kept: u64,
    gone: u64,
}

impl Left {
    fn add(&mut self, other: Left) {
        self.kept += other.kept;
        self.gone += other.gone;
    }

    /// A message that lost all its points goes with them.
    fn exit(self, field: &Field<'_>, edits: &mut EditList) {
        if self.kept == 0 && self.gone > 0 {
            edits.exit_and_remove(field);
        } else {
            edits.exit();
        }
    }
}

struct Stage<'b> {
    budget: &'b SeriesBudget,
    quota: &'b SeriesQuota,
    now: Now,
    window: Window,
    view: View,
    held: Held,
}

/// A metric, as far as its points need it.
struct Described<'m> {
    family: Family<'m>,
    /// Its name in Prometheus.
    name: String,
    data: u32,
    foldable: bool,
    /// [`Family::id`], once it was needed.
    id: Option<u64>,
}

impl<'b> Stage<'b> {
    fn metric<'r>(
        &mut self,
        reader: Reader<'r>,
        job: &'r str,
        series: &mut SeriesIdentity<'r>,
        points: &mut Points<'r>,
        edits: &mut EditList,
    ) -> Result<Left, WireError> {
        let mut family = Family { job, metric: "", unit: "", description: "", histogram: false };
        let mut fields = reader;
        while let Some(field) = fields.next_field()? {
            let text = || field.bytes().map(|bytes| std::str::from_utf8(bytes).unwrap_or_default());
            match field.number {
                metric::NAME => family.metric = text()?,
                metric::DESCRIPTION => family.description = text()?,
                metric::UNIT => family.unit = text()?,
                _ => {}
            }
        }
        let mut left = Left::default();
        let mut fields = reader;
        while let Some(data) = fields.next_field()? {
            let number = data.number;
            if !matches!(
                number,
                metric::GAUGE | metric::SUM | metric::HISTOGRAM | metric::EXPONENTIAL_HISTOGRAM | metric::SUMMARY
            ) {
                continue;
            }
            let mut inner = fields.nested(&data)?;
            let shape = read_shape(inner)?;
            let counts_up = number == metric::HISTOGRAM || (number == metric::SUM && shape.monotonic);
            let mut described = Described {
                family: Family { histogram: number == metric::HISTOGRAM, ..family },
                name: family_name(family.metric, family.unit, number, shape.monotonic),
                data: number,
                foldable: counts_up && shape.cumulative,
                id: None,
            };
            let mut here = Left::default();
            edits.enter(&data);
            while let Some(point) = inner.next_field()? {
                if point.number != metric::DATA_POINTS {
                    continue;
                }
                points.read(inner.nested(&point)?, number)?;
                if self.stays(series, points, &mut described)? {
                    here.kept += 1;
                } else {
                    here.gone += 1;
                    edits.remove(&point);
                }
            }
            here.exit(&data, edits);
            left.add(here);
        }
        Ok(left)
    }

    /// Whether a point's series is within the budget; if not, it has been folded or rejected.
    fn stays<'r>(
        &mut self,
        series: &mut SeriesIdentity<'r>,
        points: &mut Points<'r>,
        described: &mut Described<'_>,
    ) -> Result<bool, WireError> {
        // What relabelling drops is no series.
        let Some(labels) = series.labels(&points.attributes, &described.name)? else { return Ok(true) };
        let fingerprint = self.budget.key.fingerprint(labels);
        let weight = points.weight(described.data);
        let max_active = self.quota.max_active.unwrap_or(u64::MAX);
        let admit = || self.budget.take_new(self.now, weight);
        match self.budget.table.see(fingerprint, weight, self.window, max_active, admit) {
            Seen::Known => Ok(true),
            Seen::Admitted => {
                if described.foldable && self.budget.folded.load(Ordering::Relaxed) > 0 {
                    let point = points.cumulative(described.data)?;
                    let mut folder = lock(&self.budget.folder);
                    let grown = folder.graduate(fingerprint, &point);
                    self.budget.folded.store(folder.folded(), Ordering::Relaxed);
                    grown.into_iter().for_each(|id| self.grown(id));
                }
                Ok(true)
            }
            Seen::Refused => {
                let new = self.over_budget(fingerprint, points, described)?;
                if new {
                    self.note_growth(labels)?;
                }
                Ok(false)
            }
        }
    }

    /// Folds or rejects; true if the series was not folded before.
    fn over_budget(
        &mut self,
        fingerprint: Fingerprint,
        points: &mut Points<'_>,
        described: &mut Described<'_>,
    ) -> Result<bool, WireError> {
        let budget = self.budget;
        if described.foldable {
            let id = *described.id.get_or_insert_with(|| described.family.id(&budget.key));
            let point = points.cumulative(described.data)?;
            let mut folder = lock(&budget.folder);
            let fold = folder.fold(fingerprint, &described.family, id, &point, &self.view);
            if let Fold::Taken { overflow, new } = fold {
                budget.folded.store(folder.folded(), Ordering::Relaxed);
                budget.folded_points.fetch_add(1, Ordering::Relaxed);
                self.held.folded += 1;
                self.grown(overflow);
                return Ok(new);
            }
        }
        self.held.rejected += 1;
        Ok(true)
    }

    fn grown(&mut self, id: u64) {
        if !self.held.grown.contains(&id) {
            self.held.grown.push(id);
        }
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

/// The present point; its vectors are used again.
#[derive(Default)]
struct Points<'r> {
    attributes: Vec<&'r [u8]>,
    start_ns: u64,
    time_ns: u64,
    flags: u64,
    number: f64,
    total: u64,
    sum: Option<f64>,
    quantiles: u32,
    count_fields: Vec<Field<'r>>,
    bound_fields: Vec<Field<'r>>,
    counts: Vec<u64>,
    bounds: Vec<u64>,
}

const NO_RECORDED_VALUE: u64 = 1;

impl<'r> Points<'r> {
    fn read(&mut self, mut fields: Reader<'r>, data: u32) -> Result<(), WireError> {
        self.attributes.clear();
        self.count_fields.clear();
        self.bound_fields.clear();
        (self.start_ns, self.time_ns, self.flags, self.total, self.quantiles) = (0, 0, 0, 0, 0);
        (self.number, self.sum) = (0.0, None);
        while let Some(field) = fields.next_field()? {
            match (data, field.number) {
                (metric::HISTOGRAM, 9)
                | (metric::EXPONENTIAL_HISTOGRAM, 1)
                | (metric::GAUGE | metric::SUM | metric::SUMMARY, 7) => self.attributes.push(field.bytes()?),
                (_, 2) => self.start_ns = field.fixed64()?,
                (_, 3) => self.time_ns = field.fixed64()?,
                (metric::GAUGE | metric::SUM, 4) => self.number = field.double()?,
                (metric::GAUGE | metric::SUM, 6) => self.number = field.fixed64()? as i64 as f64,
                (metric::GAUGE | metric::SUM, 8) | (metric::HISTOGRAM, 10) => self.flags = field.varint()?,
                (metric::HISTOGRAM, 4) => self.total = field.fixed64()?,
                (metric::HISTOGRAM, 5) => self.sum = Some(field.double()?),
                (metric::HISTOGRAM, 6) => self.count_fields.push(field),
                (metric::HISTOGRAM, 7) => self.bound_fields.push(field),
                (metric::SUMMARY, 6) => self.quantiles += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// How many series remote write makes of the point.
    fn weight(&self, data: u32) -> u32 {
        match data {
            metric::HISTOGRAM => {
                let in_field = |field: &Field<'_>| match field.value {
                    WireValue::Bytes(packed) => u32::try_from(packed.len() / 8).unwrap_or(u32::MAX),
                    _ => 1,
                };
                let buckets = self.count_fields.iter().map(in_field).fold(0u32, u32::saturating_add);
                buckets.max(1).saturating_add(1 + u32::from(self.sum.is_some()))
            }
            metric::SUMMARY => self.quantiles.saturating_add(2),
            _ => 1,
        }
    }

    /// The point of a cumulative sum or histogram.
    fn cumulative(&mut self, data: u32) -> Result<Point<'_>, WireError> {
        let value = if self.flags & NO_RECORDED_VALUE != 0 {
            Value::None
        } else if data == metric::HISTOGRAM {
            self.counts.clear();
            self.bounds.clear();
            for field in &self.count_fields {
                fixed64s(field, &mut self.counts)?;
            }
            for field in &self.bound_fields {
                fixed64s(field, &mut self.bounds)?;
            }
            self.counts.push(self.total);
            Value::Histogram { counts: &self.counts, bounds: &self.bounds, sum: self.sum }
        } else {
            Value::Number(self.number)
        };
        Ok(Point { start_ns: self.start_ns, time_ns: self.time_ns, value })
    }
}
