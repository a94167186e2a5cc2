//! A gate beside the encoder: what it is asked, and that what it refuses leaves no trace.

use super::properties::requests;
use super::*;
use crate::encode::remote_write::gate::{Gate, Metric};
use crate::encode::remote_write::labels::{Extra, PointLabels};
use crate::encode::remote_write::Resource as LabelledResource;
use crate::otlp::edit::EditList;
use crate::otlp::items::{retain, Level};
use crate::otlp::wire::{Reader, WireError};
use crate::policy::{RelabelAction, RelabelRule};
use proptest::prelude::*;

/// What a gate is asked about a point.
#[derive(Debug, Clone, PartialEq)]
struct Question {
    job: String,
    name: String,
    labels: Vec<u8>,
    weight: u32,
}

/// Refuses by the labels' bytes and remembers everything.
#[derive(Default)]
struct Recording {
    salt: u8,
    asked: Vec<Question>,
    refused: Vec<usize>,
}

fn is_admitted(labels: &[u8], salt: u8) -> bool {
    labels.iter().fold(salt, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)) % 3 != 0
}

impl Gate for Recording {
    const DECIDES: bool = true;

    fn admits(
        &mut self,
        metric: &Metric<'_>,
        labels: &[u8],
        weight: u32,
        point: Reader<'_>,
    ) -> Result<bool, WireError> {
        let (job, name) = (metric.job.to_owned(), metric.name.to_owned());
        self.asked.push(Question { job, name, labels: labels.to_vec(), weight });
        let admitted = is_admitted(labels, self.salt);
        if !admitted {
            self.refused.push(point.position());
        }
        Ok(admitted)
    }
}

/// Attributes and series of each point, by the messages and not by their bytes.
fn points(data: &Data) -> Vec<(&[Pair], u32)> {
    match data {
        Data::Gauge(otlp::Gauge { data_points }) | Data::Sum(otlp::Sum { data_points, .. }) => {
            data_points.iter().map(|point| (point.attributes.as_slice(), 1)).collect()
        }
        Data::Histogram(histogram) => {
            let series = |point: &otlp::HistogramDataPoint| {
                point.bucket_counts.len().max(1) as u32 + 1 + u32::from(point.sum.is_some())
            };
            histogram.data_points.iter().map(|point| (point.attributes.as_slice(), series(point))).collect()
        }
        Data::ExponentialHistogram(histogram) => {
            histogram.data_points.iter().map(|point| (point.attributes.as_slice(), 1)).collect()
        }
        Data::Summary(summary) => {
            let series = |point: &otlp::SummaryDataPoint| point.quantile_values.len() as u32 + 2;
            summary.data_points.iter().map(|point| (point.attributes.as_slice(), series(point))).collect()
        }
    }
}

/// What must be asked about each point, in order; `None` about one that the rules drop.
fn questions(
    encoder: &RemoteWriteEncoder,
    rules: &Rules,
    input: &ExportMetricsServiceRequest,
) -> Vec<Option<Question>> {
    let mut questions = Vec::new();
    for resource in &input.resource_metrics {
        let bytes = resource.encode_to_vec();
        let labelled = LabelledResource::read(Reader::new(&bytes), &encoder.promote, TENANT).unwrap();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(data) = &metric.data else { continue };
            let (data_field, monotonic) = match data {
                Data::Gauge(_) => (5, false),
                Data::Sum(sum) => (7, sum.is_monotonic),
                Data::Histogram(_) => (9, false),
                Data::ExponentialHistogram(_) => (10, false),
                Data::Summary(_) => (11, false),
            };
            let family = Metric {
                job: "",
                name: &metric.name,
                unit: &metric.unit,
                description: b"",
                data: data_field,
                cumulative: false,
                monotonic,
            }
            .family();
            for (attributes, weight) in points(data) {
                let attributes: Vec<Vec<u8>> = attributes.iter().map(Message::encode_to_vec).collect();
                let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
                let mut labels = PointLabels::new(&labelled.labels, TENANT, rules);
                labels.fill(&attributes).unwrap();
                let mut encoded = Vec::new();
                let kept = labels.put(&mut encoded, &family, Extra::None);
                let (job, name) = (labelled.job().to_owned(), metric.name.clone());
                questions.push(kept.then_some(Question { job, name, labels: encoded, weight }));
            }
        }
    }
    questions
}

fn rules() -> impl Strategy<Value = Rules> {
    let rule = |action, source: &str, regex: &str| RelabelRule {
        action,
        source_labels: vec![source.to_owned()],
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
    };
    let drops_names = vec![rule(RelabelAction::LabelDrop, "", "a|b|job")];
    let drops_series = vec![rule(RelabelAction::Drop, "a", "x"), rule(RelabelAction::Drop, "__name__", ".*_sum|[a-h]")];
    (0usize..3)
        .prop_map(move |index| Rules::compile(&[vec![], drops_names.clone(), drops_series.clone()][index]).unwrap())
}

proptest! {
    #[test]
    fn gated_encoding_is_deciding_point_by_point_then_encoding_what_is_left(
        input in requests(), rules in rules(), salt: u8
    ) {
        let encoder = RemoteWriteEncoder::new(&["a.b", "service.name"].map(str::to_owned));
        let bytes = input.encode_to_vec();
        let mut gate = Recording { salt, ..Recording::default() };
        let mut gated = Vec::new();
        let counts = encoder.encode_through(&mut gate, &bytes, TENANT, &rules, &mut gated).unwrap();

        let questions = questions(&encoder, &rules, &input);
        let expected: Vec<Question> = questions.iter().flatten().cloned().collect();
        prop_assert_eq!(&gate.asked, &expected);
        let mut decisions = questions.iter();
        let (mut edits, mut positions) = (EditList::default(), Vec::new());
        let left_out = retain(Signal::Metrics, &bytes, &mut edits, &mut |level, point| {
            let Level::Item(_) = level else { return Ok(true) };
            let decision = decisions.next().unwrap();
            let admitted = decision.as_ref().is_none_or(|question| is_admitted(&question.labels, salt));
            if !admitted {
                positions.push(point.position());
            }
            Ok(admitted)
        });
        prop_assert_eq!(left_out.unwrap(), gate.refused.len() as u64);
        prop_assert_eq!(&gate.refused, &positions, "a refused point is named by where it stands");
        let mut plain = Vec::new();
        let plain_counts = encoder.encode(&edits.apply(&bytes), TENANT, &rules, &mut plain).unwrap();
        prop_assert_eq!(counts, plain_counts);
        prop_assert_eq!(gated, plain);
    }
}

#[test]
fn points_that_cannot_be_written_are_asked_about_and_count_as_dropped_only_if_admitted() {
    struct First(u32);
    impl Gate for First {
        const DECIDES: bool = true;
        fn admits(&mut self, _: &Metric<'_>, _: &[u8], _: u32, _: Reader<'_>) -> Result<bool, WireError> {
            self.0 += 1;
            Ok(self.0 == 1)
        }
    }
    let delta = otlp::Sum {
        data_points: vec![number(1.0, &[("id", "a")]), number(1.0, &[("id", "b")])],
        aggregation_temporality: DELTA,
        is_monotonic: true,
    };
    let bytes = request(texts(&[("service.name", "shop")]), vec![metric("d", "", Data::Sum(delta))]).encode_to_vec();
    let mut out = Vec::new();
    let encoder = RemoteWriteEncoder::default();
    let encoded = encoder.encode_through(&mut First(0), &bytes, TENANT, &Rules::default(), &mut out).unwrap();
    assert_eq!(encoded.dropped, [(DropReason::DeltaTemporalityUnsupported, 1)]);
    let mut none = First(1);
    let encoded = encoder.encode_through(&mut none, &bytes, TENANT, &Rules::default(), &mut out).unwrap();
    assert_eq!((encoded, out.len()), (Encoded::default(), 0), "refused whole, it leaves no trace");
}
