"""Keeps what the engine hands out: on disk before a request is answered OK, or in memory, within bounds.

One commit runs at a time, and each takes everything that came during the last (group commit).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import structlog

from gateway.config.models import Queue as QueueConfig
from gateway.delivery.line import Line, Stock
from gateway.delivery.queue import DurableQueue, QueueWriteError, Stored
from gateway.delivery.record import Record
from gateway.types import QueueStats, Shard

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

# Settled records leave the disk with the next commit, or after this; a crash before it only duplicates.
_DELETE_DELAY_S = 0.5
# A queue that refuses a batch is full if less than the first share is free, and has room again with the second: a large
# batch that does not fit into a half-empty queue must not shut out small ones.
_FULL, _ROOM = 0.1, 0.2
# Without `tenant_max_bytes`, a tenant may have this many times what is free: one alone four fifths of the queue, two
# four ninths each, and there is always room for one that had nothing (Choudhury and Hahne, "Dynamic queue length
# thresholds", 1998).
_FREE_SHARE = 4
# How long the daemon rests after a failed commit.
_COMMIT_RETRY_S = 1.0
# When the event loop looks at a commit that nobody waits for: what was written gathers longer before it is sent.
_LOOK_S = 0.02
# How often the file is looked at for room that it does not need.
_RECLAIM_INTERVAL_S = 60.0
# Of one shard, what stays in memory although it is on disk: enough for what a backend takes at once.
_RECENT_BYTES = 8 << 20
_QUEUE_FULL, _TENANT_FULL = "the queue is full", "the tenant's share of the queue is full"
_UNWRITABLE = "the queue cannot be written"
# The reason of what was in memory when the disk took nothing.
_LOST = "lost_at_stop"


class Gatekeeper(Protocol):
    """What the keeper needs of `gateway._engine.Engine`."""

    def ack(self, ids: Sequence[int]) -> None: ...
    def fail(self, ids: Sequence[int]) -> None: ...
    def gate(self, tenant: str | None, reason: str | None) -> None: ...


Arrival = tuple[int, Record]
"""The engine's id of a batch, and the batch."""


@dataclass(slots=True)
class _Commit:
    """What goes to disk together: made on the event loop, written by the thread of commits."""

    batches: list[tuple[int, Stored]] = field(default_factory=list)
    """The engine waits to hear of these."""
    unsaved: list[tuple[Line, list[Stored]]] = field(default_factory=list)
    """What was in memory only."""
    deletes: list[tuple[Shard, int]] = field(default_factory=list)
    error: Exception | None = None
    seconds: float = 0.0
    ended: bool = False
    awaited: bool = False
    """The event loop has something to do as soon as it has ended."""


class Keeper:
    """The writing side of delivery. `line_of` finds or makes a line; `has_work` is told which shards have something.

    The thread that writes a commit acknowledges it. The event loop learns of it when it has to go on, or else a little
    later: to wake it for each of hundreds of commits a second would cost more than to write them.
    """

    def __init__(
        self,
        config: QueueConfig,
        engine: Gatekeeper,
        queue: DurableQueue,
        *,
        stock: Stock,
        line_of: Callable[[Shard], Line],
        has_work: Callable[[Shard], None],
    ) -> None:
        self._config, self._engine, self._queue = config, engine, queue
        self._stock, self._line_of, self._has_work = stock, line_of, has_work
        self._arrivals: list[Arrival] = []
        self._deletes: list[tuple[Shard, int]] = []
        self._deletes_due = False
        self._unsaved: dict[Shard, Line] = {}
        """Lines with records that are in memory only."""
        self._commit: _Commit | None = None
        """The one that is under way, or has ended unseen."""
        self._look: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._reclaiming: asyncio.Task[None] | None = None
        self._full: str | None = None
        self._tenants_full: set[str] = set()
        self._commits = self._commit_errors = 0
        self._commit_seconds = 0.0
        self._reclaim_at = time.monotonic() + _RECLAIM_INTERVAL_S
        self._closing = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    def reconfigure(self, config: QueueConfig) -> None:
        """New bounds, from now on."""
        self._config = config
        self._go_on()

    async def finish(self) -> int:
        """End the commits, and write what is in memory only; how many items are lost because the disk takes none."""
        self._closing = True
        while self.busy:
            self._go_on()
            # A thread cannot be cancelled: the commit under way ends, and its batches are acknowledged.
            await self.in_thread(lambda: None)
        if self._reclaiming is not None:
            await asyncio.gather(self._reclaiming, return_exceptions=True)
        for timer in (self._look, self._resting):
            if timer is not None:
                timer.cancel()
        lost = 0
        last = _Commit(unsaved=self._all_unsaved())
        await self.in_thread(partial(self._write, last))
        if last.error is not None:
            lost = sum(self._give_up(line, str(last.error)) for line in self._unsaved.values())
        else:
            self._count_saved(last)
        last = _Commit(deletes=self._swap_deletes())
        await self.in_thread(partial(self._write, last))
        if last.error is not None:
            log.warning(f"{_UNWRITABLE}; what was delivered last is delivered again", error=str(last.error))
        return lost

    def _give_up(self, line: Line, error: str) -> int:
        """What a line has in memory only is lost, and named."""
        items = line.lose_unsaved()
        if items:
            line.counters.drop(_LOST, items)
            log.error(
                f"{_UNWRITABLE}; items that were in memory only are lost",
                items=items,
                error=error,
                **line.shard.lane.in_log(),
            )
        return items

    @property
    def busy(self) -> bool:
        """Batches wait for a commit, or one is under way."""
        return bool(self._arrivals) or self._commit is not None

    def stats(self) -> QueueStats:
        self.catch_up()
        return QueueStats(
            size=self._stock.size,
            max_bytes=self._config.max_bytes,
            commits=self._commits,
            commit_seconds=self._commit_seconds,
            commit_errors=self._commit_errors,
            full=self._full is not None,
            tenants_full=len(self._tenants_full),
            resident_bytes=self._stock.resident,
        )

    # In.

    def take(self, arrivals: list[Arrival]) -> None:
        """Batches that the engine closed. They are acknowledged, or failed, once it is known."""
        if self._config.ack == "memory":
            self._hold(arrivals)
        else:
            self._arrivals += arrivals
            self._go_on()

    def _hold(self, arrivals: list[Arrival]) -> None:
        """`ack: memory`: these were answered OK; they are kept in memory, and on disk only if there are too many."""
        for _, record in arrivals:
            line = self._line_of(record.shard)
            line.take_unsaved(line.assign(record))
            self._unsaved[record.shard] = line
            self._close_if_tenant_is_full(record.shard.lane.tenant, 0)
            self._has_work(record.shard)
        self._engine.ack([batch_id for batch_id, _ in arrivals])
        if self._stock.unsaved > self._config.memory_max_bytes:
            self._go_on()
        if self._stock.size > self._config.max_bytes:
            self._close(_QUEUE_FULL)

    def catch_up(self) -> None:
        """See what has ended: what is asked about the lines then is true."""
        if self._commit is not None and self._commit.ended:
            commit, self._commit = self._commit, None
            self._conclude(commit)

    def _go_on(self) -> None:
        """Begin the next commit, if there is something to write; if one is under way, then when it has ended."""
        if self._commit is not None:
            # First this: either its end is seen here, or its thread sees that somebody waits.
            self._commit.awaited = True
            self.catch_up()
        if self._commit is None and (self._resting is None or self._closing):
            self._begin()

    def _begin(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        kept, refused = self._within_bounds(arrivals)
        if refused:
            self._engine.fail(refused)
        commit = _Commit([(batch_id, self._line_of(record.shard).assign(record)) for batch_id, record in kept])
        if self._stock.unsaved > self._config.memory_max_bytes:
            commit.unsaved = self._all_unsaved()
        if commit.batches or commit.unsaved or self._deletes_due:
            commit.deletes = self._swap_deletes()
        if not (commit.batches or commit.unsaved or commit.deletes):
            self._open_if_room(list(self._tenants_full))
            return
        self._commit = commit
        self._queue.thread.post(partial(self._write, commit))
        if self._look is None:
            self._look = self._loop.call_later(_LOOK_S, self._look_at_last)

    def _look_at_last(self) -> None:
        self._look = None
        self._go_on()

    def _write(self, commit: _Commit) -> None:
        """In the thread of commits."""
        started = time.monotonic()
        puts = [stored for _, stored in commit.batches] + [stored for _, some in commit.unsaved for stored in some]
        try:
            if puts or commit.deletes:
                self._queue.commit([(stored.sequence, stored.record) for stored in puts], commit.deletes)
        except Exception as error:  # noqa: BLE001 - whatever it is, commits go on, and nobody waits for ever
            commit.error = error
        commit.seconds = time.monotonic() - started
        commit.ended = True
        if commit.error is None and commit.batches:
            self._engine.ack([batch_id for batch_id, _ in commit.batches])
        if commit.awaited or commit.error is not None:
            self._loop.call_soon_threadsafe(self._go_on)

    def _conclude(self, commit: _Commit) -> None:
        if commit.error is not None:
            self._rest_after(commit, commit.error)
            return
        self._commits += 1
        self._commit_seconds += commit.seconds
        for _, stored in commit.batches:
            line, size = self._line_of(stored.record.shard), stored.record.size
            room = self._stock.resident + size <= self._config.memory_max_bytes
            # A line that has to be read from disk anyway needs no memory.
            line.take_saved(stored, keep=room and not line.cold and (line.empty or line.size + size <= _RECENT_BYTES))
        self._count_saved(commit)
        for shard in {stored.record.shard for _, stored in commit.batches}:
            self._has_work(shard)
        self._open_if_room(list(self._tenants_full))
        quiet = not self._arrivals and self._reclaiming is None and not self._closing
        if quiet and time.monotonic() >= self._reclaim_at:
            self._reclaim_at = time.monotonic() + _RECLAIM_INTERVAL_S
            self._reclaiming = asyncio.create_task(self._reclaim(), name="queue reclaim")

    def _rest_after(self, commit: _Commit, error: Exception) -> None:
        """The commit failed: its batches are refused, and so is everybody until one succeeds."""
        self._commit_errors += 1
        # What did not go through may be on disk all the same.
        self._deletes += commit.deletes + [(stored.record.shard, stored.sequence) for _, stored in commit.batches]
        log.error(_UNWRITABLE, error=str(error), exc_info=None if isinstance(error, QueueWriteError) else error)
        self._close(_UNWRITABLE)
        if commit.batches:
            self._engine.fail([batch_id for batch_id, _ in commit.batches])
        if not self._closing:
            self._resting = self._loop.call_later(_COMMIT_RETRY_S, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._delete_now()

    # Bounds.

    def _within_bounds(self, arrivals: list[Arrival]) -> tuple[list[Arrival], list[int]]:
        """What the queue and its tenants' shares have room for, oldest first; and the ids of the rest."""
        kept: list[Arrival] = []
        refused: list[int] = []
        full: set[str] = set()
        coming: dict[str, int] = {}
        total = self._stock.size
        for batch_id, record in arrivals:
            tenant, size = record.shard.lane.tenant, record.size
            if total + size > self._config.max_bytes:
                full.add(tenant)
                if self._stock.size > self._config.max_bytes * (1 - _FULL):
                    self._close(_QUEUE_FULL)
            elif tenant not in full and self._close_if_tenant_is_full(tenant, coming.get(tenant, 0) + size):
                full.add(tenant)
            if tenant in full:
                # Also what would fit: a later batch does not overtake an earlier one.
                refused.append(batch_id)
                continue
            kept.append((batch_id, record))
            coming[tenant] = coming.get(tenant, 0) + size
            total += size
        return kept, refused

    def _share_of(self, tenant: str) -> int:
        """How much of the queue a tenant may have, in bytes."""
        return self._config.tenant_max_bytes or _FREE_SHARE * max(0, self._config.max_bytes - self._stock.size)

    def _close_if_tenant_is_full(self, tenant: str, more: int) -> bool:
        """Whether what it has and `more` bytes are over its share; its gate closes if it is about full without."""
        share, size = self._share_of(tenant), self._stock.of_tenant.get(tenant, 0)
        if size + more <= share:
            return False
        if size > share * (1 - _FULL) and tenant not in self._tenants_full:
            self._tenants_full.add(tenant)
            log.warning("requests of a tenant are refused", tenant_id=tenant, reason=_TENANT_FULL)
            self._engine.gate(tenant, _TENANT_FULL)
        return True

    def _close(self, reason: str) -> None:
        if self._full != reason:
            self._full = reason
            log.warning("requests are refused", reason=reason)
            self._engine.gate(None, reason)

    def _open_if_room(self, tenants: Iterable[str]) -> None:
        if self._full is not None and self._stock.size <= self._config.max_bytes * (1 - _ROOM):
            self._full = None
            log.info("requests are taken again")
            self._engine.gate(None, None)
        for tenant in tenants:
            if self._stock.of_tenant.get(tenant, 0) <= self._share_of(tenant) * (1 - _ROOM):
                self._tenants_full.discard(tenant)
                log.info("requests of a tenant are taken again", tenant_id=tenant)
                self._engine.gate(tenant, None)

    # To disk.

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Call a function that writes to the queue between two commits. Raises what it raises."""
        return await self._loop.run_in_executor(self._queue.thread, function)

    def _all_unsaved(self) -> list[tuple[Line, list[Stored]]]:
        """What is in memory only."""
        return [(line, unsaved) for line in self._unsaved.values() if (unsaved := line.unsaved)]

    def _count_saved(self, commit: _Commit) -> None:
        """What was in memory only is on disk, and leaves memory."""
        if not commit.unsaved:
            return
        for line, records in commit.unsaved:
            self.forget(line.shard, line.saved(records))
            line.cool()
        self._unsaved = {shard: line for shard, line in self._unsaved.items() if line.unsaved}

    async def _reclaim(self) -> None:
        """In a quiet moment, room that the file does not need goes back to the disk."""
        try:
            freed = await self.in_thread(self._queue.reclaim)
        except QueueWriteError as error:
            log.warning("the queue's file stays as large as it is", error=str(error))
            return
        finally:
            self._reclaiming = None
        if freed:
            log.info("the queue's file is smaller", freed_bytes=freed)

    def forget(self, shard: Shard, sequences: Sequence[int]) -> None:
        """These were settled: they may leave the disk, soon."""
        if sequences:
            if not self._deletes and not self._closing:
                self._loop.call_later(_DELETE_DELAY_S, self._delete_now)
            self._deletes += [(shard, sequence) for sequence in sequences]
        tenant = shard.lane.tenant
        if self._full is not None or tenant in self._tenants_full:
            self._open_if_room([tenant] if tenant in self._tenants_full else [])

    def _delete_now(self) -> None:
        self._deletes_due = True
        self._go_on()

    def _swap_deletes(self) -> list[tuple[Shard, int]]:
        deletes, self._deletes = self._deletes, []
        self._deletes_due = False
        return deletes
