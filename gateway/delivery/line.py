"""One shard's line: oldest records on disk only, newer ones also in memory, always in order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateway.config.models import Batch as BatchConfig
from gateway.delivery.queue import Backlog, DurableQueue, Stored
from gateway.delivery.record import CorruptRecordError, KeyDeletedError, Record
from gateway.types import LaneCounters, Shard


@dataclass(slots=True)
class Stock:
    """What all lines hold together, in bytes of payload."""

    size: int = 0
    of_tenant: dict[str, int] = field(default_factory=dict)
    resident: int = 0
    """In memory."""
    unsaved: int = 0
    """In memory, and not on disk."""

    def add(self, tenant: str, size: int) -> None:
        self.size += size
        self.of_tenant[tenant] = self.of_tenant.get(tenant, 0) + size


@dataclass(slots=True)
class CorruptHead:
    """The oldest record of a shard cannot be read."""

    sequence: int
    size: int
    items: int | None
    """None: its header cannot be read either."""
    key_deleted: bool
    """It is whole, but nobody has the key to it any more."""


@dataclass(slots=True)
class Line:
    """What is on disk only is older than what is in memory, and what is on disk older than what is not.

    Sequences never repeat. `counters` are the lane's, which its shards share, and `stock` is that of all lines.
    """

    shard: Shard
    counters: LaneCounters
    stock: Stock
    cold: int = 0
    """How many records are on disk only."""
    recent: list[Stored] = field(default_factory=list)
    """Records whose payload is in memory: the end of the line. No deque, which takes 600 bytes when it is empty."""
    saved_until: int = 0
    """Recent records before this sequence are on disk as well."""
    head_sequence: int = 0
    """No record of the line is older."""
    next_sequence: int = 0
    max_request_bytes: int | None = None
    """Requests that were larger were too large for the backend."""
    drops_unsaid: int = 0
    """Items that were dropped since the log said so."""
    say_drops_at: float = 0.0
    """When the log may say so again, monotonic seconds."""
    items: int = 0
    size: int = 0
    oldest_at: float | None = None
    """About when the oldest record was opened, Unix seconds."""

    def resume(self, backlog: Backlog) -> None:
        """What a former run left on disk."""
        self.cold = backlog.records
        self.next_sequence = self.saved_until = backlog.next_sequence
        self.counters.resumed += backlog.items
        self.counters.maybe_delivered += backlog.maybe_delivered
        self.oldest_at = backlog.oldest_at
        self._add(backlog.items, backlog.size)

    def assign(self, record: Record) -> Stored:
        """A place at the end of the line."""
        stored = Stored(self.next_sequence, record)
        self.next_sequence += 1
        return stored

    def take_saved(self, stored: Stored, *, keep: bool) -> None:
        """A batch of the engine, which is on disk, stands in line from now on; if `keep`, in memory as well."""
        self.saved_until = stored.sequence + 1
        self._take(stored)
        if keep:
            self.recent.append(stored)
            self.stock.resident += stored.record.size
        else:
            self.cool()
            self.cold += 1

    def take_unsaved(self, stored: Stored) -> None:
        """A batch of the engine, which is in memory only, stands in line from now on."""
        self._take(stored)
        self.recent.append(stored)
        self.stock.resident += stored.record.size
        self.stock.unsaved += stored.record.size

    def _take(self, stored: Stored) -> None:
        self.counters.taken += stored.record.items
        if self.oldest_at is None:
            self.oldest_at = stored.record.opened_at
        self._add(stored.record.items, stored.record.size)

    def _add(self, items: int, size: int) -> None:
        self.items += items
        self.size += size
        self.counters.queued += items
        self.counters.queued_bytes += size
        self.stock.add(self.shard.lane.tenant, size)

    def gathers_for_s(self, batch: BatchConfig, now: float) -> float:
        """How long it may wait for more, so that few requests carry much: as long as a batch in the engine."""
        full = self.size >= batch.max_bytes or self.items >= batch.max_items
        if self.cold or full or self.oldest_at is None:
            return 0.0
        return min(batch.max_age, max(0.0, self.oldest_at + batch.max_age - now))

    @property
    def empty(self) -> bool:
        return not self.cold and not self.recent

    @property
    def unsaved(self) -> list[Stored]:
        """What is in memory only."""
        return [stored for stored in self.recent if stored.sequence >= self.saved_until]

    def cool(self) -> None:
        """Forget the payloads that are on disk as well."""
        self._leave_memory(len(self.recent) - len(self.unsaved), cold=True)

    def _leave_memory(self, count: int, *, cold: bool = False) -> None:
        """The first of those in memory are there no more; `cold`: they are still on disk."""
        self.stock.resident -= sum(stored.record.size for stored in self.recent[:count])
        del self.recent[:count]
        self.cold += count if cold else 0

    def saved(self, written: Sequence[Stored]) -> list[int]:
        """These, all that were unsaved, are on disk now; the sequences of those that were settled meanwhile."""
        gone = [stored for stored in written if stored.sequence < self.head_sequence]
        self.stock.unsaved -= sum(stored.record.size for stored in written[len(gone) :])
        self.saved_until = written[-1].sequence + 1
        return [stored.sequence for stored in gone]

    def next_from_memory(self, max_bytes: int) -> list[Stored]:
        """If none is on disk only: the oldest records that fit into one request, at least one if there is any."""
        return list(_fitting(self.recent, max_bytes))

    def next_from_disk(self, queue: DurableQueue, max_bytes: int) -> list[Stored] | CorruptHead:
        """The same, read from disk; none if there is no such record, against expectation. Raises QueueReadError."""
        records: list[Stored] = []
        for found in queue.read(self.shard, self.head_sequence, max_bytes):
            if isinstance(found, CorruptRecordError):
                _, sequence, size = found.args
                return records or CorruptHead(sequence, size, found.items, isinstance(found, KeyDeletedError))
            if found.sequence >= self.saved_until:
                # Of a commit that failed, but reached the disk: it does not stand in line.
                break
            records.append(found)
        return records

    def settle(self, records: Sequence[Stored]) -> list[int]:
        """The oldest records are delivered or dropped; the sequences of those to delete from disk."""
        were_cold = min(self.cold, len(records))
        self.cold -= were_cold
        self._leave_memory(len(records) - were_cold)
        deleted = []
        for stored in records:
            size = stored.record.size
            if stored.sequence < self.saved_until:
                deleted.append(stored.sequence)
            else:
                self.stock.unsaved -= size
            self.head_sequence = stored.sequence + 1
            self._add(-stored.record.items, -size)
            self.oldest_at = None if self.empty else (stored if self.cold else self.recent[0]).record.opened_at
        return deleted

    def lose_head(self, corrupt: CorruptHead) -> int:
        """The oldest record is corrupt and was set aside; how many items it is counted as."""
        self.cold -= 1
        self.head_sequence = corrupt.sequence + 1
        items = self.items if self.empty else min(1 if corrupt.items is None else corrupt.items, self.items)
        self._add(-items, -min(corrupt.size, self.size))
        return items

    def lose_unsaved(self) -> int:
        """What is in memory only cannot be written; how many items it is."""
        lost = self.unsaved
        for stored in lost:
            self.recent.pop()
            self.stock.resident -= stored.record.size
            self.stock.unsaved -= stored.record.size
            self._add(-stored.record.items, -stored.record.size)
        return sum(stored.record.items for stored in lost)

    def lose_missing(self) -> int:
        """The disk has none of the records that it should have; how many items they were."""
        items = self.items - sum(stored.record.items for stored in self.recent)
        self._add(-items, -(self.size - sum(stored.record.size for stored in self.recent)))
        self.cold = 0
        return items


def _fitting(records: Iterable[Stored], max_bytes: int) -> Iterator[Stored]:
    total = 0
    for stored in records:
        total += stored.record.size
        if total > max_bytes and total > stored.record.size:
            return
        yield stored
