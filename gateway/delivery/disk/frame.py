"""A record as bytes: a fixed prefix with checksums, a msgpack header that says whose it is, and the payload.

    magic | version | header length | CRC-32 of payload as stored | CRC-32 of these and the header | header | payload

The header names tenant, destination, signal, shard and sequence, so that a record can be told apart from others, and
found again, without the tree that it stood in. Version 1 had neither magic nor names; it is still read.
"""

import struct
import zlib
from typing import Any, NamedTuple

import msgpack

from gateway._engine import crc32
from gateway.delivery.disk.sealing import NONCE_BYTES, TAG_BYTES, DataKey, DataKeys
from gateway.delivery.record import CorruptRecordError, KeyDeletedError, Record
from gateway.types import Lane, Shard, Signal

FORMAT_VERSION = 2
# Its first byte would be the length of a header of 43 kB in version 1; no text and no protobuf begins like this.
MAGIC = b"\xabTGWREC\x1a"
_CHECKED = struct.Struct(">8sHHI")
_CRC = struct.Struct(">I")
PREFIX_BYTES = _CHECKED.size + _CRC.size
MAX_HEADER_BYTES = 1024
"""Names are bounded (150 and 64 bytes), so that what claims more is damaged."""
HEAD_BYTES = PREFIX_BYTES + MAX_HEADER_BYTES
"""This much of a frame is enough for `read_header`."""
_LENGTH_V1 = struct.Struct(">H")
# Batches are up to 4 MiB unless they are configured otherwise.
_KEPT_BYTES = (4 << 20) + (64 << 10)
_SIGNALS = frozenset(signal.value for signal in Signal)
_KEYS_V1 = frozenset({"v", "items", "generation", "opened_at", "crc32"})


class NewerFrameError(CorruptRecordError):
    """A frame that is whole, and of a version that this one cannot read."""


class Header(NamedTuple):
    """What a frame says before its payload."""

    names: tuple[str, str, str, int] | None
    """Tenant, destination, signal, number of the shard; None in version 1, where only the key says it."""
    sequence: int
    """0 in version 1."""
    items: int
    generation: int
    opened_at: float
    size: int
    """Bytes of the payload before it was encrypted."""
    crc32: int
    """Of the payload as it is stored."""
    queue: bytes
    """Identity of the queue that wrote it."""
    key_id: bytes | None
    """Of the data key that it is encrypted with."""
    nonce: bytes
    body: int
    """Where the payload begins."""
    length: int
    """Of the whole frame."""

    @property
    def shard(self) -> Shard | None:
        if self.names is None:
            return None
        tenant, destination, signal, number = self.names
        return Shard(Lane(tenant, destination, Signal(signal)), number)


def names_of(shard: Shard) -> tuple[str, str, str, int]:
    """As a header has them."""
    lane = shard.lane
    return lane.tenant, lane.destination, lane.signal.value, shard.number


class Encoder:
    """Writes frames, one after another, into the same memory: new memory for each costs more than to encrypt it."""

    def __init__(self, queue: bytes) -> None:
        """`queue` is the identity that frames name."""
        self._queue = queue
        self._memory = bytearray(_KEPT_BYTES)

    def encode(self, sequence: int, record: Record, data_key: DataKey | None) -> memoryview:
        """The frame of `record`, encrypted if there is a key; good until the next one."""
        lane = record.shard.lane
        parts = [memoryview(part).cast("B") for part in record.parts]
        # Counted here, since what is left in the memory of another frame must never be taken for a payload.
        size = sum(map(len, parts))
        fields: dict[str, Any] = {
            "tenant": lane.tenant,
            "destination": lane.destination,
            "signal": lane.signal.value,
            "shard": record.shard.number,
            "sequence": sequence,
            "items": record.items,
            "generation": record.generation,
            "opened_at": record.opened_at,
            "length": size,
            "queue": self._queue,
        }
        nonce = b""
        if data_key is not None:
            nonce = data_key.new_nonce()
            fields |= {"key": data_key.id, "nonce": nonce}
        header: bytes = msgpack.packb(fields)
        body = PREFIX_BYTES + len(header)
        frame = self._room(body + size + (0 if data_key is None else TAG_BYTES))
        if data_key is None:
            payload_crc32, place = crc32(parts), body
            for part in parts:
                end = place + len(part)
                frame[place:end] = part
                place = end
        else:
            data_key.seal_into(frame[body:], nonce, parts, header)
            payload_crc32 = zlib.crc32(frame[body:])
        frame[:body] = _prefix(header, payload_crc32) + header
        return frame

    def _room(self, size: int) -> memoryview:
        if size > len(self._memory):
            return memoryview(bytearray(size))
        return memoryview(self._memory)[:size]


def _prefix(header: bytes, payload_crc32: int) -> bytes:
    checked = _CHECKED.pack(MAGIC, FORMAT_VERSION, len(header), payload_crc32)
    return checked + _CRC.pack(zlib.crc32(header, zlib.crc32(checked)))


def read_header(head: bytes | memoryview, length: int) -> Header:
    """The header of a frame of either version, of which `head` is the beginning and `length` all bytes.

    Raises CorruptRecordError if it is damaged, or belongs to a frame of another length.
    """
    if head[: len(MAGIC)] != MAGIC:
        return _read_header_v1(head, length)
    header = find_header(head)
    if header.length != length:
        raise CorruptRecordError("a record is shorter or longer than its header says")
    return header


def find_header(head: bytes | memoryview) -> Header:
    """The header of a frame of version 2 whose length is not known. Raises CorruptRecordError."""
    try:
        magic, version, header_length, crc32 = _CHECKED.unpack_from(head)
        (header_crc32,) = _CRC.unpack_from(head, _CHECKED.size)
    except struct.error as error:
        raise CorruptRecordError("a record has no readable header") from error
    body = PREFIX_BYTES + header_length
    raw = bytes(head[PREFIX_BYTES:body])
    if magic != MAGIC or len(raw) != header_length:
        raise CorruptRecordError("a record has no readable header")
    if zlib.crc32(raw, zlib.crc32(head[: _CHECKED.size])) != header_crc32:
        raise CorruptRecordError("the checksum of a record's header is wrong")
    if version != FORMAT_VERSION:
        raise NewerFrameError(f"a record has format {version}, not {FORMAT_VERSION}")
    try:
        fields = msgpack.unpackb(raw)
        names = fields["tenant"], fields["destination"], fields["signal"], fields["shard"]
        key_id, nonce, size = fields.get("key"), fields.get("nonce", b""), fields["length"]
        known = names[2] in _SIGNALS and (key_id is None or len(nonce) == NONCE_BYTES)
        header = Header(
            names,
            fields["sequence"],
            fields["items"],
            fields["generation"],
            fields["opened_at"],
            size,
            crc32,
            fields["queue"],
            key_id,
            nonce,
            body,
            body + size + (0 if key_id is None else TAG_BYTES),
        )
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise NewerFrameError("a record's header is whole, and not one of ours") from error
    if not known:
        raise NewerFrameError(f"a record's header is whole, and names the signal {names[2]!r}")
    return header


def decode(shard: Shard, sequence: int, frame: bytes | memoryview, keys: DataKeys | None) -> Record:
    """The record that stands under a key, independent of the memory of `frame`.

    Raises CorruptRecordError, or KeyDeletedError if it is encrypted with a key that is gone.
    """
    header = read_header(frame, len(frame))
    if header.names is not None and (header.names, header.sequence) != (names_of(shard), sequence):
        raise CorruptRecordError("a record stands under the key of another", items=header.items, size=header.size)
    payload = bytes(frame[header.body :])
    if crc32([payload]) != header.crc32:
        raise CorruptRecordError("the checksum of a record is wrong", items=header.items, size=header.size)
    if header.key_id is not None:
        data_key = None if keys is None else keys.find(shard.lane.tenant, header.key_id)
        if data_key is None:
            message = f"the key of {shard.lane.tenant} that a record is encrypted with was deleted"
            raise KeyDeletedError(message, items=header.items, size=header.size)
        opened = data_key.open(header.nonce, payload, bytes(frame[PREFIX_BYTES : header.body]))
        if opened is None:
            message = "a record is not what was encrypted under its header"
            raise CorruptRecordError(message, items=header.items, size=header.size)
        payload = opened
    return Record(shard, header.items, header.generation, header.opened_at, (payload,), len(payload))


def _read_header_v1(head: bytes | memoryview, length: int) -> Header:
    try:
        (header_length,) = _LENGTH_V1.unpack_from(head)
        body = _LENGTH_V1.size + header_length
        fields = msgpack.unpackb(head[_LENGTH_V1.size : body])
        if fields["v"] != 1 or not fields.keys() >= _KEYS_V1 or body > length:
            raise CorruptRecordError(f"a record has format {fields['v']}, and none of its marks")
        items, generation, opened_at, crc32 = (fields[name] for name in ("items", "generation", "opened_at", "crc32"))
        whole = all(isinstance(number, int) for number in (items, generation, crc32)) and isinstance(opened_at, float)
        if not whole:
            raise CorruptRecordError("a record has no readable header")
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise CorruptRecordError("a record has no readable header") from error
    return Header(None, 0, items, generation, opened_at, length - body, crc32, b"", None, b"", body, length)
