"""Keeps what the engine hands out: on disk before a request is answered OK, or in memory, within bounds.

One commit runs at a time, and each takes everything that came during the last (group commit).
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
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


class Keeper:
    """The writing side of delivery. `line_of` finds or makes a line; `has_work` is told which shards have something."""

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
        self._unsaved: dict[Shard, Line] = {}
        """Lines with records that are in memory only."""
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._full: str | None = None
        self._tenants_full: set[str] = set()
        self._commits = self._commit_errors = 0
        self._commit_seconds = 0.0
        self._reclaim_at = time.monotonic() + _RECLAIM_INTERVAL_S
        self._closing = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._commit_forever(), name="queue commits")

    def reconfigure(self, config: QueueConfig) -> None:
        """New bounds, from now on."""
        self._config = config
        self._work.set()

    async def finish(self) -> int:
        """End the commits, and write what is in memory only; how many items are lost because the disk takes none."""
        self._closing = True
        if self._task is not None:
            # A thread cannot be cancelled: the commit under way ends, and its batches are acknowledged.
            self._work.set()
            await asyncio.gather(self._task, return_exceptions=True)
        lost = 0
        try:
            await self._save_unsaved()
        except QueueWriteError as error:
            lost = sum(self._give_up(line, str(error)) for line in self._unsaved.values())
        try:
            await self._commit([], self._swap_deletes())
        except QueueWriteError as error:
            log.warning(f"{_UNWRITABLE}; what was delivered last is delivered again", error=str(error))
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
        """Batches wait for a commit."""
        return bool(self._arrivals)

    def stats(self) -> QueueStats:
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
            self._work.set()

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
            self._work.set()
        if self._stock.size > self._config.max_bytes:
            self._close(_QUEUE_FULL)

    async def _commit_forever(self) -> None:
        while self._arrivals or not self._closing:
            await self._work.wait()
            self._work.clear()
            arrivals, self._arrivals = self._arrivals, []
            kept, refused = self._within_bounds(arrivals)
            if refused:
                self._engine.fail(refused)
            assigned = [(batch_id, self._line_of(record.shard).assign(record)) for batch_id, record in kept]
            deletes = self._swap_deletes()
            try:
                await self._commit([stored for _, stored in assigned], deletes)
                if self._stock.unsaved > self._config.memory_max_bytes:
                    await self._save_unsaved()
            except QueueWriteError as error:
                self._commit_errors += 1
                # What did not go through may be on disk all the same.
                self._deletes += deletes + [(stored.record.shard, stored.sequence) for _, stored in assigned]
                log.error(_UNWRITABLE, error=str(error))
                self._close(_UNWRITABLE)
                self._engine.fail([batch_id for batch_id, _ in assigned])
                await asyncio.sleep(_COMMIT_RETRY_S)
                self._work.set()
                continue
            self._stand_in_line(assigned)
            self._open_if_room(list(self._tenants_full))
            if not self._arrivals and not self._closing:
                await self._reclaim_sometimes()

    def _stand_in_line(self, committed: list[tuple[int, Stored]]) -> None:
        for _, stored in committed:
            line, size = self._line_of(stored.record.shard), stored.record.size
            room = self._stock.resident + size <= self._config.memory_max_bytes
            # A line that has to be read from disk anyway needs no memory.
            line.take_saved(stored, keep=room and not line.cold and (line.empty or line.size + size <= _RECENT_BYTES))
        if committed:
            self._engine.ack([batch_id for batch_id, _ in committed])
            for shard in {stored.record.shard for _, stored in committed}:
                self._has_work(shard)

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
        """Call a function that writes to the queue between two commits. Raises what it raises, and QueueWriteError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._queue.executor, function)
        except RuntimeError as error:
            # No thread can be started. Unless it counts as a failed commit, it ends all commits, in silence.
            raise QueueWriteError(str(error)) from error

    async def _commit(self, puts: list[Stored], deletes: list[tuple[Shard, int]]) -> None:
        if not puts and not deletes:
            return
        started = time.monotonic()
        pairs = [(stored.sequence, stored.record) for stored in puts]
        await self.in_thread(partial(self._queue.commit, pairs, deletes))
        self._commits += 1
        self._commit_seconds += time.monotonic() - started

    async def _save_unsaved(self) -> None:
        """Write what is in memory only, and let go of it there."""
        written = [(line, line.unsaved) for line in self._unsaved.values()]
        written = [(line, records) for line, records in written if records]
        await self._commit([stored for _, records in written for stored in records], [])
        for line, records in written:
            self.forget(line.shard, line.saved(records))
            line.cool()
        self._unsaved = {shard: line for shard, line in self._unsaved.items() if line.unsaved}

    async def _reclaim_sometimes(self) -> None:
        """In a quiet moment, room that the file does not need goes back to the disk."""
        if time.monotonic() < self._reclaim_at:
            return
        self._reclaim_at = time.monotonic() + _RECLAIM_INTERVAL_S
        try:
            freed = await self.in_thread(self._queue.reclaim)
        except QueueWriteError as error:
            log.warning("the queue's file stays as large as it is", error=str(error))
            return
        if freed:
            log.info("the queue's file is smaller", freed_bytes=freed)

    def forget(self, shard: Shard, sequences: Sequence[int]) -> None:
        """These were settled: they may leave the disk, soon."""
        if sequences:
            if not self._deletes and not self._closing:
                asyncio.get_running_loop().call_later(_DELETE_DELAY_S, self._work.set)
            self._deletes += [(shard, sequence) for sequence in sequences]
        tenant = shard.lane.tenant
        if self._full is not None or tenant in self._tenants_full:
            self._open_if_room([tenant] if tenant in self._tenants_full else [])

    def _swap_deletes(self) -> list[tuple[Shard, int]]:
        deletes, self._deletes = self._deletes, []
        return deletes
