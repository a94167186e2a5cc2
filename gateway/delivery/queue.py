"""The durable queue: LMDB, one record a batch, oldest first in each shard.

All methods are synchronous; those that commit are meant for its `thread`. LMDB syncs each commit to disk,
so a record whose `commit` returned survives a crash. What lies in the folder, and how it is mended, is in
`gateway.delivery.disk`.
"""

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import lmdb
import structlog

from gateway.config.models import Queue as QueueConfig
from gateway.delivery.disk.frame import Encoder, NewerFrameError, decode
from gateway.delivery.disk.keys import key, key_v1
from gateway.delivery.disk.lock import LockedError, lock_folder
from gateway.delivery.disk.mend import look, make_anew, why_not
from gateway.delivery.disk.pages import DamagedError
from gateway.delivery.disk.progress import IDENTITY_BYTES, FormerRun, Progress, read_former_run
from gateway.delivery.disk.rebuild import (
    DATA_FILE,
    Rebuilt,
    empty_work_folder,
    finish_replacement,
    put_in_place,
    sync_work,
)
from gateway.delivery.disk.records import Records
from gateway.delivery.disk.resident import Mapping
from gateway.delivery.disk.sealing import DataKeys, delete_key_file
from gateway.delivery.disk.survey import EPOCH_BITS, Backlog, NewerQueueError, Survey, survey
from gateway.delivery.record import CorruptRecordError, Record
from gateway.delivery.threads import OneThread
from gateway.types import QueueDiskStats, Shard

__all__ = [
    "Backlog", "DurableQueue", "QueueError", "QueueInUseError", "QueueReadError", "QueueWriteError", "Stored",
]  # fmt: skip

log = structlog.get_logger(__name__)

# Free pages and the tree itself take room beside the records; what is over the bound is refused before LMDB is full.
_MAP_HEADROOM = 64 << 20
_KEYS_FOLDER = "keys"
# A rewrite holds up commits, so that what it copies is bounded; and it must be worth it.
_REWRITE_FILE_BYTES, _REWRITE_LIVE_BYTES, _REWRITE_SHARE = 64 << 20, 64 << 20, 4
_DROP_READ_PAGES_BYTES = 16 << 20
# What the kernel may map around the one page of a record that a deletion looks at: measured, all of a record.
_MAPPED_BY_DELETION_BYTES = 512 << 10
_DAMAGES = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)


class QueueError(Exception):
    """The queue cannot be opened; the message says what to do."""


class QueueInUseError(QueueError):
    """Another gateway uses the queue."""


class QueueWriteError(Exception):
    """A commit failed: the disk is full or broken. Nothing of it was kept."""


class QueueReadError(Exception):
    """The queue cannot be read just now: the disk or the file is broken. A restart mends what can be mended."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record on disk, and its place."""

    sequence: int
    record: Record


class DurableQueue:
    """One LMDB environment, locked against a second daemon."""

    def __init__(self, folder: Path, max_bytes: int, *, config: QueueConfig | None = None, wait_s: float = 0.0) -> None:
        """Open or create, mend what is damaged. Waits so long for another gateway to end. Raises QueueError."""
        self.folder = folder
        self._map_size = max_bytes + max_bytes // 4 + _MAP_HEADROOM
        self._writing = threading.Lock()
        """Held by what changes the file, or is not to see it change."""
        self._mapped = threading.Lock()
        """Held by what uses the map of the file, or replaces it."""
        self._records = Records(folder, self._map_size)
        self._rebuilt: Rebuilt | None = None
        self._progress: Progress | None = None
        self._evicted = self._reclaimed = 0
        try:
            self._lock = lock_folder(folder, wait_s)
        except LockedError as error:
            raise QueueInUseError(str(error)) from None
        except OSError as error:
            raise QueueError(f"cannot write to the queue folder {folder}: {error.strerror}") from error
        try:
            self.thread = OneThread("queue commits")
            """For what commits: nobody else's work goes before it."""
        except RuntimeError as error:
            self._lock.close()
            raise QueueError(str(error)) from error
        try:
            self._keys = self._data_keys(config)
            self._open()
        except BaseException as error:
            self.thread.shutdown()
            self._shut()
            self._lock.close()
            if (message := why_not(folder, error)) is None:
                raise
            raise QueueError(message) from error

    @classmethod
    def open(cls, config: QueueConfig, *, wait_s: float = 0.0) -> Self:
        """As configured. Raises QueueError."""
        return cls(config.dir, config.max_bytes, config=config, wait_s=wait_s)

    def _data_keys(self, config: QueueConfig | None) -> DataKeys | None:
        if config is None or config.encryption is None:
            return None
        try:
            key_now, previous = config.encryption.read_keys()
        except ValueError as error:
            raise QueueError(f"queue.encryption: {error}") from None
        return DataKeys(self.folder / _KEYS_FOLDER, key_now, previous, writes=config.encryption.write)

    def _open(self) -> None:
        finish_replacement(self.folder)
        former = read_former_run(self.folder)
        found, self._rebuilt = look(self.folder, self._map_size, former, self._keys)
        try:
            self._start(found, former)
        except _DAMAGES as error:
            if self._rebuilt is not None:
                raise
            # The walk saw nothing, and LMDB did: a case that was not thought of, and no reason to stay down.
            self._shut()
            found, self._rebuilt = make_anew(self.folder, self._map_size, former, self._keys, str(error), search=True)
            self._start(found, former)

    def _start(self, found: Survey, former: FormerRun) -> None:
        if found.encrypted_tenants and self._keys is None:
            raise QueueError(
                f"the queue in {self.folder} holds encrypted records; configure queue.encryption with the key that "
                "they were written with, and `write: false` to encrypt no more"
            )
        self.identity = found.identity or secrets.token_bytes(IDENTITY_BYTES)
        self._encoder = Encoder(self.identity)
        epoch = found.epoch + 1
        self.first_sequence = epoch << EPOCH_BITS
        """Where a shard's sequences begin in this run: above all that any former run gave away."""
        for backlog in found.shards.values():
            backlog.next_sequence = self.first_sequence
        self.progress = self._progress = Progress(
            self.folder,
            self.identity,
            epoch,
            strikes=former.strikes if self._rebuilt is None else 0,
            # Settled records that are still to be deleted need their marks, too: until they are.
            waiting=found.shards.keys() | found.settled.keys(),
            former=former if former.identity == self.identity else FormerRun(),
        )
        self.progress.committing(True)
        self._records.open()
        self._note_start(found, epoch)
        self._committed()
        self._mapping = Mapping(self.folder / DATA_FILE, _DROP_READ_PAGES_BYTES)
        self._old_shards = found.old_shards
        self._backlog: dict[Shard, Backlog] | None = found.shards

    def _note_start(self, found: Survey, epoch: int) -> None:
        """What the start itself writes. A full disk must not keep the backlog from being delivered."""
        try:
            self._records.write_state(self.identity, epoch)
            settled = sum(self._records.settle(shard, below) for shard, below in found.settled.items())
        except _DAMAGES:
            raise
        except lmdb.Error as error:
            # That this run's sequences are new must be known to the next: from the queue, or else from the progress.
            if not (found.identity and self.progress.kept):
                raise
            log.warning("the queue cannot be written", error=str(error))
        else:
            if settled:
                log.info("records that were delivered already leave the queue", records=settled)

    def backlog(self) -> dict[Shard, Backlog]:
        """What waits on disk, by shard. Records without a readable header count as one item until they are read."""
        with self._writing:
            if self._backlog is not None:
                return self._backlog
            try:
                found = survey(self.folder / DATA_FILE, FormerRun())
            except (DamagedError, NewerQueueError, NewerFrameError, OSError) as error:
                raise QueueError(f"cannot read the queue in {self.folder}: {error}; start again to mend it") from error
            return found.shards

    def commit(self, puts: Sequence[tuple[int, Record]], deletes: Sequence[tuple[Shard, int]]) -> int:
        """Keep records at their sequences, forget others, all or nothing; the bytes added. Raises QueueWriteError.

        Sequences are not below `first_sequence`, and never come again: else a mark of what a former run delivered could
        stand for them (ValueError).
        """
        added = 0
        if any(sequence < self.first_sequence for sequence, _ in puts):
            raise ValueError(f"this run's sequences begin at {self.first_sequence}")
        with self._writing:
            self._backlog = None
            self.progress.committing(True)
            try:
                if self._keys is not None:
                    self._keys.prepare(record.shard.lane.tenant for _, record in puts)
                with self._records.environment.begin(db=self._records.records, write=True) as transaction:
                    for shard, sequence in deletes:
                        if not transaction.delete(key(shard, sequence)) and shard in self._old_shards:
                            transaction.delete(key_v1(shard, sequence))
                        self._mapping.has_read(_MAPPED_BY_DELETION_BYTES)
                    for sequence, record in puts:
                        tenant = record.shard.lane.tenant
                        data_key = None if self._keys is None else self._keys.for_writing(tenant)
                        frame = self._encoder.encode(sequence, record, data_key)
                        added += len(frame)
                        transaction.put(key(record.shard, sequence), frame)
                self._committed()
            except (lmdb.Error, OSError) as error:
                raise self._write_error(error) from error
            finally:
                self.progress.committing(False)
        return added

    def _write_error(self, error: Exception) -> QueueWriteError:
        """What a failed commit raises. The write lock is held."""
        if isinstance(error, _DAMAGES):
            self.progress.found_damaged()
        else:
            self._open_again(error)
        return QueueWriteError(str(error))

    def _open_again(self, error: Exception) -> None:
        """LMDB gives up an environment for good if a commit fails on its last steps; a new one is as good as before."""
        with self._mapped:
            self._records.close()
            try:
                self._records.open()
                self._mapping = Mapping(self.folder / DATA_FILE, _DROP_READ_PAGES_BYTES)
            except (lmdb.Error, OSError) as again:
                # It stays closed; the next commit fails as well, and tries this again.
                log.error("the queue cannot be opened again", error=str(again), after=str(error))

    def _committed(self) -> None:
        self.progress.committed(self._records.transaction)
        self.progress.committing(False)

    def read(self, shard: Shard, from_sequence: int, max_bytes: int) -> Iterator[Stored | CorruptRecordError]:
        """Records of a shard in order, the first whatever its size, then while their sum is within `max_bytes`.

        A corrupt one is yielded as the error, with its sequence in `args[1]`, and ends the reading; so does one whose
        key was deleted (KeyDeletedError). What is yielded does not depend on the file any more. Raises QueueReadError.
        """
        with self._mapped:
            self.progress.reading(True)
            try:
                return iter(self._read(shard, from_sequence, max_bytes))
            except (lmdb.Error, OSError) as error:
                if isinstance(error, _DAMAGES):
                    self.progress.found_damaged()
                raise QueueReadError(f"cannot read the queue in {self.folder}: {error}") from error
            finally:
                self.progress.reading(False)

    def _read(self, shard: Shard, from_sequence: int, max_bytes: int) -> list[Stored | CorruptRecordError]:
        found: list[Stored | CorruptRecordError] = []
        total = 0
        # What was settled may still be on disk, if a full one kept it from being deleted.
        from_sequence = max(from_sequence, self.progress.mark(shard).settled)
        with self._records.environment.begin(db=self._records.records, buffers=True) as transaction:
            # Those of the former format are older than all others.
            for old in (True, False) if shard in self._old_shards else (False,):
                for sequence, frame in self._records.shard_cursor(transaction, shard, from_sequence, old):
                    length = len(frame)
                    total += length
                    if total > max_bytes and found:
                        return found
                    self._mapping.has_read(length)
                    try:
                        found.append(Stored(sequence, decode(shard, sequence, frame, self._keys)))
                    except CorruptRecordError as error:
                        size = error.args[2] or length
                        found.append(type(error)(str(error), sequence, size, error.items))
                        return found
        return found

    def quarantine(self, shard: Shard, sequence: int) -> None:
        """Set a corrupt record aside, where nothing reads it, for a while. Raises QueueWriteError."""
        raw_keys = (key(shard, sequence), key_v1(shard, sequence))
        with self._writing:
            self._backlog = None
            self.progress.committing(True)
            try:
                self._evicted += self._records.set_aside(raw_keys, keep=True)
                self._committed()
            except (lmdb.Error, OSError) as error:
                raise self._write_error(error) from error
            finally:
                self.progress.committing(False)

    def reclaim(self) -> int:
        """Give room that the file no longer needs back to the disk; the bytes. For a quiet moment: commits wait.

        Does nothing unless little of a large file is in use. Raises QueueWriteError.
        """
        with self._writing:
            try:
                before, live = self._records.file_bytes(), self._records.live_bytes()
                if before <= _REWRITE_FILE_BYTES or live > min(_REWRITE_LIVE_BYTES, before // _REWRITE_SHARE):
                    return 0
                self._rewrite()
                freed = max(0, before - self._records.file_bytes())
            except (lmdb.Error, OSError) as error:
                raise QueueWriteError(f"the queue's file cannot be made smaller: {error}") from error
            self._reclaimed += freed
        return freed

    def _rewrite(self) -> None:
        """Into a fresh file, which replaces the old one as one step. The write lock is held."""
        self._records.copy_to(empty_work_folder(self.folder))
        # Before readers have to wait: what follows takes milliseconds.
        sync_work(self.folder)
        with self._mapped:
            # LMDB counts anew in a copy.
            self.progress.committed(0)
            self._records.close()
            try:
                put_in_place(self.folder)
            finally:
                self._records.open()
            self.progress.committed(self._records.transaction)
            self._mapping = Mapping(self.folder / DATA_FILE, _DROP_READ_PAGES_BYTES)

    def forget(self, tenant: str) -> tuple[bool, int]:
        """Delete a tenant's data key, its records, and what free pages keep of them.

        Whether there was a key, and how many records. For a gateway that serves nobody meanwhile: commits wait as long
        as it takes. Raises QueueWriteError.
        """
        with self._writing:
            self._backlog = None
            try:
                had_key = delete_key_file(self.folder / _KEYS_FOLDER, tenant)
                if self._keys is not None:
                    self._keys.forget(tenant)
                deleted = self._records.forget(tenant)
                self._rewrite()
            except (lmdb.Error, OSError) as error:
                raise QueueWriteError(str(error)) from error
        return had_key, deleted

    def disk_stats(self) -> QueueDiskStats:
        """For metrics. Raises QueueReadError."""
        with self._mapped:
            try:
                records, size = self._records.quarantine_size()
                file_bytes, live_bytes = self._records.file_bytes(), self._records.live_bytes()
            except (lmdb.Error, OSError) as error:
                raise QueueReadError(str(error)) from error
        return QueueDiskStats(
            file_bytes=file_bytes,
            live_bytes=live_bytes,
            quarantined_records=records,
            quarantined_bytes=size,
            quarantine_evicted=self._evicted,
            reclaimed_bytes=self._reclaimed,
            untracked_shards=self.progress.untracked,
            rebuilt_records=None if self._rebuilt is None else self._rebuilt.records,
            rebuilt_corrupt=0 if self._rebuilt is None else self._rebuilt.corrupt,
        )

    def _shut(self) -> None:
        self._records.close()
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def close(self) -> None:
        """Commits under way end first."""
        self.thread.shutdown()
        self._shut()
        self._lock.close()
