"""Wall time that does not jump while the daemon runs: what waits grows old by the time that passes, by nothing else.

A wall clock is put right by an hour now and then: by NTP after a boot without it, or by a hand. Measured with it,
everything that waits would be an hour old at once, and dropped for its age.
"""

import time
from collections.abc import Callable

# A batch is open for no longer than this (`batch.max_age` is at most so much).
_LONGEST_OPEN_S = 60.0


class SteadyClock:
    """Unix seconds: the wall clock's at the start, and from there on the monotonic clock's."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()

    def now(self) -> float:
        return self._monotonic() + self._offset_s

    def opened_at(self, stamp: float) -> float:
        """When a batch that was just closed was opened, by this clock; `stamp` is from the wall clock."""
        now = self.now()
        # The clock may have jumped since the stamp: then this is off by as much, but no batch is open for so long.
        steady = stamp + now - self._wall()
        return min(now, max(steady, now - _LONGEST_OPEN_S))


CLOCK = SteadyClock()
"""The daemon's."""
