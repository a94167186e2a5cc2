"""The durable queue: LMDB, one record a batch, oldest first in each shard.

All methods are synchronous; those that commit are meant for a thread. LMDB syncs each commit to disk, so a record whose
`commit` returned survives a crash.
"""

import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import lmdb

from gateway.delivery.record import (
    FORMAT_VERSION,
    CorruptRecordError,
    Record,
    decode,
    decode_items,
    encode,
    key,
    parse_key,
    shard_prefix,
)
from gateway.types import Shard

# Free pages and the tree itself take room beside the records; what is over the bound is refused before LMDB is full.
_MAP_HEADROOM = 64 << 20
_VERSION_KEY = b"format"
# What waits is telemetry of all tenants: for nobody else on the machine.
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class QueueError(Exception):
    """The queue cannot be opened; the message says what to do."""


class QueueInUseError(QueueError):
    """Another gateway uses the queue."""


class QueueWriteError(Exception):
    """A commit failed: the disk is full or broken. Nothing of it was kept."""


@dataclass(slots=True)
class Backlog:
    """What a shard has on disk."""

    records: int = 0
    items: int = 0
    size: int = 0
    oldest_at: float | None = None
    next_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A record on disk, and its place."""

    sequence: int
    record: Record


class DurableQueue:
    """One LMDB environment, locked against a second daemon."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open or create. Raises QueueError."""
        self.folder = folder
        self._lock = _lock_folder(folder)
        try:
            self._env = lmdb.open(
                str(folder),
                map_size=max_bytes + max_bytes // 4 + _MAP_HEADROOM,
                max_dbs=3,
                mode=_FILE_MODE,
                subdir=True,
                writemap=False,
            )
            self._records = self._env.open_db(b"records")
            self._quarantine = self._env.open_db(b"quarantine")
            self._meta = self._env.open_db(b"meta")
            self._check_version()
        except lmdb.Error as error:
            self._lock.close()
            raise QueueError(f"cannot open the queue in {folder}: {error}") from error
        except QueueError:
            self._lock.close()
            raise

    def _check_version(self) -> None:
        with self._env.begin(write=True) as transaction:
            found = transaction.get(_VERSION_KEY, db=self._meta)
            if found is None:
                transaction.put(_VERSION_KEY, str(FORMAT_VERSION).encode(), db=self._meta)
            elif int(found) > FORMAT_VERSION:
                raise QueueError(
                    f"the queue in {self.folder} was written by a newer version (format {int(found)}); "
                    "run that version, or name another queue.dir"
                )

    def backlog(self) -> dict[Shard, Backlog]:
        """What a former run left, by shard. Records without a readable header count as one item until they are read."""
        shards: dict[Shard, Backlog] = {}
        with self._env.begin(db=self._records) as transaction:
            for raw_key, frame in transaction.cursor():
                try:
                    shard, sequence = parse_key(bytes(raw_key))
                except CorruptRecordError as error:
                    raise QueueError(
                        f"the queue in {self.folder} holds a record of nobody ({error}); was it written by a newer "
                        "version? Run that version, or name another queue.dir"
                    ) from None
                backlog = shards.setdefault(shard, Backlog())
                try:
                    items, opened_at = decode_items(frame)
                except CorruptRecordError:
                    items, opened_at = 1, 0.0
                backlog.records += 1
                backlog.items += items
                backlog.size += len(frame)
                backlog.oldest_at = opened_at if backlog.oldest_at is None else backlog.oldest_at
                backlog.next_sequence = sequence + 1
        return shards

    def commit(self, puts: Sequence[tuple[int, Record]], deletes: Sequence[tuple[Shard, int]]) -> int:
        """Keep records at their sequences, forget others, all or nothing; the bytes added. Raises QueueWriteError."""
        added = 0
        try:
            with self._env.begin(db=self._records, write=True) as transaction:
                for shard, sequence in deletes:
                    transaction.delete(key(shard, sequence))
                for sequence, record in puts:
                    frame = encode(record)
                    added += len(frame)
                    transaction.put(key(record.shard, sequence), frame, append=False)
        except (lmdb.Error, OSError) as error:
            raise QueueWriteError(str(error)) from error
        return added

    def read(self, shard: Shard, from_sequence: int, max_bytes: int) -> Iterator[Stored | CorruptRecordError]:
        """Records of a shard in order, the first whatever its size, then while their sum is within `max_bytes`.

        A corrupt one is yielded as the error, with its sequence in `args[1]`, and ends the reading.
        """
        prefix, total = shard_prefix(shard), 0
        key_length = len(key(shard, 0))
        with self._env.begin(db=self._records) as transaction:
            cursor = transaction.cursor()
            found = cursor.set_range(key(shard, from_sequence))
            # Of the first shard, whose prefix the others have too, only keys of this length.
            while found and cursor.key().startswith(prefix) and len(cursor.key()) == key_length:
                _, sequence = parse_key(cursor.key())
                frame = cursor.value()
                total += len(frame)
                if total > max_bytes and total > len(frame):
                    return
                try:
                    record = decode(shard, frame)
                except CorruptRecordError as error:
                    yield CorruptRecordError(str(error), sequence, len(frame))
                    return
                yield Stored(sequence, record)
                found = cursor.next()

    def quarantine(self, shard: Shard, sequence: int) -> None:
        """Set a corrupt record aside, where nothing reads it. Raises QueueWriteError."""
        raw_key = key(shard, sequence)
        try:
            with self._env.begin(write=True) as transaction:
                frame = transaction.pop(raw_key, db=self._records)
                if frame is not None:
                    transaction.put(raw_key, frame, db=self._quarantine)
        except (lmdb.Error, OSError) as error:
            raise QueueWriteError(str(error)) from error

    def close(self) -> None:
        self._env.close()
        self._lock.close()


def _lock_folder(folder: Path) -> IO[str]:
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        lock = (folder / "gateway.lock").open("w")
    except OSError as error:
        raise QueueError(f"cannot write to the queue folder {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise QueueInUseError(
            f"another gateway uses the queue in {folder}; stop it, take over from it (--take-over), wait for it "
            "(--wait), or name another queue.dir"
        ) from None
    return lock
