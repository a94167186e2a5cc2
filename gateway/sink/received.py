"""What arrived, decoded, and how to look through it."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["sample", "histogram", "log", "span", "metadata"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One sample, native histogram, log line or span, for people: a line of text, and all of it for searching.

    `metadata` is text that comes beside them, such as the help of a metric.
    """

    kind: Kind
    tenant: str
    line: str
    everything: Any = field(repr=False)


@dataclass
class Received:
    """Counts of everything, the last arrivals whole. `places` finds text in those that were kept."""

    max_kept: int = 200_000
    kept: deque[Arrival] = field(default_factory=deque)
    counts: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, arrival: Arrival) -> None:
        self.counts[arrival.kind, arrival.tenant] += 1
        self.keep(arrival)

    def keep(self, arrival: Arrival) -> None:
        """To be shown and searched, but not an item that a backend counts."""
        self.kept.append(arrival)
        while len(self.kept) > self.max_kept:
            self.kept.popleft()

    def complain(self, violation: str) -> None:
        """A real backend would have refused this."""
        if len(self.violations) < 100:
            self.violations.append(violation)

    def places(self, text: str) -> list[str]:
        """The arrivals in which `text` stands anywhere."""
        return [f"{a.kind} of {a.tenant}: {a.line}" for a in self.kept if any(text in s for s in strings(a.everything))]


def strings(value: Any) -> Iterator[str]:
    """Every string in nested lists, tuples and mappings, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)
