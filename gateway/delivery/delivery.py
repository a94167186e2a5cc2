"""Delivery as a whole: batches from the engine are kept, acknowledged, and carried to their destinations."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import structlog

from gateway.config.models import Config
from gateway.delivery.courier import Courier, Outlet
from gateway.delivery.destinations import open_sender
from gateway.delivery.line import Line
from gateway.delivery.queue import DurableQueue, QueueError, QueueWriteError, Stored
from gateway.delivery.record import Part, Record
from gateway.types import Lane, LaneCounters, Shard, Signal

log = structlog.get_logger(__name__)

# Settled records leave the disk with the next commit, or after this; a crash before it only duplicates.
_DELETE_DELAY_S = 0.5
# A queue that refuses a batch is full if less than the first share is free, and has room again with the second: a large
# batch that does not fit into a half-empty queue must not shut out small ones.
_FULL, _ROOM = 0.1, 0.2
# How long the daemon rests after a failed commit.
_COMMIT_RETRY_S = 1.0
# A lane whose courier failed by a bug is tried again after this.
_RESTART_S = 5.0


class EngineBatch(Protocol):
    """What delivery needs of `gateway._engine.Batch`."""

    @property
    def id(self) -> int: ...
    @property
    def tenant(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def shard(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def parts(self) -> Sequence[Part]: ...
    @property
    def size(self) -> int: ...
    @property
    def opened_at(self) -> float: ...


class BatchSource(Protocol):
    """What delivery needs of `gateway._engine.Engine`."""

    def event_fd(self) -> int: ...
    def drain(self) -> Sequence[EngineBatch]: ...
    def ack(self, ids: Sequence[int]) -> None: ...
    def fail(self, ids: Sequence[int]) -> None: ...
    def gate(self, tenant: str | None, reason: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue as operators see it."""

    size: int
    max_bytes: int
    commits: int
    commit_seconds: float
    commit_errors: int
    full: bool


class Delivery:
    """Owns the queue, the destinations and one courier a busy lane."""

    def __init__(self, config: Config, engine: BatchSource, queue: DurableQueue) -> None:
        self._config = config
        self._engine = engine
        self._queue = queue
        self._lines: dict[Shard, Line] = {}
        self._counters: dict[Lane, LaneCounters] = {}
        self._outlets: dict[str, Outlet] = {}
        self._couriers: dict[Shard, tuple[Courier, asyncio.Task[None]]] = {}
        self._arrivals: list[tuple[int, Record]] = []
        self._deletes: list[tuple[Shard, int]] = []
        self._work = asyncio.Event()
        self._committer: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._resident = 0
        """Bytes of records that are in memory only."""
        self._full: str | None = None
        self._commits = self._commit_errors = 0
        self._commit_seconds = 0.0
        self._closing = False

    @classmethod
    async def open(cls, config: Config, *, engine: BatchSource) -> "Delivery":
        """Open the queue and resume what a former run left in it. Raises QueueError."""
        queue = await asyncio.to_thread(DurableQueue.open, config.queue)
        delivery = cls(config, engine, queue)
        try:
            backlogs = await asyncio.to_thread(queue.backlog)
        except QueueError:
            queue.close()
            raise
        for shard, backlog in backlogs.items():
            delivery._line(shard).resume(backlog)
        if backlogs:
            items = sum(backlog.items for backlog in backlogs.values())
            log.info("resuming the queue", items=items, shards=len(backlogs))
        return delivery

    async def start(self) -> None:
        """Open the destinations, carry on what is queued, and take batches from the engine from now on."""
        # Unlimited, since every destination has slots of its own: those that hang must not use up what others need.
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True
        )
        self._outlets = self._open_outlets(self._config)
        self._committer = asyncio.create_task(self._commit_forever(), name="queue commits")
        asyncio.get_running_loop().add_reader(self._engine.event_fd(), self._take_batches)
        for shard in list(self._lines):
            self._dispatch(shard)

    async def reconfigure(self, config: Config) -> None:
        """New destinations take over. Lanes of a destination that is gone stay queued until it is back.

        Raises OSError or ValueError, with nothing changed, if a destination cannot be opened.
        """
        old, new = self._outlets, self._open_outlets(config)
        self._config = config
        couriers = list(self._couriers.values())
        for _, task in couriers:
            task.cancel()
        await asyncio.gather(*(task for _, task in couriers), return_exceptions=True)
        self._outlets = new
        for outlet in old.values():
            await outlet.sender.close()
        for shard in list(self._lines):
            self._dispatch(shard)

    async def drain(self, timeout_s: float) -> None:
        """Deliver what can be delivered, put the rest on disk, close everything."""
        deadline = time.monotonic() + timeout_s
        self._take_batches()
        while time.monotonic() < deadline and self._busy():
            await asyncio.sleep(0.02)
        asyncio.get_running_loop().remove_reader(self._engine.event_fd())
        self._closing = True
        tasks = [task for _, task in self._couriers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._committer is not None:
            # A thread cannot be cancelled: the commit under way ends, and its batches are acknowledged.
            self._work.set()
            await asyncio.gather(self._committer, return_exceptions=True)
        try:
            await self._spill(list(self._lines.values()))
            await self._commit([], self._swap_deletes())
        except QueueWriteError as error:
            log.error("the queue cannot be written; what is in memory is lost", error=str(error))
        for outlet in self._outlets.values():
            await outlet.sender.close()
        if self._session is not None:
            await self._session.close()
        self._queue.close()

    def _busy(self) -> bool:
        """Something is under way that waiting may finish: a commit, or a lane that is not in vain."""
        if self._arrivals:
            return True
        return any(not courier.backing_off for courier, task in self._couriers.values() if not task.done())

    def counters(self) -> dict[Lane, LaneCounters]:
        """Of every lane since the start."""
        oldest: dict[Lane, float] = {}
        for shard, line in self._lines.items():
            if line.oldest_at is not None:
                oldest[shard.lane] = min(line.oldest_at, oldest.get(shard.lane, line.oldest_at))
        for lane, counters in self._counters.items():
            counters.oldest_at = oldest.get(lane)
        return self._counters

    def queue_stats(self) -> QueueStats:
        return QueueStats(
            size=self._size(),
            max_bytes=self._config.queue.max_bytes,
            commits=self._commits,
            commit_seconds=self._commit_seconds,
            commit_errors=self._commit_errors,
            full=self._full is not None,
        )

    def _size(self) -> int:
        return sum(counters.queued_bytes for counters in self._counters.values())

    def _line(self, shard: Shard) -> Line:
        line = self._lines.get(shard)
        if line is None:
            counters = self._counters.setdefault(shard.lane, LaneCounters())
            line = self._lines[shard] = Line(shard, counters, next_sequence=self._queue.first_sequence)
        return line

    def _open_outlets(self, config: Config) -> dict[str, Outlet]:
        assert self._session is not None, "start() opens the session first"  # noqa: S101
        return {
            name: Outlet.of(name, open_sender(destination, self._session), destination)
            for name, destination in config.destinations.items()
        }

    # From the engine to the queue.

    def _take_batches(self) -> None:
        """The engine has closed batches."""
        batches = self._engine.drain()
        if not batches:
            return
        arrivals = [
            (
                batch.id,
                Record(
                    Shard(Lane(batch.tenant, batch.destination, Signal(batch.signal)), batch.shard),
                    batch.items,
                    batch.generation,
                    batch.opened_at,
                    batch.parts,
                    batch.size,
                ),
            )
            for batch in batches
        ]
        if self._config.queue.ack == "memory":
            self._hold(arrivals)
        else:
            self._arrivals += arrivals
            self._work.set()

    def _hold(self, arrivals: list[tuple[int, Record]]) -> None:
        """`ack: memory`: these were answered OK; they are kept in memory, and on disk only if there are too many."""
        for _, record in arrivals:
            line = self._line(record.shard)
            line.take(line.assign(record), on_disk=False)
            self._resident += record.size
            self._dispatch(record.shard)
        self._engine.ack([batch_id for batch_id, _ in arrivals])
        if self._resident > self._config.queue.memory_max_bytes:
            self._work.set()
        if self._size() > self._config.queue.max_bytes:
            self._close_gate("the queue is full")

    async def _commit_forever(self) -> None:
        """One commit after another, until the end; each takes everything that came during the last."""
        while self._arrivals or not self._closing:
            await self._work.wait()
            self._work.clear()
            arrivals, self._arrivals = self._arrivals, []
            kept, refused = self._within_bound(arrivals)
            if refused:
                self._engine.fail([batch_id for batch_id, _ in refused])
                if self._size() > self._config.queue.max_bytes * (1 - _FULL):
                    self._close_gate("the queue is full")
            assigned = [(batch_id, self._line(record.shard).assign(record)) for batch_id, record in kept]
            deletes = self._swap_deletes()
            try:
                await self._commit([stored for _, stored in assigned], deletes)
                if self._resident > self._config.queue.memory_max_bytes:
                    await self._spill(list(self._lines.values()))
            except QueueWriteError as error:
                self._commit_errors += 1
                self._deletes += deletes
                log.error("the queue cannot be written", error=str(error))
                self._close_gate("the queue cannot be written")
                self._engine.fail([batch_id for batch_id, _ in assigned])
                await asyncio.sleep(_COMMIT_RETRY_S)
                self._work.set()
                continue
            for _, stored in assigned:
                self._line(stored.record.shard).take(stored, on_disk=True)
            if assigned:
                self._engine.ack([batch_id for batch_id, _ in assigned])
                for shard in {stored.record.shard for _, stored in assigned}:
                    self._dispatch(shard)
            self._open_gate_if_room()

    def _within_bound(
        self, arrivals: list[tuple[int, Record]]
    ) -> tuple[list[tuple[int, Record]], list[tuple[int, Record]]]:
        """What the queue has room for, oldest first, and the rest."""
        room = self._config.queue.max_bytes - self._size()
        for index, (_, record) in enumerate(arrivals):
            room -= record.size
            if room < 0:
                return arrivals[:index], arrivals[index:]
        return arrivals, []

    async def _commit(self, puts: list[Stored], deletes: list[tuple[Shard, int]]) -> None:
        if not puts and not deletes:
            return
        started = time.monotonic()
        pairs = [(stored.sequence, stored.record) for stored in puts]
        try:
            await asyncio.get_running_loop().run_in_executor(self._queue.executor, self._queue.commit, pairs, deletes)
        except RuntimeError as error:
            # No thread can be started. Unless it counts as a failed commit, it ends all commits, in silence.
            raise QueueWriteError(str(error)) from error
        self._commits += 1
        self._commit_seconds += time.monotonic() - started

    async def _spill(self, lines: list[Line]) -> None:
        """Write what is in memory only to disk."""
        spilled = [(line, list(line.in_memory)) for line in lines if line.in_memory]
        await self._commit([stored for _, records in spilled for stored in records], [])
        for line, records in spilled:
            self._resident -= sum(stored.record.size for stored in records)
            settled = line.moved_to_disk(records)
            # Those settled during the commit were taken off the resident bytes already.
            gone = set(settled)
            self._resident += sum(stored.record.size for stored in records if stored.sequence in gone)
            self._forget(line.shard, settled)

    def _swap_deletes(self) -> list[tuple[Shard, int]]:
        deletes, self._deletes = self._deletes, []
        return deletes

    def _forget(self, shard: Shard, sequences: list[int]) -> None:
        """These may leave the disk, soon."""
        if not sequences:
            return
        if not self._deletes and not self._closing:
            asyncio.get_running_loop().call_later(_DELETE_DELAY_S, self._work.set)
        self._deletes += [(shard, sequence) for sequence in sequences]

    def _close_gate(self, reason: str) -> None:
        if self._full != reason:
            self._full = reason
            log.warning("requests are refused", reason=reason)
            self._engine.gate(None, reason)

    def _open_gate_if_room(self) -> None:
        if self._full is not None and self._size() <= self._config.queue.max_bytes * (1 - _ROOM):
            self._full = None
            log.info("requests are taken again")
            self._engine.gate(None, None)

    # From the queue to the backends.

    def _dispatch(self, shard: Shard) -> None:
        """Make sure that somebody carries this shard's records."""
        running = self._couriers.get(shard)
        outlet = self._outlets.get(shard.lane.destination)
        if self._closing or outlet is None or (running is not None and not running[1].done()):
            return
        line = self._lines[shard]
        if line.empty:
            return
        courier = Courier(self._queue, line, outlet)
        task = asyncio.create_task(self._carry(courier, line), name=f"courier {shard}")
        self._couriers[shard] = (courier, task)

    async def _carry(self, courier: Courier, line: Line) -> None:
        courier.on_settled = lambda records, deletes: self._settled(line.shard, records, deletes)
        try:
            with suppress(asyncio.CancelledError):
                await courier.run()
        except Exception:
            # A bug must not strand the lane: it is seen in the log, and the lane is tried again after a while.
            log.exception("a courier failed", tenant_id=line.shard.lane.tenant, destination=line.shard.lane.destination)
            asyncio.get_running_loop().call_later(_RESTART_S, self._dispatch, line.shard)

    def _settled(self, shard: Shard, records: list[Stored], deletes: list[int]) -> None:
        """A courier delivered or dropped these."""
        on_disk = set(deletes)
        self._resident -= sum(stored.record.size for stored in records if stored.sequence not in on_disk)
        self._forget(shard, deletes)
        self._open_gate_if_room()
