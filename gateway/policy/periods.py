"""The days and months of volume quotas: UTC, and told to the engine, which knows no calendar."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

# The clock is looked at this often, since a machine may sleep and its clock may be set.
MAX_PAUSE_S = 60.0


class StartPeriod(Protocol):
    """`Engine.start_period`."""

    def __call__(self, period: str, *, ends_in_s: float) -> None: ...


class Periods:
    """Starts each UTC day and month as it comes."""

    def __init__(self, start_period: StartPeriod, clock: Callable[[], float] = time.time) -> None:
        self._start_period = start_period
        self._clock = clock
        self._started = {"day": datetime.min.replace(tzinfo=UTC), "month": datetime.min.replace(tzinfo=UTC)}

    def update(self) -> float:
        """Start what has begun since the last call; returns the seconds until the next look.

        A clock that is set back starts nothing: what was used stays used.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = day.replace(day=1)
        next_day = day + timedelta(days=1)
        next_month = (month + timedelta(days=32)).replace(day=1)
        for period, begin, end in (("day", day, next_day), ("month", month, next_month)):
            if begin > self._started[period]:
                self._started[period] = begin
                self._start_period(period, ends_in_s=(end - now).total_seconds())
        return min(MAX_PAUSE_S, max(0.001, (next_day - now).total_seconds()))
