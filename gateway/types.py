"""Small types that the parts of the daemon share."""

from dataclasses import dataclass, field, replace
from datetime import date
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

    def in_log(self) -> dict[str, str]:
        """Fields of a line in the log."""
        return {"tenant_id": self.tenant, "destination": self.destination, "signal": self.signal.value}


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """A part of a lane whose order is kept: a series, a log stream or a resource is always in the same one."""

    lane: Lane
    number: int = 0


@dataclass(slots=True)
class LaneCounters:
    """What became of a lane's items since the start, in what the backend counts (spans, log lines, samples).

    `taken + resumed = delivered + sum(dropped) + queued` holds at any moment.
    """

    taken: int = 0  # handed out by the engine
    resumed: int = 0  # found in the queue at start-up
    maybe_delivered: int = 0  # of these, what was under way when the former run ended: it may be delivered twice
    delivered: int = 0
    delivered_bytes: int = (
        0  # in the destination's format, uncompressed; a request that was partly refused counts whole
    )
    dropped: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    queued_bytes: int = 0
    oldest_at: float | None = None  # Unix seconds of the oldest queued item
    retries: int = 0
    up: bool | None = None  # did the last attempt succeed
    failing: str | None = None  # why the last attempt did not
    duration_buckets: list[int] = field(default_factory=list)
    duration_sum_s: float = 0.0
    duration_count: int = 0

    def drop(self, reason: str, items: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + items

    def copy(self) -> "LaneCounters":
        return replace(self, dropped=dict(self.dropped), duration_buckets=list(self.duration_buckets))


@dataclass(frozen=True, slots=True)
class PaceStats:
    """How a tenant's sending to a destination goes at present."""

    tenant: str
    destination: str
    circuit_open: bool
    window: int  # requests that may be under way at once


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue as operators see it; sizes in bytes."""

    size: int
    max_bytes: int
    resident_bytes: int  # of it, what is in memory
    full: bool
    tenants_full: int  # tenants that are over their share
    commits: int
    commit_seconds: float
    commit_errors: int


@dataclass(frozen=True, slots=True)
class QueueDiskStats:
    """What the queue takes on disk, and what became of damaged parts, since the start."""

    file_bytes: int
    live_bytes: int
    quarantined_records: int
    quarantined_bytes: int
    quarantine_evicted: int
    """Records that left quarantine for newer ones."""
    reclaimed_bytes: int
    untracked_shards: int
    """Shards whose duplicates after a crash are not counted, because there were too many."""
    rebuilt_records: int | None
    """None: the file was sound at the start."""
    rebuilt_corrupt: int


class UsageError(Exception):
    """Usage cannot be kept or read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Whose usage of which days, both ends included. `tenant` None: everybody's."""

    tenant: str | None
    first: date
    last: date

    @classmethod
    def parse(cls, tenant: str | None, first: str | None, last: str | None, *, today: date) -> "UsageQuery":
        """From what a person wrote; by default this month up to today. Raises ValueError, which says what is wrong."""
        to = _day("to", last) if last else today
        start = _day("from", first) if first else to.replace(day=1)
        if start > to:
            raise ValueError(f"from ({start}) is later than to ({to})")
        return cls(tenant, start, to)


def _day(name: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # Python also takes 20260131 and 2026-W05-6, which hardly anybody means.
    if day is None or day.isoformat() != text:
        raise ValueError(f"{name} must be a day such as 2026-01-31")
    return day


MAX_TENANTS = 1000
"""Tenants with series of their own on `/_metrics`; those beyond are summed up as one."""
OTHER_TENANTS = "_other"


@dataclass(slots=True)
class TlsReloads:
    """How looks at changed files of `listen.tls` or `admin.tls` went since the start."""

    successful: bool = True  # whether what the files hold is what is in use
    succeeded: int = 0
    failed: int = 0


DELIVERY_DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the delivery duration histogram."""
