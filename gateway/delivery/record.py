"""One batch as it lies in the queue: a msgpack header, then the payload as the destination wants it, uncompressed."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgpack

from gateway._engine import Chunk
from gateway.types import Lane, Shard, Signal

FORMAT_VERSION = 1
_LENGTH = struct.Struct(">H")
_SEQUENCE = struct.Struct(">Q")

Part: TypeAlias = bytes | memoryview | Chunk
"""Some of a payload, never copied on its way from the engine or the disk to the backend."""


class CorruptRecordError(Exception):
    """A record whose checksum, or whose frame, is not right."""


@dataclass(frozen=True, slots=True)
class Record:
    """A batch of one shard.

    `items` is what the backend counts, `opened_at` Unix seconds of its first item; the payload is `parts` joined.
    """

    shard: Shard
    items: int
    generation: int
    opened_at: float
    parts: Sequence[Part] = field(repr=False)
    size: int

    @property
    def payload(self) -> bytes:
        """The parts joined: a copy."""
        return b"".join(self.parts)


def key(shard: Shard, sequence: int) -> bytes:
    """Keys of one shard sort by sequence, oldest first."""
    return shard_prefix(shard) + _SEQUENCE.pack(sequence)


def shard_prefix(shard: Shard) -> bytes:
    """What all keys of a shard begin with. NUL can be in none of the names. The first shard goes without a number."""
    lane = shard.lane
    number = f"{shard.number}\0" if shard.number else ""
    return f"{lane.tenant}\0{lane.destination}\0{lane.signal}\0{number}".encode()


def parse_key(raw: bytes) -> tuple[Shard, int]:
    """The shard and the sequence of a key. Raises CorruptRecordError."""
    try:
        tenant, destination, signal, *number, _ = raw[: -_SEQUENCE.size].decode().split("\0")
        (sequence,) = _SEQUENCE.unpack(raw[-_SEQUENCE.size :])
        return Shard(Lane(tenant, destination, Signal(signal)), int(number[0]) if number else 0), sequence
    except (ValueError, struct.error) as error:
        raise CorruptRecordError("a key of the queue is not one of ours") from error


def encode(record: Record) -> bytes:
    """The frame: length of the header, header, payload."""
    crc32 = 0
    for part in record.parts:
        crc32 = zlib.crc32(part, crc32)
    header = msgpack.packb(
        {
            "v": FORMAT_VERSION,
            "items": record.items,
            "generation": record.generation,
            "opened_at": record.opened_at,
            "crc32": crc32,
        }
    )
    return b"".join((_LENGTH.pack(len(header)), header, *record.parts))


def decode(shard: Shard, frame: bytes) -> Record:
    """Undo `encode`. Raises CorruptRecordError."""
    header, body = _split(frame)
    payload = memoryview(frame)[body:]
    if zlib.crc32(payload) != header["crc32"]:
        raise CorruptRecordError("the checksum of a record is wrong")
    return Record(shard, header["items"], header["generation"], header["opened_at"], (payload,), len(payload))


def decode_items(frame: bytes) -> tuple[int, float]:
    """Items and opening time, from the header alone. Raises CorruptRecordError."""
    header, _ = _split(frame)
    return header["items"], header["opened_at"]


def _split(frame: bytes) -> tuple[dict[str, int], int]:
    try:
        (length,) = _LENGTH.unpack_from(frame)
        body = _LENGTH.size + length
        header = msgpack.unpackb(frame[_LENGTH.size : body])
        if header["v"] != FORMAT_VERSION or not {"items", "generation", "opened_at", "crc32"} <= header.keys():
            raise CorruptRecordError(f"a record has format {header['v']}, not {FORMAT_VERSION}")
    except (struct.error, ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise CorruptRecordError("a record has no readable header") from error
    return header, body
