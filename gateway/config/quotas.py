"""Quotas as typed models: what a tenant may send (docs/quotas.md, docs/series-budget.md)."""

from typing import Annotated, Literal, Self

from pydantic import Field

from gateway.config.base import Model
from gateway.config.quantities import ByteSize, Seconds
from gateway.types import Signal

PositiveRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveBytes = Annotated[ByteSize, Field(gt=0)]


class Quota(Model):
    """Limits of one signal; unset is unlimited."""

    requests_per_second: PositiveRate | None = None
    """Export requests."""
    burst_requests: PositiveRate | None = None
    """Requests that may come at once after a rest; one second's worth by default, and at least one."""
    items_per_second: PositiveRate | None = None
    """Spans, points or log records."""
    burst: PositiveRate | None = None
    """Items that may come at once after a rest; one second's worth by default."""
    bytes_per_second: PositiveBytes | None = None
    """Of uncompressed OTLP."""
    burst_bytes: PositiveBytes | None = None
    """Bytes that may come at once after a rest; one second's worth by default."""
    max_request_bytes: PositiveBytes | None = None
    """The largest request, before and after decompression; listen.max_request_bytes holds besides."""
    max_inflight_bytes: PositiveBytes | None = None
    """What all requests under way, and their batches that are not in the queue yet, may hold together."""
    daily_bytes: PositiveBytes | None = None
    """Of uncompressed OTLP in a UTC day."""
    monthly_bytes: PositiveBytes | None = None
    """Of uncompressed OTLP in a UTC month."""
    active_series: Annotated[int, Field(ge=0)] | None = None
    """Metrics: series that may be active at a time. New ones over it are folded into overflow series, or rejected."""
    new_series_per_minute: PositiveRate | None = None
    """Metrics: series that may become active in a minute; those over it are treated likewise."""
    folded_series: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    """Metrics: series over budget that may be folded at a time; those over it are rejected."""
    active_streams: Annotated[int, Field(ge=0)] | None = None
    """Logs: Loki streams that may be active at a time. What is new and over it goes to one overflow stream."""
    active_window: Annotated[Seconds, Field(ge=60, le=30 * 86400)] = 3600.0
    """How long a series or stream stays active after its last point or line."""
    over_limit: Literal["reject", "trim", "downsample"] | None = None
    """`reject` (default) refuses the request, to be sent again; `trim` takes what fits and refuses the rest for good;
    `downsample` (traces and logs) keeps, over items_per_second, a fair sample and publishes its threshold."""


class Quotas(Model):
    """What a tenant may send. Inherited key by key, a rate together with its burst; `null` lifts an inherited limit."""

    traces: Quota = Quota()
    metrics: Quota = Quota()
    logs: Quota = Quota()
    daily_bytes: PositiveBytes | None = None
    """Of all signals together, uncompressed OTLP in a UTC day."""
    monthly_bytes: PositiveBytes | None = None
    """Of all signals together, uncompressed OTLP in a UTC month."""
    max_attributes: Annotated[int, Field(gt=0)] | None = None
    """Of an item, and of each resource, scope, event, link and exemplar. Items over it are refused."""
    max_attribute_key_bytes: PositiveBytes | None = None
    """Length of an attribute's key."""
    max_attribute_value_bytes: PositiveBytes | None = None
    """Length of an attribute's value; of a list or map, of its encoding."""

    def of(self, signal: Signal) -> Quota:
        match signal:
            case Signal.TRACES:
                return self.traces
            case Signal.METRICS:
                return self.metrics
            case Signal.LOGS:
                return self.logs

    def over(self, inherited: Self) -> Self:
        """These limits, and those of `inherited` that these do not name."""
        merged = inherited.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})
        signals = {signal.value: _merged(self.of(signal), inherited.of(signal)) for signal in Signal}
        return merged.model_copy(update=signals)


# A burst is sized for its rate, so it comes along with it or not at all.
BURSTS = {
    "requests_per_second": "burst_requests",
    "items_per_second": "burst",
    "bytes_per_second": "burst_bytes",
}

ONLY_FOR = {
    "active_series": Signal.METRICS,
    "new_series_per_minute": Signal.METRICS,
    "folded_series": Signal.METRICS,
    "active_streams": Signal.LOGS,
}
"""The signal that each of these limits is for; `active_window` goes with both."""


def _merged(own: Quota, inherited: Quota) -> Quota:
    named = {name: getattr(own, name) for name in own.model_fields_set}
    bursts = {burst: getattr(own, burst) for rate, burst in BURSTS.items() if rate in named}
    return inherited.model_copy(update={**named, **bursts})
