//! Folding: cumulative series over budget are summed into one overflow series a metric and service.
//!
//! The overflow series is arithmetically right: it grows by what the folded series grow, so that `rate()` over it is the
//! sum of their rates. The rules of growth:
//! - a series' first point grows it by its whole value if the series started inside our view, else by nothing: what it
//!   counted before may have been delivered under its own name already;
//! - a later point grows it by the difference; after a reset (a smaller value, as Prometheus sees it, or a start time
//!   after the last point, as OTLP says it) by its whole value;
//! - a point that is not newer than the last one is a repetition and grows nothing, so a client may resend.

use std::collections::hash_map::Entry;
use std::collections::HashMap;

use super::keys::HashKey;
use super::overflow::{Overflow, Totals};
use super::table::{Fingerprint, Window};

/// Overflow series of one tenant. One that explodes in metric names would gain nothing from more.
const MAX_OVERFLOWS: usize = 1000;
/// What the names and texts of one overflow series may take.
const MAX_TEXT_BYTES: usize = 4096;

/// What an overflow series is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'f> {
    /// `service.namespace/service.name`, or one of them: Prometheus' job.
    pub(super) job: &'f str,
    pub(super) metric: &'f str,
    pub(super) unit: &'f str,
    pub(super) description: &'f str,
    pub(super) histogram: bool,
}

impl Family<'_> {
    /// Tells overflow series apart; the description does not.
    pub(super) fn id(&self, key: &HashKey) -> u64 {
        let mut content = vec![u8::from(self.histogram)];
        for part in [self.job, self.metric, self.unit] {
            content.extend_from_slice(&(part.len() as u64).to_le_bytes());
            content.extend_from_slice(part.as_bytes());
        }
        key.hash(&content)
    }

    fn is_small(&self) -> bool {
        self.job.len() + self.metric.len() + self.unit.len() + self.description.len() <= MAX_TEXT_BYTES
    }
}

/// A cumulative point of a sum or a histogram. Times are Unix nanoseconds; a start of 0 is unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point<'p> {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) value: Value<'p>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'p> {
    /// "No recorded value": the series ended.
    None,
    Number(f64),
    Histogram {
        /// Of each bucket, and last the count of all.
        counts: &'p [u64],
        /// Bits of the upper bounds.
        bounds: &'p [u64],
        sum: Option<f64>,
    },
}

impl Value<'_> {
    /// Whether it can be summed: a NaN would stay in the sum for ever, and what counts up is not negative.
    fn is_countable(&self) -> bool {
        match self {
            Value::None => true,
            Value::Number(value) => value.is_finite() && *value >= 0.0,
            Value::Histogram { counts, bounds, sum } => {
                let ascending = bounds.windows(2).all(|pair| f64::from_bits(pair[0]) < f64::from_bits(pair[1]));
                let fits = counts.len() == bounds.len() + 2 || (counts.len() == 1 && bounds.is_empty());
                fits && ascending && sum.is_none_or(f64::is_finite)
            }
        }
    }
}

/// The last value of a folded series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Last {
    Number(f64),
    Histogram(Box<[u64]>, f64),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Folded {
    pub(super) overflow: u64,
    pub(super) last_seen_s: u32,
    pub(super) time_ns: u64,
    pub(super) last: Last,
}

/// What decides whether a series' start was in our view, and how much may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) window: Window,
    /// Since when this tenant's series are tracked without a gap.
    pub(super) since_ns: u64,
    pub(super) max_folded: usize,
}

impl View {
    /// A series that started less than a window ago, and after we began to look, cannot have been delivered under its
    /// own name before: it would still be known.
    fn saw_start(&self, point: &Point<'_>) -> bool {
        let second = |seconds: u32| u64::from(seconds) * 1_000_000_000;
        let earliest = self.since_ns.max(second(self.window.now_s.saturating_sub(self.window.length_s)));
        point.start_ns >= earliest && point.start_ns <= point.time_ns && point.start_ns <= second(self.window.now_s + 1)
    }
}

/// What became of a point over budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// It can't be summed, or there is no room for another folded series.
    Refused,
    Taken {
        overflow: u64,
        /// The series was not folded before.
        new: bool,
    },
}

/// The folded series of one tenant, and what they sum up to.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) folded: HashMap<u64, Folded>,
    pub(super) overflows: HashMap<u64, Overflow>,
    swept_at_s: u32,
}

impl Folder {
    pub(super) fn folded(&self) -> usize {
        self.folded.len()
    }

    pub(super) fn overflows(&self) -> usize {
        self.overflows.len()
    }

    /// Folds a point into the overflow series `id` of `family`.
    pub(super) fn fold(
        &mut self,
        series: Fingerprint,
        family: &Family<'_>,
        id: u64,
        point: &Point<'_>,
        view: &View,
    ) -> Fold {
        if !point.value.is_countable() {
            return Fold::Refused;
        }
        self.sweep(view);
        let now_s = view.window.now_s;
        if let Some(folded) = self.folded.get_mut(&series.get()) {
            let Some(overflow) = self.overflows.get_mut(&folded.overflow) else { return Fold::Refused };
            if !overflow.totals.fits(&point.value) {
                return Fold::Refused;
            }
            (folded.last_seen_s, overflow.last_seen_s) = (now_s, now_s);
            grow(folded, &mut overflow.totals, point);
            return Fold::Taken { overflow: folded.overflow, new: false };
        }
        let Some(last) = last_of(&point.value) else {
            // The end of a series that is not known: nothing is lost with it.
            return Fold::Taken { overflow: id, new: false };
        };
        if self.folded.len() >= view.max_folded {
            return Fold::Refused;
        }
        let known = self.overflows.len();
        let overflow = match self.overflows.entry(id) {
            Entry::Occupied(occupied) => occupied.into_mut(),
            Entry::Vacant(vacant) => {
                let Some(totals) = Totals::like(&point.value) else { return Fold::Refused };
                if known >= MAX_OVERFLOWS || !family.is_small() {
                    return Fold::Refused;
                }
                vacant.insert(Overflow::new(family, totals, now_s))
            }
        };
        if !overflow.totals.fits(&point.value) {
            return Fold::Refused;
        }
        if view.saw_start(point) {
            overflow.totals.add(&point.value, None);
        }
        overflow.last_seen_s = now_s;
        let folded = Folded { overflow: id, last_seen_s: now_s, time_ns: point.time_ns, last };
        self.folded.insert(series.get(), folded);
        Fold::Taken { overflow: id, new: true }
    }

    /// Appends the present samples of these overflow series, as `ResourceMetrics` of a request.
    pub(super) fn write(&mut self, grown: &[u64], tenant: &str, instance: &str, now_ms: u64, out: &mut Vec<u8>) {
        for id in grown {
            if let Some(overflow) = self.overflows.get_mut(id) {
                overflow.write(tenant, instance, now_ms, out);
            }
        }
    }

    /// A folded series that flows under its own name from this point on: what it grew until here is still folded, unless
    /// it has started over meanwhile: then it is like any other new series. Returns the overflow series that grew.
    pub(super) fn graduate(&mut self, series: Fingerprint, point: &Point<'_>) -> Option<u64> {
        let mut folded = self.folded.remove(&series.get())?;
        let overflow = self.overflows.get_mut(&folded.overflow)?;
        if !point.value.is_countable() || !overflow.totals.fits(&point.value) {
            return None;
        }
        if restarted(&folded, point) {
            return None;
        }
        grow(&mut folded, &mut overflow.totals, point);
        Some(folded.overflow)
    }

    /// Once a minute; what there is to look at is bounded by `max_folded`.
    fn sweep(&mut self, view: &View) {
        let window = view.window;
        if window.now_s.saturating_sub(self.swept_at_s) < 60 {
            return;
        }
        self.swept_at_s = window.now_s;
        self.folded.retain(|_, folded| !window.has_left(folded.last_seen_s));
        // Every folded series keeps its overflow series alive, so none is left without.
        self.overflows.retain(|_, overflow| !window.has_left(overflow.last_seen_s));
    }
}

/// Adds to the totals what a folded series grew since its last point.
fn grow(folded: &mut Folded, totals: &mut Totals, point: &Point<'_>) {
    let Some(last) = last_of(&point.value) else { return };
    if point.time_ns <= folded.time_ns {
        return;
    }
    totals.add(&point.value, (!restarted(folded, point)).then_some(&folded.last));
    folded.last = last;
    folded.time_ns = point.time_ns;
}

/// Whether a newer point counts from zero again.
fn restarted(folded: &Folded, point: &Point<'_>) -> bool {
    let fell = || last_of(&point.value).is_some_and(|last| fell(&last, &folded.last));
    point.time_ns > folded.time_ns && (point.start_ns > folded.time_ns || fell())
}

fn last_of(value: &Value<'_>) -> Option<Last> {
    match value {
        Value::None => None,
        Value::Number(value) => Some(Last::Number(*value)),
        Value::Histogram { counts, sum, .. } => Some(Last::Histogram((*counts).into(), sum.unwrap_or_default())),
    }
}

/// Whether a counter, or any count of a histogram, is less than it was.
fn fell(now: &Last, before: &Last) -> bool {
    match (now, before) {
        (Last::Number(now), Last::Number(before)) => now < before,
        (Last::Histogram(now, _), Last::Histogram(before, _)) => {
            now.len() != before.len() || now.iter().zip(before).any(|(now, before)| now < before)
        }
        _ => true,
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
