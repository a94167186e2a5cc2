"""A damaged queue made anew from what can still be read of it; the damaged file is set aside.

First along the tree, as far as it holds; then every byte of the file is searched for frames, which prove themselves by
their checksums. What frees pages keep of records that were delivered is told apart by the marks of the former run.
"""

import contextlib
import os
import shutil
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from gateway.delivery.disk.frame import (
    FORMAT_VERSION,
    HEAD_BYTES,
    MAGIC,
    Header,
    NewerFrameError,
    find_header,
    names_of,
    read_header,
)
from gateway.delivery.disk.keys import key, parse_key
from gateway.delivery.disk.pages import DamagedError, Entry, PageFile
from gateway.delivery.disk.progress import FormerRun
from gateway.delivery.disk.sealing import DataKeys, sync_folder
from gateway.delivery.disk.survey import EPOCH_BITS, META, RECORDS, STATE_KEY, VERSION_KEY, pack_state
from gateway.delivery.record import CorruptRecordError

DATA_FILE = "data.mdb"
WORK_FOLDER = "rebuild"
_NEW_FILE = "data.mdb.new"
_ASIDE = "data.mdb.corrupt-"
KEPT_ASIDE = 2
"""How many damaged files are kept for whoever wants to look at them."""
_CHUNK_BYTES = 4 << 20
_COMMIT_BYTES, _COMMIT_RECORDS = 32 << 20, 4096
_MAX_FRAME_BYTES = 1 << 30
_MAX_REMEMBERED = 10_000
_BLOCK_BYTES = 4096


@dataclass(slots=True)
class Rebuilt:
    """What came of it."""

    records: int = 0
    items: int = 0
    searched_out: int = 0
    """Records, of those, that the tree no longer led to."""
    corrupt: int = 0
    """Records with a readable header whose payload is damaged; they are found corrupt again when it is their turn."""
    fragments: int = 0
    """Beginnings of frames, perhaps of records delivered long ago, of which nothing could be made."""
    aside: Path | None = None


@dataclass(slots=True)
class _Found:
    """What the old file said about itself, and what of it must be put in after all."""

    identity: bytes = b""
    """That the records name."""
    epoch: int = 0
    corrupt: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By key, where frames are whose payload is damaged: perhaps another copy is whole."""

    def remember(self, raw_key: bytes, offset: int, size: int, writer: "_Writer") -> None:
        if len(self.corrupt) < _MAX_REMEMBERED:
            self.corrupt[raw_key] = offset, size
        else:
            writer.result.fragments += 1


def finish_replacement(folder: Path) -> None:
    """Clear away what a rebuild or a rewrite that was interrupted left. Raises OSError."""
    new, data = folder / _NEW_FILE, folder / DATA_FILE
    if new.exists():
        # It only has this name when it is complete; while there is another, it is not needed, and perhaps older.
        if data.exists():
            new.unlink()
        else:
            new.replace(data)
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)


def empty_work_folder(folder: Path) -> Path:
    """Where another environment can be made. Raises OSError."""
    work = folder / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    return work


def sync_work(folder: Path) -> None:
    """What was made in the work folder is on disk. Raises OSError."""
    with (folder / WORK_FOLDER / DATA_FILE).open("rb") as opened:
        os.fsync(opened.fileno())


def put_in_place(folder: Path, *, aside: Path | None = None) -> None:
    """What was made in the work folder replaces the data file, which stays as `aside`. Raises OSError.

    Wherever the machine stops in between, the next start finds one file that is whole.
    """
    made, new, data = folder / WORK_FOLDER / DATA_FILE, folder / _NEW_FILE, folder / DATA_FILE
    sync_work(folder)
    made.replace(new)
    if aside is not None:
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(data)
        except OSError:
            # No hard links on this file system: for a moment there is only the new file.
            data.replace(aside)
    new.replace(data)
    sync_folder(folder)
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)


def rebuild(folder: Path, map_size: int, former: FormerRun, keys: DataKeys | None, *, search: bool) -> Rebuilt:
    """Replace the data file by what can be read of it. Raises OSError, lmdb.Error, NewerFrameError.

    `search`: also for what the tree does not lead to, because it is known to be damaged, or of an older commit.
    """
    result, found = Rebuilt(), _Found(epoch=former.epoch)
    with contextlib.closing(
        lmdb.open(str(empty_work_folder(folder)), map_size=map_size, max_dbs=3, mode=0o600, metasync=False, sync=False)
    ) as environment:
        writer = _Writer(environment, result)
        if not _follow_tree(folder / DATA_FILE, former, found, writer) or search:
            _search(folder / DATA_FILE, former, keys, found, writer)
        _put_corrupt(folder / DATA_FILE, found, writer)
        writer.finish(found.identity or former.identity, found.epoch)
        environment.sync(True)
    result.aside = folder / f"{_ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    put_in_place(folder, aside=result.aside)
    for old in files_aside(folder)[:-KEPT_ASIDE]:
        old.unlink()
    return result


class _Writer:
    """Puts records into the new environment, many a commit."""

    def __init__(self, environment: Any, result: Rebuilt) -> None:
        self.result = result
        self._environment = environment
        self._records = environment.open_db(RECORDS)
        self._meta = environment.open_db(META)
        self._batch: list[tuple[bytes, bytes, int]] = []
        self._size = 0

    def put(self, raw_key: bytes, frame: bytes, items: int) -> None:
        """The first of a key counts: sequences never repeat, so that others are copies."""
        self._batch.append((raw_key, frame, items))
        self._size += len(frame)
        if self._size >= _COMMIT_BYTES or len(self._batch) >= _COMMIT_RECORDS:
            self.flush()

    def flush(self) -> None:
        with self._environment.begin(db=self._records, write=True) as transaction:
            for raw_key, frame, items in self._batch:
                if transaction.put(raw_key, frame, overwrite=False):
                    self.result.records += 1
                    self.result.items += items
        self._batch, self._size = [], 0

    def finish(self, identity: bytes, epoch: int) -> None:
        self.flush()
        with self._environment.begin(db=self._meta, write=True) as transaction:
            if identity:
                transaction.put(VERSION_KEY, str(FORMAT_VERSION).encode())
                transaction.put(STATE_KEY, pack_state(identity, epoch))


def _follow_tree(file: Path, former: FormerRun, found: _Found, writer: _Writer) -> bool:
    """Put what the tree still leads to; whether all of it is sound."""
    sound = True
    try:
        with PageFile(file, tolerant=True) as pages:
            for entry in pages.entries():
                if entry.database == RECORDS:
                    try:
                        _take(pages, entry, former, found, writer)
                    except NewerFrameError:
                        raise
                    except (CorruptRecordError, DamagedError, OSError):
                        sound = False
            return sound and not pages.damages
    except (DamagedError, OSError):
        return False


def _take(pages: PageFile, entry: Entry, former: FormerRun, found: _Found, writer: _Writer) -> None:
    shard, sequence = parse_key(entry.key)
    header = read_header(entry.head, entry.size)
    if header.names is not None:
        if (header.names, header.sequence) != (names_of(shard), sequence):
            raise CorruptRecordError("a record stands under the key of another")
        found.identity = header.queue
        if _is_settled(header, former):
            return
    found.epoch = max(found.epoch, sequence >> EPOCH_BITS)
    frame = pages.read(entry.offset, entry.size)
    if zlib.crc32(memoryview(frame)[header.body :]) == header.crc32:
        writer.put(entry.key, frame, header.items)
    else:
        found.remember(entry.key, entry.offset, entry.size, writer)


def _is_settled(header: Header, former: FormerRun) -> bool:
    shard = header.shard
    if shard is None or header.queue != former.identity:
        return False
    return header.sequence < former.mark(shard).settled


def _search(file: Path, former: FormerRun, keys: DataKeys | None, found: _Found, writer: _Writer) -> None:
    """Put what lies anywhere in the file and proves itself.

    A payload may hold what looks like a frame, written by a tenant that would like to write for another. So what is
    within a frame is passed over, and a frame has to name the queue's identity, which no tenant knows.
    """
    writer.flush()
    known = {identity for identity in (found.identity, former.identity) if identity}
    before = writer.result.records
    with file.open("rb", buffering=0) as opened:
        size, offset = os.fstat(opened.fileno()).st_size, 0
        haystack = _Haystack(opened.fileno(), size)
        while (offset := haystack.next_magic(offset)) < size:
            at, offset = offset, offset + len(MAGIC)
            header, content = _frame_at(opened.fileno(), at, size)
            if header is None or (shard := header.shard) is None:
                writer.result.fragments += 1
                continue
            if content is not None:
                offset = at + header.length
                if not known:
                    known.add(header.queue)
                    found.identity = header.queue
            if header.queue not in known or _is_settled(header, former) or _is_forgotten(header, keys):
                continue
            raw_key = key(shard, header.sequence)
            found.epoch = max(found.epoch, header.sequence >> EPOCH_BITS)
            if content is not None:
                writer.put(raw_key, content, header.items)
            elif header.queue == former.identity:
                # By the marks it was not delivered: so it is a record that is lost, and to be counted.
                found.remember(raw_key, at, header.length, writer)
            else:
                writer.result.fragments += 1
    writer.flush()
    writer.result.searched_out = writer.result.records - before


def _is_forgotten(header: Header, keys: DataKeys | None) -> bool:
    """Whether its key was deleted: what free pages keep of it is nobody's backlog."""
    if header.key_id is None or header.names is None or keys is None:
        return False
    return keys.find(header.names[0], header.key_id) is None


class _Haystack:
    """A file in which frames are looked for, a chunk in memory at a time."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._start = 0
        self._chunk = b""

    def next_magic(self, offset: int) -> int:
        """Where the next frame may begin; the file's size if nowhere. What the disk cannot read is passed over."""
        while offset < self._size:
            if not self._start <= offset <= self._start + len(self._chunk) - len(MAGIC):
                try:
                    self._start, self._chunk = offset, os.pread(self._descriptor, _CHUNK_BYTES, offset)
                except OSError:
                    self._chunk = b""
                    offset += _BLOCK_BYTES - offset % _BLOCK_BYTES
                    continue
                if len(self._chunk) < len(MAGIC):
                    break
            place = self._chunk.find(MAGIC, offset - self._start)
            if place >= 0:
                return self._start + place
            offset = self._start + len(self._chunk) - len(MAGIC) + 1
        return self._size


def _frame_at(descriptor: int, offset: int, size: int) -> tuple[Header | None, bytes | None]:
    """The header of the frame that begins there, if it is whole, and the frame, if that is."""
    try:
        header = find_header(os.pread(descriptor, HEAD_BYTES, offset))
    except NewerFrameError:
        raise
    except (CorruptRecordError, OSError):
        return None, None
    if header.length > min(_MAX_FRAME_BYTES, size - offset):
        return None, None
    try:
        frame = os.pread(descriptor, header.length, offset)
    except OSError:
        return header, None
    whole = len(frame) == header.length and zlib.crc32(memoryview(frame)[header.body :]) == header.crc32
    return header, frame if whole else None


def _put_corrupt(file: Path, found: _Found, writer: _Writer) -> None:
    """Records of which no copy is whole: under their keys, so that each is counted when it is its turn."""
    writer.flush()
    before = writer.result.records
    with file.open("rb") as opened:
        for raw_key, (offset, size) in found.corrupt.items():
            try:
                frame = os.pread(opened.fileno(), size, offset)
            except OSError:
                frame = _readable(opened.fileno(), offset, size)
            writer.put(raw_key, frame, 0)
    writer.flush()
    writer.result.corrupt = writer.result.records - before


def _readable(descriptor: int, offset: int, size: int) -> bytes:
    """A frame with zeros where the disk cannot read it."""
    frame = bytearray(size)
    place = 0
    while place < size:
        step = min(size - place, _BLOCK_BYTES - (offset + place) % _BLOCK_BYTES)
        with contextlib.suppress(OSError):
            frame[place : place + step] = os.pread(descriptor, step, offset + place)
        place += step
    return bytes(frame)


def files_aside(folder: Path) -> list[Path]:
    """Damaged files that are kept, oldest first."""
    return sorted(folder.glob(f"{_ASIDE}*"))
