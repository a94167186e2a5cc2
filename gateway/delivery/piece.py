"""What one request carries: whole records, or after a refusal a part of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.delivery.queue import Stored
from gateway.delivery.record import Part

Format = Literal["remote_write", "loki", "otlp", "lines"]
"""Of payloads, as a destination takes them."""

Halves: TypeAlias = tuple[tuple[bytes, int], tuple[bytes, int]]
Halve = Callable[[bytes], Halves | None]
"""Cuts a payload in two: each half and its items. None: it has one item."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one shard in order; or of one record a fragment."""

    records: Sequence[Stored]
    fragment: tuple[bytes, int] | None = field(default=None, repr=False)
    """Payload and items."""
    ends_record: bool = True
    """No later fragment of the record follows."""

    @property
    def items(self) -> int:
        return self.fragment[1] if self.fragment is not None else sum(stored.record.items for stored in self.records)

    @property
    def size(self) -> int:
        """Bytes before compression."""
        if self.fragment is not None:
            return len(self.fragment[0])
        return sum(stored.record.size for stored in self.records)

    @property
    def parts(self) -> list[Part]:
        if self.fragment is not None:
            return [self.fragment[0]]
        return [part for stored in self.records for part in stored.record.parts]

    def halves(self, halve: Halve) -> "tuple[Piece, Piece] | None":
        """Two pieces that hold the same in the same order; None: there is one item. Raises ValueError: not readable."""
        if len(self.records) > 1:
            middle = len(self.records) // 2
            return Piece(self.records[:middle]), Piece(self.records[middle:])
        payload = self.fragment[0] if self.fragment is not None else self.records[0].record.payload
        cut = halve(payload)
        if cut is None:
            return None
        first, second = cut
        return (
            Piece(self.records, fragment=first, ends_record=False),
            Piece(self.records, fragment=second, ends_record=self.ends_record),
        )


@dataclass(slots=True)
class Tally:
    """What became of the fragments of a record so far, in items."""

    delivered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, items: int) -> None:
        if items:
            self.dropped[reason] = self.dropped.get(reason, 0) + items
