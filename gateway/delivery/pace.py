"""How fast one tenant may send to one destination: a window of parallel requests, pauses, and a circuit breaker.

The window follows AIMD: each success widens it by its reciprocal, each failure halves it. A failure opens the circuit
for a pause, exponential with full jitter and no shorter than the backend asked for; then one request probes, and its
success closes the circuit again. Sources: Chiu and Jain, "Analysis of increase and decrease algorithms" (1989); AWS
Architecture Blog, "Exponential backoff and jitter".
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from gateway.config.destinations import Retry as RetryConfig
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge

# A backend may ask for a pause, not for ever: one absurd answer must not stall a tenant for longer than this.
LONGEST_PAUSE_S = 300.0
# From here on the exponential is beyond any ceiling.
_LARGEST_EXPONENT = 30


class Circuit(Enum):
    """CLOSED: requests flow. OPEN: none until the pause ends. HALF_OPEN: one probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True, eq=False)
class Turn:
    """A request that may be sent now."""

    probe: bool
    pauses: int
    """How many pauses there had been when it began: one pause is enough for all that were under way."""
    outcome: Outcome | None = None
    """Set when it is known; a turn that ends without one says nothing of the backend."""


class Pace:
    """Shared by all shards of a tenant at a destination."""

    def __init__(self, retry: RetryConfig, max_window: int) -> None:
        self._retry, self._max_window = retry, max_window
        self._window = 1.0
        self._circuit = Circuit.CLOSED
        self._under_way = self._failures = self._pauses = 0
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[Turn]] = []

    @property
    def circuit(self) -> Circuit:
        return self._circuit

    @property
    def paused_s(self) -> float:
        """How long nothing may be sent; 0: at once, or as soon as a probe has come back."""
        if self._circuit is not Circuit.OPEN:
            return 0.0
        return max(0.0, self._paused_until - time.monotonic())

    @property
    def window(self) -> int:
        """Requests that may be under way at once."""
        return int(self._window)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait until a request may be sent; what became of it is read from `Turn.outcome` when the block ends."""
        waiter: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._admit()
        try:
            turn = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiting.remove(waiter)
            else:
                self._end(waiter.result())
            raise
        try:
            yield turn
        finally:
            self._end(turn)

    def probe_now(self) -> None:
        """Somebody has mended something: do not wait for the end of the pause."""
        if self._circuit is Circuit.OPEN:
            self._paused_until = 0.0
            self._admit()

    def _admit(self) -> None:
        """Let those in whose turn it is, in order."""
        for waiter in list(self._waiting):
            if self.paused_s:
                self._wake_at_end_of_pause()
                return
            if self._circuit is Circuit.HALF_OPEN or self._under_way >= self.window:
                return
            if waiter.cancelled():
                # It leaves by itself.
                continue
            self._waiting.remove(waiter)
            probe = self._circuit is Circuit.OPEN
            if probe:
                self._circuit = Circuit.HALF_OPEN
            self._under_way += 1
            waiter.set_result(Turn(probe, self._pauses))

    def _end(self, turn: Turn) -> None:
        self._under_way -= 1
        match turn.outcome:
            case None:
                if turn.probe and self._circuit is Circuit.HALF_OPEN:
                    self._circuit = Circuit.OPEN
            case Delivered() | Refused() | TooLarge() if turn.pauses < self._pauses:
                # Sent before the pause: that it went well does not end what the backend asked for since.
                pass
            case Delivered():
                self._close()
                self._window = min(self._max_window, self._window + 1 / self._window)
            case Refused() | TooLarge():
                # It answers. That it takes no more than before is no reason to send more.
                self._close()
            case Retry(_, after_s):
                self._window = max(1.0, self._window / 2) if turn.pauses == self._pauses else self._window
                self._pause(turn, after_s)
            case Held():
                self._pause(turn, None)
        self._admit()

    def _close(self) -> None:
        self._failures = 0
        self._circuit = Circuit.CLOSED

    def _pause(self, turn: Turn, after_s: float | None) -> None:
        asked_s = min(after_s or 0.0, LONGEST_PAUSE_S)
        if turn.pauses < self._pauses:
            # Sent before the pause that others caused already: it is no new failure.
            pause_s = asked_s
        else:
            ceiling = min(self._retry.max, self._retry.initial * 2 ** min(self._failures, _LARGEST_EXPONENT))
            self._failures += 1
            self._pauses += 1
            pause_s = asked_s + random.uniform(0, ceiling)  # noqa: S311 - jitter, not a secret
            self._circuit = Circuit.OPEN
            self._paused_until = 0.0
        if self._circuit is Circuit.OPEN:
            self._paused_until = max(self._paused_until, time.monotonic() + pause_s)

    def _wake_at_end_of_pause(self) -> None:
        """For those that wait for their turn; whoever has not begun to wait looks at `paused_s` itself."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.paused_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._admit()
