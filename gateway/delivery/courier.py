"""Carries one shard's records to its destination: in order, one request at a time, again until it is settled."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.config.models import FileDestination, NetworkDestination
from gateway.config.models import Retry as RetryConfig
from gateway.delivery.destinations import Sender
from gateway.delivery.line import CorruptHead, Line
from gateway.delivery.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge
from gateway.delivery.queue import DurableQueue, Stored
from gateway.types import DELIVERY_DURATION_BOUNDS_S

log = structlog.get_logger(__name__)

# Requests under way to one destination, of all its lanes: a destination that hangs holds no more than these.
MAX_REQUESTS_PER_DESTINATION = 32
# A backend may ask for a pause, not for ever: one absurd answer must not stall a lane for longer than this.
LONGEST_PAUSE_S = 300.0
# What is written to a file at once.
_FILE_REQUEST_BYTES = 4 << 20


@dataclass(slots=True)
class Outlet:
    """A destination with what its senders share."""

    name: str
    sender: Sender
    retry: RetryConfig
    max_request_bytes: int
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_REQUESTS_PER_DESTINATION))

    @classmethod
    def of(cls, name: str, sender: Sender, config: NetworkDestination | FileDestination) -> "Outlet":
        if isinstance(config, FileDestination):
            return cls(name, sender, RetryConfig(), _FILE_REQUEST_BYTES)
        return cls(name, sender, config.retry, config.max_request_bytes)


class Courier:
    """Delivers one lane until it is empty."""

    def __init__(self, queue: DurableQueue, line: Line, outlet: Outlet) -> None:
        self._queue = queue
        self._line = line
        self._outlet = outlet
        self._attempt = 0
        self._alone = 0
        """How many of the next records go in a request of their own."""
        self._failing: str | None = None
        self.on_settled: Callable[[list[Stored], list[int]], None] = lambda _records, _deletes: None
        """Called with what was delivered or dropped, and the sequences that may leave the disk."""
        self.backing_off = False

    async def run(self) -> None:
        """Returns when the lane is empty."""
        while not self._line.empty:
            found = self._line.peek(self._queue, 0 if self._alone else self._outlet.max_request_bytes)
            if isinstance(found, CorruptHead):
                self._set_aside(found)
                continue
            if not found:
                # The count and the disk disagree: nothing is left to send, so nothing is queued.
                log.error("queue records are missing", tenant_id=self._line.shard.lane.tenant, **self._where())
                self._forget_missing()
                continue
            if self._too_old(found[0]):
                self._settle([found[0]], dropped="too_old")
                continue
            outcome = await self._send(found)
            await self._act(found, outcome)

    async def _send(self, records: list[Stored]) -> Outcome:
        async with self._outlet.slots:
            started = time.monotonic()
            outcome = await self._outlet.sender.send(
                self._line.shard.lane, [part for stored in records for part in stored.record.parts]
            )
            self._observe(time.monotonic() - started)
        return outcome

    async def _act(self, records: list[Stored], outcome: Outcome) -> None:
        counters = self._line.counters
        match outcome:
            case Delivered(rejected):
                self._note(None)
                counters.up = True
                self._settle(records, rejected=rejected)
            case Refused(reason) if len(records) > 1:
                # Taken apart, so that only the record that is at fault is lost.
                counters.up = True
                self._alone = len(records)
                self._note(reason)
            case Refused(reason):
                counters.up = True
                self._note(reason)
                self._settle(records, dropped=reason)
            case TooLarge(reason):
                await self._act(records, Refused(reason))
            case Held(reason):
                await self._act(records, Retry(reason))
            case Retry(reason, after_s):
                counters.up = False
                counters.retries += 1
                self._note(reason)
                await self._back_off(after_s)

    async def _back_off(self, after_s: float | None) -> None:
        """Exponential with full jitter; not before the backend said, but for what is beyond the longest pause."""
        retry = self._outlet.retry
        ceiling = min(retry.max, retry.initial * 2 ** min(self._attempt, 30))
        self._attempt += 1
        self.backing_off = True
        try:
            pause_s = min(after_s or 0.0, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s + random.uniform(0, ceiling))  # noqa: S311 - jitter, not a secret
        finally:
            self.backing_off = False

    def _settle(self, records: list[Stored], *, dropped: str | None = None, rejected: int = 0) -> None:
        items = sum(stored.record.items for stored in records)
        counters = self._line.counters
        if dropped is not None:
            counters.dropped[dropped] = counters.dropped.get(dropped, 0) + items
        else:
            rejected = min(rejected, items)
            counters.delivered += items - rejected
            counters.delivered_bytes += sum(stored.record.size for stored in records)
            if rejected:
                counters.dropped["rejected_by_backend"] = counters.dropped.get("rejected_by_backend", 0) + rejected
        self._attempt = 0
        self._alone = max(0, self._alone - len(records))
        self.on_settled(records, self._line.settle(records))

    def _too_old(self, oldest: Stored) -> bool:
        max_age = self._outlet.retry.max_age
        return max_age is not None and time.time() - oldest.record.opened_at > max_age

    def _set_aside(self, corrupt: CorruptHead) -> None:
        """A corrupt record is kept where nothing reads it, counted, and the rest goes on."""
        self._queue.quarantine(self._line.shard, corrupt.sequence)
        line, counters = self._line, self._line.counters
        line.on_disk -= 1
        line.head_sequence = corrupt.sequence + 1
        items = 1 if line.on_disk or line.in_memory else counters.queued
        counters.queued -= items
        counters.queued_bytes = max(0, counters.queued_bytes - corrupt.size)
        counters.dropped["corrupt_record"] = counters.dropped.get("corrupt_record", 0) + items
        log.error("a queue record is corrupt; it is set aside", tenant_id=line.shard.lane.tenant, **self._where())

    def _forget_missing(self) -> None:
        line, counters = self._line, self._line.counters
        line.on_disk = 0
        missing = counters.queued - sum(stored.record.items for stored in line.in_memory)
        counters.queued -= missing
        counters.dropped["missing_record"] = counters.dropped.get("missing_record", 0) + missing

    def _note(self, reason: str | None) -> None:
        """One line when a lane starts to fail, fails otherwise, or recovers."""
        if reason == self._failing:
            return
        self._failing = reason
        if reason is None:
            log.info("delivery goes on", tenant_id=self._line.shard.lane.tenant, **self._where())
        else:
            log.warning("delivery fails", tenant_id=self._line.shard.lane.tenant, reason=reason, **self._where())

    def _where(self) -> dict[str, str]:
        return {"destination": self._line.shard.lane.destination, "signal": self._line.shard.lane.signal.value}

    def _observe(self, seconds: float) -> None:
        counters = self._line.counters
        if not counters.duration_buckets:
            counters.duration_buckets = [0] * (len(DELIVERY_DURATION_BOUNDS_S) + 1)
        bucket = next((i for i, bound in enumerate(DELIVERY_DURATION_BOUNDS_S) if seconds <= bound), -1)
        counters.duration_buckets[bucket] += 1
        counters.duration_sum_s += seconds
        counters.duration_count += 1
