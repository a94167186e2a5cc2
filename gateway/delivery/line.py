"""One shard's line: oldest records on disk, newer ones perhaps still in memory, always in order."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.delivery.queue import Backlog, DurableQueue, Stored
from gateway.delivery.record import CorruptRecordError, Record
from gateway.types import LaneCounters, Shard


@dataclass(slots=True)
class CorruptHead:
    """The oldest record of a shard cannot be read."""

    sequence: int
    size: int


@dataclass(slots=True)
class Line:
    """Everything on disk is older than everything in memory; sequences never repeat."""

    shard: Shard
    counters: LaneCounters
    """Of the lane, which the shards share."""
    on_disk: int = 0
    """How many records are on disk."""
    in_memory: deque[Stored] = field(default_factory=deque)
    head_sequence: int = 0
    """No record on disk is older."""
    next_sequence: int = 0
    oldest_at: float | None = None
    """About when the oldest record was opened, Unix seconds."""

    def resume(self, backlog: Backlog) -> None:
        """What a former run left on disk."""
        self.on_disk = backlog.records
        self.next_sequence = backlog.next_sequence
        self.counters.resumed += backlog.items
        self.counters.queued += backlog.items
        self.counters.queued_bytes += backlog.size
        self.oldest_at = backlog.oldest_at

    def assign(self, record: Record) -> Stored:
        """A place at the end of the line."""
        stored = Stored(self.next_sequence, record)
        self.next_sequence += 1
        return stored

    def take(self, stored: Stored, *, on_disk: bool) -> None:
        """A batch of the engine stands in line from now on."""
        if on_disk:
            self.on_disk += 1
        else:
            self.in_memory.append(stored)
        counters = self.counters
        counters.taken += stored.record.items
        counters.queued += stored.record.items
        counters.queued_bytes += stored.record.size
        if self.oldest_at is None:
            self.oldest_at = stored.record.opened_at

    @property
    def empty(self) -> bool:
        return not self.on_disk and not self.in_memory

    def peek(self, queue: DurableQueue, max_bytes: int) -> list[Stored] | CorruptHead:
        """The oldest records that fit into one request; at least one, if there is any."""
        if not self.on_disk:
            return list(_fitting(self.in_memory, max_bytes))
        records: list[Stored] = []
        for found in queue.read(self.shard, self.head_sequence, max_bytes):
            if isinstance(found, CorruptRecordError):
                _, sequence, size = found.args
                return records or CorruptHead(sequence, size)
            records.append(found)
        return records

    def moved_to_disk(self, spilled: Iterable[Stored]) -> list[int]:
        """These were written; the sequences of those that were settled meanwhile, and are to be deleted again."""
        settled = []
        for stored in spilled:
            if self.in_memory and self.in_memory[0].sequence == stored.sequence:
                self.in_memory.popleft()
                self.on_disk += 1
            else:
                settled.append(stored.sequence)
        return settled

    def settle(self, records: Iterable[Stored]) -> list[int]:
        """These are delivered or dropped; the sequences of those to delete from disk."""
        deleted = []
        for stored in records:
            if self.in_memory and self.in_memory[0].sequence == stored.sequence:
                self.in_memory.popleft()
            else:
                self.on_disk -= 1
                deleted.append(stored.sequence)
                self.head_sequence = stored.sequence + 1
            self.counters.queued -= stored.record.items
            self.counters.queued_bytes -= stored.record.size
            self.oldest_at = None if self.empty else stored.record.opened_at
        return deleted


def _fitting(records: Iterable[Stored], max_bytes: int) -> Iterable[Stored]:
    total = 0
    for stored in records:
        total += stored.record.size
        if total > max_bytes and total > stored.record.size:
            return
        yield stored
