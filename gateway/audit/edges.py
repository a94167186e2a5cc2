"""Edges, not levels: what happens a thousand times a second is one line, and the rest is counted."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class FirstSeen:
    """Lets a key pass once in a window, and all keys together at most so many times in one.

    What did not pass is counted, for the next line that does. Memory is bounded: the key seen longest ago is forgotten
    first, which can only make a line more.
    """

    def __init__(
        self, window_s: float, *, most: int, max_keys: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_s = window_s
        self._most = most
        self._max_keys = max_keys
        self._clock = clock
        self._passed: OrderedDict[Hashable, float] = OrderedDict()
        self._window_start = clock()
        self._in_window = 0
        self.held_back = 0
        """How many have not passed since `take_held_back`."""

    def passes(self, key: Hashable) -> bool:
        now = self._clock()
        if now - self._window_start >= self._window_s:
            self._window_start, self._in_window = now, 0
        passed_at = self._passed.get(key)
        recent = passed_at is not None and now - passed_at < self._window_s
        if recent or self._in_window >= self._most:
            self.held_back += 1
            return False
        self._in_window += 1
        self._passed[key] = now
        self._passed.move_to_end(key)
        if len(self._passed) > self._max_keys:
            self._passed.popitem(last=False)
        return True

    def take_held_back(self) -> int:
        held_back, self.held_back = self.held_back, 0
        return held_back


class Changes:
    """Lets a key pass when its state is another than before."""

    def __init__(self, usual: str, *, max_keys: int = 100_000) -> None:
        """`usual`: the state of a key that was never seen."""
        self._usual = usual
        self._max_keys = max_keys
        self._unusual: OrderedDict[Hashable, str] = OrderedDict()

    def passes(self, key: Hashable, state: str) -> bool:
        if self._unusual.get(key, self._usual) == state:
            return False
        if state == self._usual:
            del self._unusual[key]
            return True
        self._unusual[key] = state
        if len(self._unusual) > self._max_keys:
            self._unusual.popitem(last=False)
        return True
