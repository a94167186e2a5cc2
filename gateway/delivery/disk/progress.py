"""What a run leaves for the next, however it ends: how far each shard was delivered, and what was going on.

One small file that is mapped into memory: what is written to it survives a kill -9 without any call of the system, and
a power failure if the kernel had written it out. It is advice, never the truth: a mark is believed only if its checksum
holds, it is of exactly this shard, and the file belongs to this queue. Each slot has two halves, written in turn, so
that there is always one that is whole.

    header, 128 bytes:  magic | version | identity | epoch | CRC-32 |…| committing … damaged |…| last commit
    a slot, 80 bytes:   two of  BLAKE2b-128 of the shard | settled | under way | turn | CRC-32
"""

import hashlib
import itertools
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.delivery.disk.keys import shard_prefix
from gateway.delivery.disk.sealing import sync_folder
from gateway.types import Shard

log = structlog.get_logger(__name__)

FILE_NAME = "progress"
IDENTITY_BYTES = 16
_MAGIC = b"TGWPROG\x1a"
_VERSION = 1
_HEADER = struct.Struct("<8sI16sQ")
_CRC = struct.Struct("<I")
_COMMITTING, _READING, _STRIKES, _LONG, _DAMAGED = 64, 65, 66, 67, 68
_TRANSACTION = struct.Struct("<Q")
_TRANSACTION_PLACE = 80
_HEADER_BYTES = 128
_SLOT = struct.Struct("<16sQQI")
_HALF_BYTES = _SLOT.size + _CRC.size
_SLOT_BYTES = 2 * _HALF_BYTES
_FIRST_SLOTS, MAX_SLOTS = 256, 65_536
# A run that ended in a call of LMDB after less than this, and fewer commits, may have been ended by it.
SHORT_RUN_S, SHORT_RUN_COMMITS = 60.0, 16


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a shard was: all below `settled` was delivered or dropped, what follows below `under_way` perhaps."""

    settled: int
    under_way: int


NO_MARK = Mark(0, 0)


@dataclass(frozen=True, slots=True)
class FormerRun:
    """What the last run left."""

    identity: bytes = b""
    """Of the queue it belongs to; empty: nothing was left, or nothing that can be believed."""
    epoch: int = 0
    transaction: int = 0
    """LMDB's number of the last commit; 0: not known."""
    strikes: int = 0
    """How many runs in a row ended early and within a call of LMDB."""
    damaged: bool = False
    """Whether LMDB itself found the file damaged."""
    marks: dict[bytes, Mark] = field(default_factory=dict)
    """By `shard_hash`."""

    def mark(self, shard: Shard) -> Mark:
        return self.marks.get(shard_hash(shard), NO_MARK)


def shard_hash(shard: Shard) -> bytes:
    return hashlib.blake2b(shard_prefix(shard), digest_size=16).digest()


def read_former_run(folder: Path) -> FormerRun:
    """Whatever can be believed of what was left; never raises for what the file holds. Raises OSError."""
    try:
        raw = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return FormerRun()
    if len(raw) < _HEADER_BYTES:
        return FormerRun()
    magic, version, identity, epoch = _HEADER.unpack_from(raw)
    (crc32,) = _CRC.unpack_from(raw, _HEADER.size)
    if (magic, version) != (_MAGIC, _VERSION) or zlib.crc32(raw[: _HEADER.size]) != crc32:
        return FormerRun()
    (transaction,) = _TRANSACTION.unpack_from(raw, _TRANSACTION_PLACE)
    ended_in_lmdb = bool(raw[_COMMITTING] or raw[_READING])
    strikes = raw[_STRIKES] + 1 if ended_in_lmdb and not raw[_LONG] else 0
    marks: dict[bytes, tuple[int, Mark]] = {}
    for place in range(_HEADER_BYTES, len(raw) - _SLOT_BYTES + 1, _SLOT_BYTES):
        for half in (place, place + _HALF_BYTES):
            name, settled, under_way, turn = _SLOT.unpack_from(raw, half)
            (crc32,) = _CRC.unpack_from(raw, half + _SLOT.size)
            if zlib.crc32(raw[half : half + _SLOT.size], zlib.crc32(identity)) != crc32:
                continue
            known = marks.get(name)
            if known is None or _is_later(turn, known[0]):
                marks[name] = turn, Mark(settled, under_way)
    by_name = {name: mark for name, (_, mark) in marks.items()}
    return FormerRun(identity, epoch, transaction, strikes, bool(raw[_DAMAGED]), by_name)


def _is_later(turn: int, other: int) -> bool:
    return 0 < (turn - other) % (1 << 32) < 1 << 31


def _marks_to_keep(waiting: Iterable[Shard], former: FormerRun) -> dict[bytes, Mark]:
    kept = {shard_hash(shard): former.mark(shard) for shard in itertools.islice(waiting, MAX_SLOTS)}
    others = sorted(
        ((name, mark) for name, mark in former.marks.items() if name not in kept),
        key=lambda other: other[1].settled,
        reverse=True,
    )
    return kept | dict(others[: max(0, MAX_SLOTS // 2 - len(kept))])


@dataclass(slots=True)
class _Slot:
    name: bytes
    place: int
    settled: int = 0
    under_way: int = 0
    turn: int = 0


class Progress:
    """The file of this run. `committing` and `committed` are for the thread of commits, the rest for another one."""

    def __init__(
        self, folder: Path, identity: bytes, epoch: int, *, strikes: int, waiting: Iterable[Shard], former: FormerRun
    ) -> None:
        """Write the file anew, with the marks that still matter; if the disk refuses, they are in memory only.

        `waiting` are the shards that have records. Marks of others are kept, the newest first, as far as that leaves
        room: if the file is ever damaged, they tell what free pages keep from what waits.
        """
        self._seed = zlib.crc32(identity)
        self._by_shard: dict[Shard, _Slot] = {}
        self.untracked = 0
        """Shards that came when all slots were taken."""
        self._by_name: dict[bytes, _Slot] = {}
        kept = _marks_to_keep(waiting, former)
        self._slots = _FIRST_SLOTS
        while self._slots < len(kept):
            self._slots *= 2
        self._long_at = time.monotonic() + SHORT_RUN_S
        self._commits = 0
        self._descriptor: int | None = None
        new = folder / f"{FILE_NAME}.new"
        try:
            new.unlink(missing_ok=True)
            self._descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._map = self._mapped()
            self._write_all(identity, epoch, strikes, kept)
            os.fsync(self._descriptor)
            new.replace(folder / FILE_NAME)
            sync_folder(folder)
        except OSError as error:
            # The former file stays: its marks still hold. A full disk must not keep the backlog from being delivered.
            log.warning("progress is not kept: a crash would duplicate more", error=error.strerror)
            self._close_file()
            self._map = self._mapped()
            self._write_all(identity, epoch, strikes, kept)

    @property
    def kept(self) -> bool:
        """Whether the next run will find it."""
        return self._descriptor is not None

    def _write_all(self, identity: bytes, epoch: int, strikes: int, marks: dict[bytes, Mark]) -> None:
        header = _HEADER.pack(_MAGIC, _VERSION, identity, epoch)
        self._map[: _HEADER.size] = header
        _CRC.pack_into(self._map, _HEADER.size, zlib.crc32(header))
        self._map[_STRIKES] = min(strikes, 255)
        self._by_name.clear()
        for name, mark in marks.items():
            slot = self._by_name[name] = _Slot(name, self._place(), mark.settled, mark.under_way)
            self._write(slot)

    def settled(self, shard: Shard, next_sequence: int) -> None:
        """All records of the shard below `next_sequence` were delivered or dropped."""
        slot = self._by_shard.get(shard) or self._new_slot(shard)
        if slot is not None:
            slot.settled = next_sequence
            self._write(slot)

    def under_way(self, shard: Shard, up_to_sequence: int) -> None:
        """Records below `up_to_sequence` were, or are just now, sent."""
        slot = self._by_shard.get(shard) or self._new_slot(shard)
        if slot is not None and up_to_sequence > slot.under_way:
            slot.under_way = up_to_sequence
            self._write(slot)

    def mark(self, shard: Shard) -> Mark:
        slot = self._by_name.get(shard_hash(shard))
        return NO_MARK if slot is None else Mark(slot.settled, slot.under_way)

    def committing(self, whether: bool) -> None:
        """Of the thread of commits: whether it is inside of LMDB."""
        self._map[_COMMITTING] = whether
        self._commits += whether
        if self._commits > SHORT_RUN_COMMITS or time.monotonic() > self._long_at:
            self._map[_LONG] = 1

    def reading(self, whether: bool) -> None:
        self._map[_READING] = whether

    def found_damaged(self) -> None:
        """LMDB says that the file is damaged: the next start makes it anew, however sound it looks."""
        self._map[_DAMAGED] = 1

    def committed(self, transaction: int) -> None:
        """LMDB's number of the last commit; 0: not known."""
        _TRANSACTION.pack_into(self._map, _TRANSACTION_PLACE, transaction)

    def close(self) -> None:
        self._map.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, slot: _Slot) -> None:
        slot.turn = (slot.turn + 1) & 0xFFFFFFFF
        half = _SLOT.pack(slot.name, slot.settled, slot.under_way, slot.turn)
        place = slot.place + (_HALF_BYTES if slot.turn & 1 else 0)
        self._map[place : place + _HALF_BYTES] = half + _CRC.pack(zlib.crc32(half, self._seed))

    def _new_slot(self, shard: Shard) -> _Slot | None:
        name = shard_hash(shard)
        slot = self._by_name.get(name)
        if slot is None:
            if len(self._by_name) >= self._slots and not self._grow():
                self.untracked += 1
                return None
            slot = self._by_name[name] = _Slot(name, self._place())
        self._by_shard[shard] = slot
        return slot

    def _place(self) -> int:
        return _HEADER_BYTES + len(self._by_name) * _SLOT_BYTES

    def _grow(self) -> bool:
        if self._slots >= MAX_SLOTS:
            return False
        self._slots *= 2
        try:
            grown = self._mapped()
        except OSError:
            # The disk is full: those without a slot are only not tracked.
            self._slots //= 2
            return False
        if self._descriptor is None:
            grown[: len(self._map)] = self._map[:]
        # The thread of commits may hold the old mapping just now; both are of the same pages.
        self._map = grown
        return True

    def _mapped(self) -> mmap.mmap:
        size = _HEADER_BYTES + self._slots * _SLOT_BYTES
        if self._descriptor is None:
            return mmap.mmap(-1, size)
        # Room on the disk first: to write to a mapped page that has none would end the process (SIGBUS).
        os.posix_fallocate(self._descriptor, 0, size)
        return mmap.mmap(self._descriptor, size)
