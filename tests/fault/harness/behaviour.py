"""How the scripted backend treats a tenant: one behaviour a request, drawn from a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


class Kind(StrEnum):
    """What happens to a request, once its head was read."""

    ANSWER = "answer"
    """The body is read, and `status` with `headers` and `body` answered."""
    RESET = "reset"
    """Half of the body is read, and the connection reset."""
    RESET_AFTER = "reset after"
    """The whole body is read, and the connection reset instead of an answer."""
    CUT = "cut"
    """Half an answer, then the end of the connection."""
    HANG = "hang"
    """The body is read, and nothing answered."""
    GARBAGE = "garbage"
    """Bytes that are no HTTP are answered."""
    SLOW_READ = "slow read"
    """The body is read in sips, then `status` answered."""


@dataclass(frozen=True)
class Behaviour:
    """`share` weighs it against the others of a plan."""

    kind: Kind = Kind.ANSWER
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    """Of the answer, in hexadecimal."""
    delay_s: float = 0.0
    """Before the answer."""
    stores: bool | None = None
    """Whether the items are kept; by default if the answer says so."""
    refuses: int = 0
    """How many items of an OTLP request, its last ones, are not kept."""
    share: float = 1.0

    @property
    def keeps_items(self) -> bool:
        if self.stores is not None:
            return self.stores
        return self.kind in (Kind.ANSWER, Kind.SLOW_READ) and 200 <= self.status < 300 and self.status != 260

    @property
    def answers_well(self) -> bool:
        """The sender learns that the items are kept."""
        return self.kind in (Kind.ANSWER, Kind.SLOW_READ) and self.keeps_items and 200 <= self.status < 300

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{**value, "kind": Kind(value["kind"])})


OK = Behaviour()
EVERYBODY = "*"
"""The tenant of a plan for those who have none of their own."""
Plan = Sequence[Behaviour]


def refusing(status: int, **headers: str) -> Behaviour:
    """An error status; underscores of header names stand for hyphens."""
    return Behaviour(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})
