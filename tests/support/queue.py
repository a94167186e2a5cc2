"""Records for the durable queue, and frames as version 1 wrote them."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgpack

from gateway.config.models import Queue
from gateway.delivery.disk.frame import MAGIC
from gateway.delivery.queue import DurableQueue, Stored
from gateway.delivery.record import CorruptRecordError, Record
from gateway.types import Lane, Shard, Signal

OPENED_AT = 1_700_000_000.0


def shard(tenant: str = "acme", number: int = 0, destination: str = "backend") -> Shard:
    return Shard(Lane(tenant, destination, Signal.LOGS), number)


def payload(seed: object, size: int) -> bytes:
    """Bytes that nothing else has, and that are the same each time."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def record(where: Shard | None = None, content: bytes = b"payload", items: int = 3) -> Record:
    return Record(where or shard(), items, 1, OPENED_AT, (content,), len(content))


def config(folder: Path, **settings: object) -> Queue:
    return Queue.model_validate({"dir": str(folder), "max_bytes": "256MiB", **settings})


def read_all(queue: DurableQueue, where: Shard) -> Iterator[Stored | CorruptRecordError]:
    """A shard from its first record to its last; a corrupt one is passed over."""
    sequence = 0
    while found := list(queue.read(where, sequence, 1 << 20)):
        yield from found
        last = found[-1]
        sequence = (last.sequence if isinstance(last, Stored) else last.args[1]) + 1


def payloads(queue: DurableQueue, where: Shard) -> list[bytes]:
    """What can be read of a shard, in order."""
    return [bytes(found.record.payload) for found in read_all(queue, where) if isinstance(found, Stored)]


def frame_v1(content: bytes, items: int = 3) -> bytes:
    """As version 1 wrote it: kept here word for word, since what it wrote is still on disks."""
    header = msgpack.packb(
        {"v": 1, "items": items, "generation": 1, "opened_at": OPENED_AT, "crc32": zlib.crc32(content)}
    )
    return struct.pack(">H", len(header)) + header + content


def frame_of(signal: str) -> bytes:
    """As a version that knows more signals would write it."""
    lane = {"tenant": "acme", "destination": "backend", "signal": signal, "shard": 0, "sequence": 0}
    header = msgpack.packb(lane | {"items": 1, "generation": 1, "opened_at": 1.0, "length": 0, "queue": bytes(16)})
    checked = struct.pack(">8sHHI", MAGIC, 2, len(header), 0)
    return checked + struct.pack(">I", zlib.crc32(checked + header)) + header


def key_v1(where: Shard, sequence: int) -> bytes:
    lane = where.lane
    number = f"{where.number}\0" if where.number else ""
    return f"{lane.tenant}\0{lane.destination}\0{lane.signal}\0{number}".encode() + struct.pack(">Q", sequence)


def write_v1(folder: Path, contents: dict[tuple[int, int], bytes]) -> None:
    """A queue as version 1 left it: shard number and sequence of each payload."""
    folder.mkdir(exist_ok=True)
    environment = lmdb.open(str(folder), map_size=64 << 20, max_dbs=3)
    databases = [environment.open_db(name) for name in (b"meta", b"quarantine", b"records")]
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", b"1", db=databases[0])
        for (number, sequence), content in contents.items():
            transaction.put(key_v1(shard(number=number), sequence), frame_v1(content), db=databases[2])
    environment.close()
