"""Delivery as a whole: batches from the engine are kept, acknowledged, and carried to their destinations."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import aiohttp
import structlog

from gateway.config.destinations import FileDestination
from gateway.config.models import Config
from gateway.delivery.courier import Courier
from gateway.delivery.dead_letter import DeadLetters
from gateway.delivery.keeper import Gatekeeper, Keeper
from gateway.delivery.line import Line, Stock
from gateway.delivery.outlet import Outlet
from gateway.delivery.pace import Circuit
from gateway.delivery.queue import DurableQueue, QueueError, QueueReadError
from gateway.delivery.record import Part, Record
from gateway.delivery.senders.destinations import open_sender
from gateway.delivery.senders.file import File
from gateway.delivery.steady_clock import CLOCK
from gateway.delivery.workbench import Workbench
from gateway.types import Lane, LaneCounters, PaceStats, QueueDiskStats, QueueStats, Shard, Signal

log = structlog.get_logger(__name__)

# A timer that is due so much later is as good as a new one.
_TIMER_SLACK_S = 0.005
# A shard whose courier failed by a bug is tried again after this.
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


class BatchSource(Gatekeeper, Protocol):
    """What delivery needs of `gateway._engine.Engine`."""

    def event_fd(self) -> int: ...
    def drain(self) -> Sequence[EngineBatch]: ...


class Delivery:
    """Owns the queue, the destinations, and one courier a shard that has something to carry."""

    def __init__(self, config: Config, engine: BatchSource, queue: DurableQueue) -> None:
        self._config = config
        self._engine = engine
        self._queue = queue
        self._stock = Stock()
        self._lines: dict[Shard, Line] = {}
        self._counters: dict[Lane, LaneCounters] = {}
        self._keeper = Keeper(
            config.queue, engine, queue, stock=self._stock, line_of=self._line, has_work=self._dispatch
        )
        self._workbench = Workbench()
        self._outlets: dict[str, Outlet] = {}
        self._couriers: dict[Shard, tuple[Courier, Outlet, asyncio.Task[None]]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._timers: dict[Shard, asyncio.TimerHandle] = {}
        """Of shards that have something, and wait until it is due."""
        self._hurrying = self._closing = False

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
        self._keeper.start()
        asyncio.get_running_loop().add_reader(self._engine.event_fd(), self._take_batches)
        self._dispatch_all()

    async def reconfigure(self, config: Config) -> None:
        """New destinations take over, those that stay as they were go on; somebody may have mended what fails.

        Lanes of a destination that is gone stay queued until it is back. Raises OSError or ValueError, with nothing
        changed, if a destination cannot be opened.
        """
        old, self._outlets = self._outlets, self._open_outlets(config)
        self._config = config
        self._keeper.reconfigure(config.queue)
        leaving = [outlet for name, outlet in old.items() if self._outlets.get(name) is not outlet]
        for outlet in leaving:
            self._retire(outlet)
        for outlet in self._outlets.values():
            outlet.probe_now()
        self._dispatch_all()

    async def drain(self, timeout_s: float) -> int:
        """Deliver what can be delivered, put the rest on disk, close everything.

        Returns how many items are lost, because they were in memory only and the disk did not take them.
        """
        deadline = time.monotonic() + timeout_s
        self._take_batches()
        self._hurrying = True
        self._dispatch_all()
        while time.monotonic() < deadline and self._busy():
            await asyncio.sleep(0.02)
        asyncio.get_running_loop().remove_reader(self._engine.event_fd())
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = [task for _, _, task in self._couriers.values()]
        for task in (*tasks, *self._retired):
            task.cancel()
        await asyncio.gather(*tasks, *self._retired, return_exceptions=True)
        lost = await self._keeper.finish()
        for outlet in self._outlets.values():
            await outlet.sender.close()
        if self._session is not None:
            await self._session.close()
        self._workbench.close()
        self._queue.close()
        return lost

    def _busy(self) -> bool:
        """Something is under way that waiting may finish: a commit, or a shard that is not in vain."""
        if self._keeper.busy:
            return True
        return any(
            outlet.pace(courier.tenant).circuit is Circuit.CLOSED or courier.sending
            for courier, outlet, _ in self._couriers.values()
        )

    def counters(self) -> dict[Lane, LaneCounters]:
        """Of every lane since the start."""
        self._keeper.catch_up()
        oldest: dict[Lane, float] = {}
        for shard, line in self._lines.items():
            if line.oldest_at is not None:
                oldest[shard.lane] = min(line.oldest_at, oldest.get(shard.lane, line.oldest_at))
        for lane, counters in self._counters.items():
            counters.oldest_at = oldest.get(lane)
        return self._counters

    def counters_now(self) -> dict[Lane, LaneCounters]:
        """A copy, which does not change any more."""
        return {lane: counters.copy() for lane, counters in self.counters().items()}

    def queue_stats(self) -> QueueStats:
        return self._keeper.stats()

    def disk_stats(self) -> QueueDiskStats | None:
        """None: the disk cannot be read just now."""
        try:
            return self._queue.disk_stats()
        except QueueReadError:
            return None

    def paces(self) -> Iterator[PaceStats]:
        """Of every tenant that has sent something to a destination."""
        for name, outlet in self._outlets.items():
            for tenant, pace in outlet.paces.items():
                yield PaceStats(tenant, name, pace.circuit is not Circuit.CLOSED, pace.window)

    def _line(self, shard: Shard) -> Line:
        line = self._lines.get(shard)
        if line is None:
            counters = self._counters.setdefault(shard.lane, LaneCounters())
            line = self._lines[shard] = Line(shard, counters, self._stock, next_sequence=self._queue.first_sequence)
        return line

    def _take_batches(self) -> None:
        """The engine has closed batches."""
        arrivals = [
            (
                batch.id,
                Record(
                    Shard(Lane(batch.tenant, batch.destination, Signal(batch.signal)), batch.shard),
                    batch.items,
                    batch.generation,
                    CLOCK.opened_at(batch.opened_at),
                    batch.parts,
                    batch.size,
                ),
            )
            for batch in self._engine.drain()
        ]
        if arrivals:
            self._keeper.take(arrivals)

    # Destinations.

    def _open_outlets(self, config: Config) -> dict[str, Outlet]:
        """Those that nothing changed for stay as they are. Raises OSError or ValueError."""
        assert self._session is not None, "start() opens the session first"  # noqa: S101
        outlets: dict[str, Outlet] = {}
        for name, destination in config.destinations.items():
            present = self._outlets.get(name)
            letters_name = None if isinstance(destination, FileDestination) else destination.dead_letter
            letters = config.destinations[letters_name] if letters_name is not None else None
            if present is not None and (present.config, present.letters_config) == (destination, letters):
                outlets[name] = present
                continue
            sender = open_sender(destination, self._session, self._workbench)
            outlets[name] = Outlet(name, destination, sender, letters_config=letters)
        for outlet in outlets.values():
            letters_name = None if isinstance(outlet.config, FileDestination) else outlet.config.dead_letter
            if outlet.dead_letters is None and letters_name is not None:
                # The one that writes to that file for everybody: two would not wait for each other.
                file = outlets[letters_name].sender
                assert isinstance(file, File), "check() lets no other kind pass"  # noqa: S101
                outlet.dead_letters = DeadLetters(letters_name, file)
        return outlets

    def _retire(self, outlet: Outlet) -> None:
        """Requests under way end as they may; whatever waits goes to who comes after."""
        tasks = []
        for courier, of, task in self._couriers.values():
            if of is outlet:
                courier.stopping = True
                tasks.append(task)
                if not courier.sending:
                    task.cancel()

        async def close() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await outlet.sender.close()
            self._dispatch_all()

        closing = asyncio.create_task(close(), name=f"closing {outlet.name}")
        self._retired.add(closing)
        closing.add_done_callback(self._retired.discard)

    # From the queue to the backends.

    def _dispatch_all(self) -> None:
        """Look at every shard anew: what they waited for may have changed."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for shard in list(self._lines):
            self._dispatch(shard)

    def _dispatch(self, shard: Shard) -> None:
        """Make sure that somebody carries this shard's records as soon as they are due."""
        outlet = self._outlets.get(shard.lane.destination)
        if self._closing or outlet is None or shard in self._couriers:
            return
        line = self._lines[shard]
        if line.empty:
            return
        pause_s, loop = self._pause_s(line, outlet), asyncio.get_running_loop()
        timer = self._timers.get(shard)
        if timer is not None and pause_s > 0 and timer.when() <= loop.time() + pause_s + _TIMER_SLACK_S:
            return
        if timer is not None:
            timer.cancel()
            del self._timers[shard]
        if pause_s > 0:
            self._timers[shard] = loop.call_later(pause_s, self._dispatch_again, shard)
            return
        courier = Courier(
            self._queue,
            self._keeper,
            self._workbench,
            line,
            outlet,
            due=lambda: not line.empty and self._pause_s(line, outlet) == 0,
        )
        task = asyncio.create_task(courier.run(), name=f"courier {shard}")
        task.add_done_callback(partial(self._carried, shard))
        self._couriers[shard] = (courier, outlet, task)

    def _dispatch_again(self, shard: Shard) -> None:
        del self._timers[shard]
        self._dispatch(shard)

    def _pause_s(self, line: Line, outlet: Outlet) -> float:
        """How long a line that is not empty waits: for its tenant's circuit, or for more to send at once."""
        paused_s = outlet.pace(line.shard.lane.tenant).paused_s
        gathers_s = 0.0 if self._hurrying else line.gathers_for_s(self._config.batch, CLOCK.now())
        return max(paused_s, gathers_s)

    def _carried(self, shard: Shard, task: asyncio.Task[None]) -> None:
        """A courier has ended: nothing of its shard is due, or it was told to, or it failed."""
        del self._couriers[shard]
        if task.cancelled():
            # Whoever cancels it, looks after its shard.
            return
        error = task.exception()
        if error is None:
            self._dispatch(shard)
            return
        # A bug must not strand the shard: it is seen in the log, and the shard is tried again after a while.
        lane = shard.lane
        log.error("a courier failed", tenant_id=lane.tenant, destination=lane.destination, exc_info=error)
        self._timers[shard] = asyncio.get_running_loop().call_later(_RESTART_S, self._dispatch_again, shard)
