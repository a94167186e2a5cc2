"""Small types that the parts of the daemon share."""

from dataclasses import dataclass, field
from enum import StrEnum


class Signal(StrEnum):
    """The three kinds of telemetry."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """Where batches line up: one tenant's items of one signal on their way to one destination."""

    tenant: str
    destination: str
    signal: Signal


@dataclass(slots=True)
class LaneCounters:
    """What became of a lane's items since the start, in what the backend counts (spans, log lines, samples).

    `taken + resumed = delivered + sum(dropped) + queued` holds at any moment.
    """

    taken: int = 0  # handed out by the engine
    resumed: int = 0  # found in the queue at start-up
    delivered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    queued_bytes: int = 0
    oldest_at: float | None = None  # Unix seconds of the oldest queued item
    retries: int = 0
    up: bool | None = None  # did the last attempt succeed
    duration_buckets: list[int] = field(default_factory=list)
    duration_sum_s: float = 0.0
    duration_count: int = 0


@dataclass(slots=True)
class TlsReloads:
    """How looks at changed files of `listen.tls` went since the start."""

    successful: bool = True  # whether what the files hold is what is in use
    succeeded: int = 0
    failed: int = 0


DELIVERY_DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the delivery duration histogram."""
