"""From counters that only grow, and begin anew with the process, to what was used since the last look."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.types import Lane, Signal


@dataclass(frozen=True, slots=True, order=True)
class Meter:
    """Who used what."""

    tenant: str
    signal: Signal


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much. `series` is a level, not a sum: the highest seen, none where nothing counts series."""

    items: int = 0
    """Taken in: spans, points or log records of requests that were not refused."""
    bytes_in: int = 0
    """Uncompressed OTLP that was let in: of requests within their quotas."""
    bytes_out: int = 0
    """Delivered, uncompressed, to all destinations together."""
    masked_values: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Items of refused requests, by reason."""
    series: int | None = None

    def __add__(self, other: "Amounts") -> "Amounts":
        rejected = dict(self.rejected)
        for reason, items in other.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + items
        levels = [series for series in (self.series, other.series) if series is not None]
        return Amounts(
            self.items + other.items,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.masked_values + other.masked_values,
            rejected,
            max(levels) if levels else None,
        )

    def since(self, before: "Amounts") -> "Amounts":
        """What came on top of `before`. Counters that went back began anew, so all they show is new."""
        rejected = {reason: items - before.rejected.get(reason, 0) for reason, items in self.rejected.items()}
        grown = Amounts(
            self.items - before.items,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
            self.masked_values - before.masked_values,
            {reason: items for reason, items in rejected.items() if items},
            self.series,
        )
        counts = (grown.items, grown.bytes_in, grown.bytes_out, grown.masked_values, *rejected.values())
        return self if min(counts) < 0 or before.rejected.keys() - self.rejected.keys() else grown

    @property
    def nothing(self) -> bool:
        return not (self.items or self.bytes_in or self.bytes_out or self.masked_values or self.rejected)

    @property
    def rejected_items(self) -> int:
        return sum(self.rejected.values())


Readings = dict[Meter, Amounts]


def read_intake(snapshot: Mapping[str, Any]) -> Readings:
    """The engine's counters (docs/engine-snapshot.md). Only such are read as never shrink."""
    series = {active["tenant"]: active["active_series"] for active in snapshot.get("active", ())}
    return {
        Meter(entry["tenant"], Signal(entry["signal"])): Amounts(
            # Not received less rejected: an item under way is received already, and may be rejected yet.
            items=entry["accepted"] + entry["filtered"] + entry["sampled_out"],
            bytes_in=entry["admitted_bytes"],
            masked_values=sum(entry["masked"].values()),
            rejected={reason: items for reason, items in entry["rejected"].items() if items},
            series=series.get(entry["tenant"]) if entry["signal"] == Signal.METRICS else None,
        )
        for entry in snapshot["intake"]
    }


def read_delivery(delivered_bytes: Iterable[tuple[Lane, int]]) -> Readings:
    """Delivery's counters, all destinations of a tenant and signal together."""
    readings: Readings = {}
    for lane, size in delivered_bytes:
        meter = Meter(lane.tenant, lane.signal)
        readings[meter] = readings.get(meter, Amounts()) + Amounts(bytes_out=size)
    return readings


def used_since(now: Readings, before: Readings) -> Readings:
    """What was used between two looks at one source; meters that did not move are left out."""
    used = {meter: amounts.since(before.get(meter, Amounts())) for meter, amounts in now.items()}
    return {meter: amounts for meter, amounts in used.items() if not amounts.nothing}


def joined(*parts: Readings) -> Readings:
    """Readings of several sources as one."""
    whole: Readings = {}
    for part in parts:
        for meter, amounts in part.items():
            whole[meter] = whole.get(meter, Amounts()) + amounts
    return whole
