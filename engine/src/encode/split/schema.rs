//! Where the items of each format stand.

use super::Format;
use crate::otlp::items::Level as Otlp;
use crate::otlp::Signal;

/// WriteRequest { timeseries = 1, metadata = 3 }, TimeSeries { labels = 1, samples = 2, exemplars = 3, histograms = 4 }.
const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;
const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
const HISTOGRAMS: u32 = 4;
/// The `timestamp` of Sample, Exemplar and Histogram, milliseconds.
const SAMPLE_TIME: u32 = 2;
const EXEMPLAR_TIME: u32 = 3;
const HISTOGRAM_TIME: u32 = 15;
/// PushRequest { streams = 1 }, StreamAdapter { labels = 1, entries = 2 }.
const STREAMS: u32 = 1;
const ENTRIES: u32 = 2;

/// What a message is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    WriteRequest,
    TimeSeries,
    PushRequest,
    Stream,
    Otlp(Signal, Otlp),
}

/// What a field of a message is to the items in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// It describes the whole message, or nobody knows it: both halves have it.
    Around,
    /// It is one of many, none of them an item: it goes with the items before it.
    Beside,
    /// Like `Beside`, but its time says which items it belongs to; the field of its time.
    Dated(u32),
    /// One item, and the field of its time if `Dated` fields stand beside it.
    Item(Option<u32>),
    /// A message that may hold items.
    Part(Level),
}

impl Level {
    pub(super) fn of(format: Format) -> Level {
        match format {
            Format::RemoteWrite => Level::WriteRequest,
            Format::Loki => Level::PushRequest,
            Format::Otlp(signal) => Level::Otlp(signal, Otlp::Request),
        }
    }

    pub(super) fn role(self, number: u32) -> Role {
        match (self, number) {
            (Level::WriteRequest, TIMESERIES) => Role::Part(Level::TimeSeries),
            (Level::WriteRequest, METADATA) => Role::Beside,
            (Level::TimeSeries, SAMPLES) => Role::Item(Some(SAMPLE_TIME)),
            (Level::TimeSeries, HISTOGRAMS) => Role::Item(Some(HISTOGRAM_TIME)),
            (Level::TimeSeries, EXEMPLARS) => Role::Dated(EXEMPLAR_TIME),
            (Level::PushRequest, STREAMS) => Role::Part(Level::Stream),
            (Level::Stream, ENTRIES) => Role::Item(None),
            (Level::Otlp(signal, level), number) => match level.child(signal, number) {
                None => Role::Around,
                Some(Otlp::Item(_)) => Role::Item(None),
                Some(part) => Role::Part(Level::Otlp(signal, part)),
            },
            _ => Role::Around,
        }
    }
}
