"""What a source of keys is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.pseudonyms.keys import HeldKeys, OwnedVersion


class SourceProblem(Exception):  # noqa: N818 - it is one sentence for people
    """Why keys cannot be had; the message says what to do and holds no secret."""


@dataclass(slots=True)
class Reading:
    """What one look at a source found."""

    found: dict[OwnedVersion, bytearray] = field(default_factory=dict, repr=False)
    """New or changed keys; those that are held already may be left out."""
    problems: list[str] = field(default_factory=list)
    """Why something could not be had; the look is repeated soon."""
    notes: list[str] = field(default_factory=list)
    """What people should know, though nothing is amiss with the look."""


class Source(Protocol):
    """Where the versions of one key come from."""

    @property
    def interval_s(self) -> float:
        """How long after a look without problems the next one is due."""

    async def read(self, owners: Sequence[str], held: HeldKeys) -> Reading:
        """Look for keys of `owners`. Never raises for what can go wrong outside."""
