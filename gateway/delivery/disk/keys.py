"""Keys of the queue's records in LMDB: those of one shard stand side by side, oldest first.

Version 2 begins with a byte that no tenant's name begins with, and has a shard's number and the sequence in twelve
bytes at its end. In version 1 the first shard went without a number, so that its prefix was one of all the others'.
"""

import struct

from gateway.delivery.record import CorruptRecordError
from gateway.types import Lane, Shard, Signal

_MARK = b"\x02"
_NUMBER = struct.Struct(">I")
_SEQUENCE = struct.Struct(">Q")
_PLACE = struct.Struct(">IQ")


def key(shard: Shard, sequence: int) -> bytes:
    """Where the record of this sequence stands."""
    return shard_prefix(shard) + _SEQUENCE.pack(sequence)


def shard_prefix(shard: Shard) -> bytes:
    """What the keys of this shard begin with, and no others."""
    return lane_prefix(shard.lane) + _NUMBER.pack(shard.number)


def lane_prefix(lane: Lane) -> bytes:
    return tenant_prefix(lane.tenant) + f"{lane.destination}\0{lane.signal}\0".encode()


def tenant_prefix(tenant: str) -> bytes:
    """What the keys of this tenant begin with, and no others: NUL can be in none of the names."""
    return _MARK + f"{tenant}\0".encode()


def key_v1(shard: Shard, sequence: int) -> bytes:
    """Where version 1 would have put it."""
    lane = shard.lane
    number = f"{shard.number}\0" if shard.number else ""
    return f"{lane.tenant}\0{lane.destination}\0{lane.signal}\0{number}".encode() + _SEQUENCE.pack(sequence)


def tenant_prefix_v1(tenant: str) -> bytes:
    return f"{tenant}\0".encode()


def parse_key(raw: bytes) -> tuple[Shard, int]:
    """The shard and the sequence of a key of either version. Raises CorruptRecordError."""
    try:
        if is_v1(raw):
            tenant, destination, signal, *written, _ = raw[: -_SEQUENCE.size].decode().split("\0")
            number = int(written[0]) if written else 0
            (sequence,) = _SEQUENCE.unpack(raw[-_SEQUENCE.size :])
            shard = Shard(Lane(tenant, destination, Signal(signal)), number)
            made_again = key_v1(shard, sequence)
        else:
            tenant, destination, signal, _ = raw[len(_MARK) : -_PLACE.size].decode().split("\0")
            number, sequence = _PLACE.unpack(raw[-_PLACE.size :])
            shard = Shard(Lane(tenant, destination, Signal(signal)), number)
            made_again = key(shard, sequence)
    except (ValueError, struct.error) as error:
        raise CorruptRecordError("a key of the queue is not one of ours") from error
    if made_again != raw:
        raise CorruptRecordError("a key of the queue is not one of ours")
    return shard, sequence


def is_v1(raw: bytes) -> bool:
    return not raw.startswith(_MARK)
