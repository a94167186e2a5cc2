"""Carries one shard's records to its destination: in order, one request at a time, again until it is settled."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

from gateway.delivery.dead_letter import Letter
from gateway.delivery.keeper import Keeper
from gateway.delivery.line import CorruptHead, Line
from gateway.delivery.outlet import Outlet
from gateway.delivery.piece import Piece, Tally
from gateway.delivery.queue import DurableQueue, QueueReadError, QueueWriteError, Stored
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge
from gateway.delivery.steady_clock import CLOCK
from gateway.delivery.workbench import Workbench
from gateway.types import DELIVERY_DURATION_BOUNDS_S

log = structlog.get_logger(__name__)

# How many refusals are spent on one request to find what is at fault: each halving of a thousand items costs ten.
MAX_REFUSALS = 128
# A request that was too large is not tried at that size again; at this one it always is.
_SMALLEST_REQUEST_BYTES = 16 << 10
# Shards of one destination whose refused request waits in pieces, in memory, while the backend does not answer.
_MAX_TAKING_APART = 8
# A line in the log for all that a shard drops in so long.
_SAY_DROPS_S = 10.0
# How long a lane rests when what it must write does not go to disk.
_DISK_RETRY_S = 1.0


class Courier:
    """Delivers one shard as long as something of it is due."""

    def __init__(
        self,
        queue: DurableQueue,
        keeper: Keeper,
        workbench: Workbench,
        line: Line,
        outlet: Outlet,
        *,
        due: Callable[[], bool],
    ) -> None:
        """`due`: whether the line has something to send now."""
        self._queue, self._keeper, self._workbench = queue, keeper, workbench
        self._line, self._outlet = line, outlet
        self._due = due
        self._lane = line.shard.lane
        self._pace = outlet.pace(self._lane.tenant)
        self._pieces: deque[Piece] = deque()
        """What is left of a request that was refused, in order."""
        self._refusals_left = 0
        self._tally = Tally()
        """Of the record whose fragments are being sent."""
        self.sending = False
        """A request is under way: whoever cancels now delivers it twice."""
        self.stopping = False

    @property
    def tenant(self) -> str:
        return self._lane.tenant

    @property
    def _max_bytes(self) -> int:
        return min(self._outlet.max_request_bytes, self._line.max_request_bytes or self._outlet.max_request_bytes)

    async def run(self) -> None:
        """Returns when nothing is due, or when it was told to stop: thousands of lanes that wait are no tasks."""
        try:
            while not self.stopping and (self._pieces or self._due()):
                try:
                    await self._once()
                except QueueReadError as error:
                    log.error("the queue cannot be read", error=str(error), **self._lane.in_log())
                    await asyncio.sleep(_DISK_RETRY_S)
        finally:
            self._outlet.taking_apart.discard(self)

    async def _once(self) -> None:
        """One request, from its turn to what became of it. Nothing of it stays in memory while the next one waits."""
        async with self._pace.turn() as turn:
            if self.stopping:
                return
            size = self._pieces[0].size if self._pieces else min(self._line.size, self._max_bytes)
            async with self._outlet.slots.turn(self._lane.tenant, size, probe=turn.probe):
                found = await self._next()
                if isinstance(found, Piece) and not self._too_old(found):
                    turn.outcome = await self._send(found)
        match found, turn.outcome:
            case CorruptHead(), _:
                await self._set_aside(found)
            case None, _:
                self._count_missing()
            case Piece(), None:
                await self._drop(found, "too_old", "")
            case Piece(), outcome:
                await self._act(found, outcome)

    # What to send.

    async def _next(self) -> Piece | CorruptHead | None:
        """The next request. None: the disk has no record, against expectation."""
        if self._pieces:
            return self._pieces.popleft()
        found = await self._oldest()
        if isinstance(found, CorruptHead):
            return found
        self._refusals_left = MAX_REFUSALS
        if found and self._too_old(Piece(found)):
            return Piece(found[:1])
        return Piece(found) if found else None

    async def _oldest(self) -> list[Stored] | CorruptHead:
        if not self._line.cold:
            return self._line.next_from_memory(self._max_bytes)
        size = min(self._line.size, self._max_bytes)
        return await self._workbench.run(
            self._lane.tenant, size, self._line.next_from_disk, self._queue, self._max_bytes
        )

    def _too_old(self, piece: Piece) -> bool:
        """By its first record."""
        max_age = self._outlet.retry.max_age
        return max_age is not None and CLOCK.now() - piece.records[0].record.opened_at > max_age

    def _count_missing(self) -> None:
        """The count and the disk disagree: nothing is left to send, so nothing is queued."""
        log.error("queue records are missing", **self._lane.in_log())
        self._line.counters.drop("missing_record", self._line.lose_missing())

    async def _set_aside(self, corrupt: CorruptHead) -> None:
        """A corrupt record is kept where nothing reads it, counted, and the rest goes on."""
        if corrupt.key_deleted:
            self._line.counters.drop("key_deleted", self._line.lose_head(corrupt))
            self._keeper.forget(self._line.shard, [corrupt.sequence])
            return
        try:
            await self._keeper.in_thread(partial(self._queue.quarantine, self._line.shard, corrupt.sequence))
        except QueueWriteError as error:
            log.error("a corrupt record cannot be set aside", error=str(error), **self._lane.in_log())
            await asyncio.sleep(_DISK_RETRY_S)
            return
        self._line.counters.drop("corrupt_record", self._line.lose_head(corrupt))
        log.error("a queue record is corrupt; it is set aside", **self._lane.in_log())

    async def _send(self, piece: Piece) -> Outcome:
        started = time.monotonic()
        self._queue.progress.under_way(self._line.shard, piece.records[-1].sequence + 1)
        self.sending = True
        try:
            return await self._outlet.sender.send(self._lane, piece.parts)
        finally:
            self.sending = False
            self._observe(time.monotonic() - started)

    # What became of it.

    async def _act(self, piece: Piece, outcome: Outcome) -> None:
        counters = self._line.counters
        counters.up = not isinstance(outcome, Retry | Held)
        self._note(outcome)
        match outcome:
            case Delivered(rejected, reason):
                self._delivered(piece, rejected, reason)
            case Retry() | Held():
                counters.retries += 1
                self._try_again(piece)
            case TooLarge(reason):
                self._line.max_request_bytes = max(_SMALLEST_REQUEST_BYTES, min(self._max_bytes, piece.size // 2))
                await self._take_apart(piece, reason, outcome.detail)
            case Refused(reason, divisible=True):
                await self._take_apart(piece, reason, outcome.detail)
            case Refused(reason):
                await self._drop(piece, reason, outcome.detail)

    def _try_again(self, piece: Piece) -> None:
        """What is whole is read again. Only pieces of a refused request wait in memory, and only for a few shards."""
        if self in self._outlet.taking_apart:
            if len(self._outlet.taking_apart) <= _MAX_TAKING_APART:
                self._pieces.appendleft(piece)
                return
            # All of it is sent again: what was delivered of it is delivered twice, and counted once.
            self._pieces.clear()
            self._tally = Tally()
            self._outlet.taking_apart.discard(self)
        self._line.cool()

    async def _take_apart(self, piece: Piece, reason: str, detail: str) -> None:
        """Halves, so that in the end only what is at fault is lost."""
        halves = None
        if self._refusals_left > 0:
            self._refusals_left -= 1
            try:
                halves = await self._workbench.run(
                    self._lane.tenant, piece.size, piece.halves, self._outlet.halve(self._lane.signal)
                )
            except ValueError as error:
                log.warning("a refused request cannot be taken apart", error=str(error), **self._lane.in_log())
        if halves is None:
            await self._drop(piece, reason, detail)
        else:
            self._outlet.taking_apart.add(self)
            self._pieces.extendleft(reversed(halves))

    def _delivered(self, piece: Piece, rejected: int, reason: str) -> None:
        rejected = min(rejected, piece.items)
        self._line.counters.delivered_bytes += piece.size
        self._tally.delivered += piece.items - rejected
        self._tally.drop(reason, rejected)
        self._settle_if_whole(piece)

    async def _drop(self, piece: Piece, reason: str, detail: str) -> None:
        """Give up a piece: it goes to the dead letters, if there are any, and is counted."""
        self._say_dropped(piece.items, reason, detail)
        if self._outlet.dead_letters is not None:
            letter = Letter(self._lane, self._outlet.format, reason, piece.items, time.time(), tuple(piece.parts))
            while not await self._outlet.dead_letters.keep(letter):
                await asyncio.sleep(_DISK_RETRY_S)
        self._tally.drop(reason, piece.items)
        self._settle_if_whole(piece)

    def _say_dropped(self, items: int, reason: str, detail: str) -> None:
        """Not of every item: a backend may refuse thousands one by one."""
        line, now = self._line, time.monotonic()
        line.drops_unsaid += items
        if now >= line.say_drops_at:
            log.warning(
                "items are dropped", items=line.drops_unsaid, reason=reason, detail=detail, **self._lane.in_log()
            )
            line.drops_unsaid, line.say_drops_at = 0, now + _SAY_DROPS_S

    def _settle_if_whole(self, piece: Piece) -> None:
        """Records are counted, and leave the queue, when nothing of them is left to send."""
        if not self._pieces:
            self._outlet.taking_apart.discard(self)
        if not piece.ends_record:
            return
        counters, tally = self._line.counters, self._tally
        self._tally = Tally()
        counters.delivered += tally.delivered
        for reason, items in tally.dropped.items():
            counters.drop(reason, items)
        self._keeper.forget(self._line.shard, self._line.settle(piece.records))
        self._queue.progress.settled(self._line.shard, self._line.head_sequence)

    def _note(self, outcome: Outcome) -> None:
        """One line when a lane starts to fail, fails otherwise, or recovers."""
        counters = self._line.counters
        match outcome:
            case Delivered():
                reason, detail = None, ""
            case Retry(reason) | Held(reason) | TooLarge(reason) | Refused(reason):
                detail = outcome.detail
        if reason == counters.failing:
            return
        counters.failing = reason
        if reason is None:
            log.info("delivery goes on", **self._lane.in_log())
        elif isinstance(outcome, Held):
            log.error(
                "the backend refuses us; data waits until its credential, path or address is mended",
                reason=reason,
                detail=detail,
                **self._lane.in_log(),
            )
        else:
            log.warning("delivery fails", reason=reason, detail=detail, **self._lane.in_log())

    def _observe(self, seconds: float) -> None:
        counters = self._line.counters
        if not counters.duration_buckets:
            counters.duration_buckets = [0] * (len(DELIVERY_DURATION_BOUNDS_S) + 1)
        bucket = next((i for i, bound in enumerate(DELIVERY_DURATION_BOUNDS_S) if seconds <= bound), -1)
        counters.duration_buckets[bucket] += 1
        counters.duration_sum_s += seconds
        counters.duration_count += 1
