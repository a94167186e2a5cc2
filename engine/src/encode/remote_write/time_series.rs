//! One TimeSeries of a WriteRequest.

use super::exemplars::Exemplar;
use super::labels::{Extra, PointLabels};
use super::TIMESERIES;
use crate::otlp::wire::{put_fixed64_field, put_message_field, put_message_field_of, put_varint_field, WireError};

/// TimeSeries.
const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
/// About what a series with one sample takes, for the width of its length prefix.
const SERIES_BYTES: usize = 300;

/// Appends one TimeSeries with one sample; false, and nothing, if the rules drop it.
pub(super) fn put_series(
    out: &mut Vec<u8>,
    labels: &mut PointLabels<'_>,
    name: &str,
    extra: Extra<'_>,
    value: f64,
    time_ms: i64,
    exemplars: &mut [Exemplar],
) -> bool {
    let put = put_admitted(out, labels, name, extra, value, time_ms, exemplars, |_| Ok(true));
    put == Ok(Put::Written)
}

/// What became of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Written,
    /// By the rules; nothing was appended.
    Dropped,
    /// By the gate; nothing was appended.
    Refused,
}

/// [`put_series`], if `admit` agrees to the encoded labels.
#[allow(clippy::too_many_arguments)]
#[inline]
pub(super) fn put_admitted(
    out: &mut Vec<u8>,
    labels: &mut PointLabels<'_>,
    name: &str,
    extra: Extra<'_>,
    value: f64,
    time_ms: i64,
    exemplars: &mut [Exemplar],
    admit: impl FnOnce(&[u8]) -> Result<bool, WireError>,
) -> Result<Put, WireError> {
    let begin = out.len();
    let mut put = Ok(Put::Written);
    put_message_field_of(SERIES_BYTES, out, TIMESERIES, |out| {
        let labels_begin = out.len();
        put = match labels.put(out, name, extra) {
            true => admit(&out[labels_begin..]).map(|admitted| if admitted { Put::Written } else { Put::Refused }),
            false => Ok(Put::Dropped),
        };
        if put != Ok(Put::Written) {
            return;
        }
        put_message_field(out, SAMPLES, |out| {
            put_fixed64_field(out, 1, value.to_bits());
            put_varint_field(out, 2, time_ms as u64);
        });
        // Prometheus takes no exemplar of a series that is older than the one before.
        exemplars.sort_by_key(|exemplar| exemplar.time_ms);
        for exemplar in exemplars {
            put_message_field(out, EXEMPLARS, |out| out.extend_from_slice(&exemplar.encoded));
        }
    });
    if put != Ok(Put::Written) {
        out.truncate(begin);
    }
    put
}
