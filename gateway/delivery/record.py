"""One batch: whose it is, what it counts, and its payload as the destination wants it, uncompressed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway._engine import Chunk
from gateway.types import Shard

Part: TypeAlias = bytes | memoryview | Chunk
"""Some of a payload, never copied on its way from the engine or the disk to the backend."""


class CorruptRecordError(Exception):
    """A record that cannot be read: a checksum, or the frame, is not right.

    `args` are the message, the record's sequence, and the bytes of its payload; `items` is how many items it holds, or
    None if its header cannot be read either.
    """

    def __init__(self, message: str, sequence: int = 0, size: int = 0, items: int | None = None) -> None:
        super().__init__(message, sequence, size)
        self.items = items

    def __str__(self) -> str:
        return str(self.args[0])


class KeyDeletedError(CorruptRecordError):
    """A record that is whole, but whose tenant's data key was deleted: nobody can read it any more."""


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
