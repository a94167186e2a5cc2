"""A frame proves itself: what was changed in it is never taken for what was written."""

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.disk import frame as frames
from gateway.delivery.disk.frame import MAGIC, Encoder, decode, read_header
from gateway.delivery.disk.keys import key, key_v1, parse_key
from gateway.delivery.disk.sealing import DataKey
from gateway.delivery.record import CorruptRecordError, Record
from gateway.types import Lane, Shard, Signal
from tests.support.queue import OPENED_AT, frame_v1, record, shard
from tests.support.queue import key_v1 as written_key_v1

QUEUE = bytes(range(16))
NAMES = st.text("abcXYZ019!_.*'()-", min_size=1, max_size=20)
SHARDS = st.builds(
    Shard, st.builds(Lane, NAMES, NAMES, st.sampled_from(Signal)), st.integers(min_value=0, max_value=(1 << 32) - 1)
)
SEQUENCES = st.integers(min_value=0, max_value=(1 << 64) - 1)


def encode(sequence: int, record: Record, queue: bytes, data_key: DataKey | None) -> bytes:
    return bytes(Encoder(queue).encode(sequence, record, data_key))


class KnownKeys:
    """Stands in for the folder of data keys."""

    def __init__(self, **keys: DataKey) -> None:
        self._keys = keys

    def find(self, tenant: str, key_id: bytes) -> DataKey | None:
        found = self._keys.get(tenant)
        return found if found is not None and found.id == key_id else None


ACME = DataKey(b"k" * 8, b"\x01" * 32)


@given(SHARDS, SEQUENCES, st.lists(st.binary(max_size=300), max_size=4), st.booleans())
def test_what_is_encoded_is_decoded(where: Shard, sequence: int, parts: list[bytes], encrypted: bool) -> None:
    size = sum(map(len, parts))
    made = Record(where, 7, 3, OPENED_AT, parts, size)
    frame = encode(sequence, made, QUEUE, ACME if encrypted else None)
    read = decode(where, sequence, frame, KnownKeys(**{where.lane.tenant: ACME}))  # type: ignore[arg-type]
    assert read.payload == made.payload
    assert (read.shard, read.items, read.generation, read.opened_at, read.size) == (where, 7, 3, OPENED_AT, size)
    header = read_header(frame[: frames.HEAD_BYTES], len(frame))
    assert (header.shard, header.sequence, header.size) == (where, sequence, size)


@given(st.binary(min_size=1, max_size=200), st.booleans(), st.data())
def test_no_changed_bit_is_taken_for_what_was_written(content: bytes, encrypted: bool, data: st.DataObject) -> None:
    whole = encode(5, record(content=content), QUEUE, ACME if encrypted else None)
    changed = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=4, unique=True)):
        changed[place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptRecordError):
        decode(shard(), 5, bytes(changed), KnownKeys(acme=ACME))  # type: ignore[arg-type]


@given(st.binary(max_size=200), st.data())
def test_no_end_that_is_missing_goes_unnoticed(content: bytes, data: st.DataObject) -> None:
    whole = encode(5, record(content=content), QUEUE, None)
    with pytest.raises(CorruptRecordError):
        decode(shard(), 5, whole[: data.draw(st.integers(0, len(whole) - 1))], None)


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=200).map(lambda rest: MAGIC + rest)))
def test_whatever_lies_there_is_refused_as_corrupt(found: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        decode(shard(), 5, found, None)


@given(st.binary(max_size=200), st.data())
def test_of_version_1_no_changed_payload_is_taken(content: bytes, data: st.DataObject) -> None:
    whole = bytearray(frame_v1(content + b"x"))
    place = data.draw(st.integers(0, 8 * len(content) + 7))
    whole[len(whole) - 1 - place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptRecordError):
        decode(shard(), 5, bytes(whole), None)


def test_version_1_is_read() -> None:
    read = decode(shard(), 5, frame_v1(b"old", items=9), None)
    assert (read.payload, read.items, read.opened_at, read.size) == (b"old", 9, OPENED_AT, 3)


def test_a_newer_frame_is_not_taken_for_a_damaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FORMAT_VERSION", 3)
    newer = encode(5, record(), QUEUE, None)
    monkeypatch.undo()
    with pytest.raises(frames.NewerFrameError, match="format 3, not 2"):
        read_header(newer, len(newer))


@pytest.mark.parametrize(
    ("where", "sequence"), [(shard("other"), 5), (shard(number=1), 5), (shard(destination="other"), 5), (shard(), 6)]
)
def test_a_record_under_the_key_of_another_is_corrupt(where: Shard, sequence: int) -> None:
    with pytest.raises(CorruptRecordError, match="under the key of another"):
        decode(where, sequence, encode(5, record(), QUEUE, None), None)


def test_a_header_says_how_many_items_a_corrupt_record_had() -> None:
    frame = encode(5, record(items=11), QUEUE, None)
    with pytest.raises(CorruptRecordError) as raised:
        decode(shard(), 5, frame[:-1] + b"!", None)
    assert raised.value.items == 11


def test_a_payload_cannot_be_put_under_the_header_of_another_tenant() -> None:
    """Whoever can write to the disk moves what one tenant sent to another: the header is part of what is sealed."""
    whole = encode(5, record(content=b"secret of acme"), QUEUE, ACME)
    header = read_header(whole, len(whole))
    fields = msgpack.unpackb(whole[frames.PREFIX_BYTES : header.body])
    for name, value in {"tenant": "thief", "sequence": 6, "destination": "other", "items": 1, "shard": 2}.items():
        forged = msgpack.packb(fields | {name: value})
        moved = frames._prefix(forged, header.crc32) + forged + whole[header.body :]
        shown = read_header(moved, len(moved))
        assert shown.shard is not None
        # Even if the thief's key were the same.
        keys = KnownKeys(acme=ACME, thief=ACME)
        with pytest.raises(CorruptRecordError, match="not what was encrypted under its header"):
            decode(shown.shard, shown.sequence, moved, keys)  # type: ignore[arg-type]


def test_a_forged_header_length_is_no_trap() -> None:
    whole = bytearray(encode(5, record(), QUEUE, None))
    struct.pack_into(">H", whole, 10, 65535)
    with pytest.raises(CorruptRecordError):
        read_header(bytes(whole), len(whole))


@given(SHARDS, SEQUENCES)
def test_keys_name_their_shard_and_sequence(where: Shard, sequence: int) -> None:
    assert parse_key(key(where, sequence)) == (where, sequence)
    assert parse_key(key_v1(where, sequence)) == (where, sequence)
    assert key_v1(where, sequence) == written_key_v1(where, sequence)


@given(SHARDS, SHARDS, SEQUENCES, SEQUENCES)
def test_keys_of_a_shard_are_not_among_those_of_another(one: Shard, other: Shard, first: int, second: int) -> None:
    if one == other:
        assert (key(one, first) < key(one, second)) == (first < second)
    else:
        assert not key(other, second).startswith(key(one, first)[:-8])


@given(st.binary(max_size=60))
def test_other_keys_are_refused(raw: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        parse_key(raw)
