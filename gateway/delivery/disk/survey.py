"""One walk over what a former run left, before LMDB opens it: whether it is sound, and what waits in each shard."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from gateway.delivery.disk.frame import FORMAT_VERSION, Header, NewerFrameError, names_of, read_header
from gateway.delivery.disk.keys import is_v1, parse_key
from gateway.delivery.disk.pages import DamagedError, Entry, PageFile
from gateway.delivery.disk.progress import FormerRun, Mark
from gateway.delivery.record import CorruptRecordError
from gateway.types import Shard

RECORDS, QUARANTINE, META = b"records", b"quarantine", b"meta"
VERSION_KEY, STATE_KEY = b"format", b"state"
EPOCH_BITS = 40
"""A run's sequences begin at its epoch times this power of two: above all of former runs, whatever is left of them."""
MAX_EPOCH = (1 << 24) - 1
_STATE = struct.Struct(">H16sQ")
_CRC = struct.Struct(">I")


class NewerQueueError(Exception):
    """The queue was written by a version whose format this one does not know; `args[0]` is the format."""


@dataclass(slots=True)
class Backlog:
    """What a shard has on disk."""

    records: int = 0
    items: int = 0
    size: int = 0
    """Bytes of payloads."""
    oldest_at: float | None = None
    next_sequence: int = 0
    maybe_delivered: int = 0
    """Items, of those above, that were under way when the last run ended."""


@dataclass(slots=True)
class Survey:
    """What is in a sound file."""

    identity: bytes = b""
    epoch: int = 0
    """The highest that was used."""
    version: int = 0
    """Of the format; 0: the file is new."""
    transaction: int = 0
    shards: dict[Shard, Backlog] = field(default_factory=dict)
    settled: dict[Shard, int] = field(default_factory=dict)
    """Shards with records that a former run had delivered already, and below which sequence."""
    old_shards: set[Shard] = field(default_factory=set)
    """Those with keys of version 1."""
    encrypted_tenants: set[str] = field(default_factory=set)


def survey(file: Path, former: FormerRun) -> Survey:
    """Walk all of it. Raises DamagedError, NewerQueueError, NewerFrameError, OSError."""
    found = Survey()
    places: dict[bytes, _Place] = {}
    state: bytes | None = None
    with PageFile(file) as pages:
        found.transaction = pages.transaction
        # Databases come in the order of their names: what `meta` says is known before the records.
        for entry in pages.entries():
            if entry.database == META and entry.key == VERSION_KEY:
                found.version = _version(entry.head)
            elif entry.database == META and entry.key == STATE_KEY:
                state = entry.head
                _take_state(found, state)
            elif entry.database == RECORDS:
                if state is None:
                    state = b""
                    _take_state(found, state)
                _take_record(found, entry, former, places)
    if state is None:
        _take_state(found, b"")
    if former.identity and former.identity == found.identity:
        if found.transaction < former.transaction:
            raise DamagedError(f"the last commit is {found.transaction}, and {former.transaction} was made")
        found.epoch = max(found.epoch, former.epoch)
    return found


def pack_state(identity: bytes, epoch: int) -> bytes:
    """What the queue says about itself."""
    packed = _STATE.pack(FORMAT_VERSION, identity, epoch)
    return packed + _CRC.pack(zlib.crc32(packed))


def _version(written: bytes) -> int:
    try:
        return int(written)
    except ValueError:
        raise DamagedError("the queue's format is no number") from None


def _take_state(found: Survey, state: bytes) -> None:
    """Before any record is judged: one of a newer version must not be taken for damaged."""
    packed, crc32 = state[: _STATE.size], state[_STATE.size :]
    whole = len(state) == _STATE.size + _CRC.size and _CRC.pack(zlib.crc32(packed)) == crc32
    version, identity, epoch = _STATE.unpack(packed) if whole else (0, b"", 0)
    if version == FORMAT_VERSION == found.version:
        found.identity, found.epoch = identity, max(found.epoch, epoch)
    elif found.version > FORMAT_VERSION and version != FORMAT_VERSION:
        raise NewerQueueError(found.version)
    elif state or found.version > 1:
        raise DamagedError("what the queue says about itself is damaged")


@dataclass(slots=True)
class _Place:
    """What is the same for all keys that differ in their sequence only."""

    shard: Shard
    names: tuple[str, str, str, int]
    mark: Mark
    backlog: Backlog | None = None


def _take_record(found: Survey, entry: Entry, former: FormerRun, places: dict[bytes, _Place]) -> None:
    header = _header(entry)
    prefix, sequence = entry.key[:-8], int.from_bytes(entry.key[-8:], "big")
    place = places.get(prefix)
    if place is None:
        place = places[prefix] = _place(found, entry, former)
    if header is None:
        if not is_v1(entry.key):
            raise DamagedError("the header of a record is damaged")
    elif header.names is not None and (header.names, header.sequence) != (place.names, sequence):
        raise DamagedError("a record stands under the key of another")
    elif header.names is not None and header.queue != found.identity:
        raise DamagedError("a record is of another queue")
    found.epoch = max(found.epoch, sequence >> EPOCH_BITS)
    if sequence < place.mark.settled:
        found.settled[place.shard] = place.mark.settled
        return
    if place.backlog is None:
        place.backlog = found.shards.setdefault(place.shard, Backlog())
    _add(place.backlog, header, entry.size)
    if sequence < place.mark.under_way:
        place.backlog.maybe_delivered += 1 if header is None else header.items
    place.backlog.next_sequence = max(place.backlog.next_sequence, sequence + 1)
    if header is not None and header.key_id is not None:
        found.encrypted_tenants.add(place.shard.lane.tenant)


def _place(found: Survey, entry: Entry, former: FormerRun) -> _Place:
    try:
        shard, _ = parse_key(entry.key)
    except CorruptRecordError as error:
        raise DamagedError("the key of a record is damaged") from error
    if is_v1(entry.key):
        found.old_shards.add(shard)
    # Marks of another queue say nothing about this one.
    trusted = bool(former.identity) and former.identity == found.identity
    return _Place(shard, names_of(shard), former.mark(shard) if trusted else Mark(0, 0))


def _header(entry: Entry) -> Header | None:
    try:
        return read_header(entry.head, entry.size)
    except NewerFrameError:
        raise
    except CorruptRecordError:
        return None


def _add(backlog: Backlog, header: Header | None, size: int) -> None:
    """A record without a readable header counts as one item until it is read."""
    backlog.records += 1
    backlog.items += 1 if header is None else header.items
    backlog.size += size if header is None else header.size
    if header is not None:
        backlog.oldest_at = min(header.opened_at, backlog.oldest_at or header.opened_at)
