"""Quotas of what a tenant may have active: series and log streams (docs/series-budget.md)."""

from typing import Annotated

from pydantic import Field

from gateway.config.base import Model
from gateway.config.quantities import Seconds
from gateway.types import Signal

ONLY_FOR = {
    "active_series": Signal.METRICS,
    "new_series_per_minute": Signal.METRICS,
    "folded_series": Signal.METRICS,
    "active_streams": Signal.LOGS,
}
"""The signal that each of these quotas is for; `active_window` goes with both."""


class ActiveQuota(Model):
    """Unset is unlimited, and then nothing is tracked."""

    active_series: Annotated[int, Field(ge=0)] | None = None
    """Metrics: series that may be active at a time. New ones over it are folded into overflow series, or rejected."""
    new_series_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Metrics: series that may become active in a minute; those over it are treated likewise."""
    folded_series: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    """Metrics: series over budget that may be folded at a time; those over it are rejected."""
    active_streams: Annotated[int, Field(ge=0)] | None = None
    """Logs: Loki streams that may be active at a time. What is new and over it goes to one overflow stream."""
    active_window: Annotated[Seconds, Field(ge=60, le=30 * 86400)] = 3600.0
    """How long a series or stream stays active after its last point or line."""
