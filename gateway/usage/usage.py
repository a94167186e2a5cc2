"""Usage while the daemon runs: looked at on a timer, written by a thread of its own, asked by the admin port."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Self, TypeVar

import orjson
import structlog

from gateway.config.models import Usage as UsageConfig
from gateway.types import Lane, LaneCounters, Signal, UsageError, UsageQuery
from gateway.usage.meter import Meter, Readings, joined, read_delivery, read_intake, used_since
from gateway.usage.report import Month, Report, Tariff
from gateway.usage.store import Store

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

# Rows of one answer: a year of a hundred tenants.
MAX_ROWS = 100_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the counters are, all of them counting from the start of the process."""

    snapshot: Callable[[], bytes]
    """Of the engine, JSON; see docs/engine-snapshot.md."""
    lanes: Callable[[], Mapping[Lane, LaneCounters]]
    """Of delivery."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Bytes that a tenant sent of a signal in the present UTC day and month."""

    tenant: str
    signal: Signal
    day_bytes: int
    month_bytes: int


@dataclass(frozen=True, slots=True)
class UsageStats:
    """Today's usage, and how the keeping of it goes."""

    today: Readings
    writable: bool
    write_errors: int


class Recorder:
    """What the thread does: counters to differences to the database. Not for two threads."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._store = store
        self._intake: Readings = {}
        self._delivery: Readings = {}
        self._began = now
        """When the interval that is being counted began; its day gets all of it."""
        self.day = now.date()
        self.today: Readings = {row.meter: row.amounts for row in store.rows(UsageQuery(None, self.day, self.day))}

    def record(self, now: datetime, snapshot: bytes, delivered_bytes: list[tuple[Lane, int]]) -> None:
        """Add what came since the last call. Raises sqlite3.Error; the next call then makes up for it."""
        day = self._began.date()
        intake, delivery = read_intake(orjson.loads(snapshot)), read_delivery(delivered_bytes)
        used = joined(used_since(intake, self._intake), used_since(delivery, self._delivery))
        if used:
            self._store.add(day, used)
        # Only now: what a failed commit did not keep is in the next difference.
        self._intake, self._delivery = intake, delivery
        self.today = joined(self.today, used) if day == self.day else used
        self.day, self._began = day, now

    def volumes(self, now: datetime) -> list[Volume]:
        today, month = now.date(), now.date().replace(day=1)
        volumes: dict[Meter, tuple[int, int]] = {}
        for row in self._store.rows(UsageQuery(None, month, today)):
            of_day, of_month = volumes.get(row.meter, (0, 0))
            came = row.amounts.bytes_in
            volumes[row.meter] = (of_day + came if row.day == today else of_day, of_month + came)
        return [Volume(meter.tenant, meter.signal, *used) for meter, used in volumes.items()]

    def forget_before(self, day: date) -> None:
        self._store.forget_before(day)

    def report(self, query: UsageQuery, tariff: Tariff, now: datetime) -> Report:
        """Raises ValueError if it would be too large."""
        return make_report(self._store, query, tariff, now)

    def close(self) -> None:
        self._store.close()


def make_report(store: Store, query: UsageQuery, tariff: Tariff, now: datetime) -> Report:
    """Raises ValueError if it would be too large, sqlite3.Error if the database cannot be read."""
    rows = store.rows(query, most=MAX_ROWS + 1)
    if len(rows) > MAX_ROWS:
        raise ValueError(f"that is more than {MAX_ROWS} rows; ask for fewer days, or for one tenant")
    month = Month.at(now)
    month_rows = store.rows(UsageQuery(query.tenant, month.first, now.date()))
    return Report.of(query, rows, month=month, month_rows=month_rows, first_days=store.first_days(), tariff=tariff)


def tariff_of(config: UsageConfig) -> Tariff:
    return Tariff(config.prices, config.currency)


class Usage:
    """The usage of one daemon. Without a `usage` section nothing is kept, and there is nothing to report."""

    def __init__(
        self,
        config: UsageConfig | None,
        sources: Sources,
        recorder: Recorder | None,
        thread: ThreadPoolExecutor,
        now: Callable[[], datetime],
    ) -> None:
        self._config = config
        self._sources = sources
        self._recorder = recorder
        self._thread = thread
        self._now = now
        self._looked_at = now()
        self._pruned: date | None = None
        self._errors = 0
        self._failing = False
        self._lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, config: UsageConfig | None, sources: Sources, *, now: Callable[[], datetime] = _utc_now
    ) -> Self:
        """Open the database and start the timer. Raises UsageError."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="usage")
        if config is None:
            return cls(None, sources, None, thread, now)

        def prepare() -> Recorder:
            return Recorder(Store.open(config.path), now())

        try:
            recorder = await asyncio.get_running_loop().run_in_executor(thread, prepare)
        except (UsageError, sqlite3.Error) as error:
            thread.shutdown()
            raise UsageError(str(error)) from None
        usage = cls(config, sources, recorder, thread, now)
        usage._timer = asyncio.create_task(usage._run(), name="usage")
        return usage

    @property
    def kept(self) -> bool:
        """Whether there is anything to ask for."""
        return self._recorder is not None

    def reconfigure(self, config: UsageConfig | None) -> UsageConfig | None:
        """New prices and bounds; the database and the interval stay until the next start. Returns what is in force."""
        if config is not None and self._config is not None:
            self._config = config.model_copy(update={"path": self._config.path, "interval": self._config.interval})
        return self._config

    async def report(self, query: UsageQuery) -> Report:
        """Up to now, and not only to the last interval. Raises ValueError, UsageError."""
        if self._recorder is None or self._config is None:
            raise UsageError("usage is not kept; add usage.path to the configuration")
        await self.record()
        work = partial(self._recorder.report, query, tariff_of(self._config), self._now())
        try:
            return await self._in_thread(work)
        except sqlite3.Error as error:
            raise UsageError(f"the usage database cannot be read: {error}") from None

    async def volumes(self) -> list[Volume]:
        """What was let in today and this month by those who were here before. Raises UsageError."""
        if self._recorder is None:
            return []
        try:
            return await self._in_thread(partial(self._recorder.volumes, self._now()))
        except sqlite3.Error as error:
            raise UsageError(f"the usage database cannot be read: {error}") from None

    def stats(self) -> UsageStats | None:
        if self._recorder is None:
            return None
        # Until the first interval of a day has passed, what the recorder has is yesterday's.
        today = self._recorder.today if self._recorder.day == self._now().date() else {}
        return UsageStats(dict(today), not self._failing, self._errors)

    async def close(self) -> None:
        """Keep what came since the last interval."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        if self._recorder is not None:
            await self.record()
            with suppress(sqlite3.Error):
                await self._in_thread(self._recorder.close)
        self._thread.shutdown()

    async def record(self) -> None:
        """Look at the counters and keep what came since. An error is logged and made up for by the next call."""
        if self._recorder is None or self._config is None:
            return
        async with self._lock:
            now = self._looked_at = self._now()
            delivered = [(lane, counters.delivered_bytes) for lane, counters in self._sources.lanes().items()]
            work = partial(self._recorder.record, now, self._sources.snapshot(), delivered)
            try:
                await self._in_thread(work)
                if self._pruned != now.date():
                    oldest = now.date() - timedelta(days=self._config.keep_days - 1)
                    await self._in_thread(partial(self._recorder.forget_before, oldest))
                    self._pruned = now.date()
            except sqlite3.Error as error:
                self._errors += 1
                if not self._failing:
                    self._failing = True
                    log.error("usage cannot be written; it is kept in memory until it can", error=str(error))
                return
            except Exception:
                # A bug must not end the timer for ever; it is seen in the log and on /_metrics.
                self._errors += 1
                log.exception("usage could not be counted")
                return
            if self._failing:
                self._failing = False
                log.info("usage is written again")

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # What has begun is finished, whoever stops waiting for it.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._until_next())
            await self.record()

    def _until_next(self) -> float:
        """One interval, or to the midnight in it, so that an interval is of one day."""
        assert self._config is not None, "only a kept usage has a timer"  # noqa: S101
        last = self._looked_at
        midnight = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
        due = min(last + timedelta(seconds=self._config.interval), midnight)
        # Never longer than an interval, wherever somebody sets the clock.
        return min(self._config.interval, max(0.0, (due - self._now()).total_seconds()) + 0.001)
