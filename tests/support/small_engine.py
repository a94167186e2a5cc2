"""An engine that hands out what a test closes."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.types import Lane, Signal

LANE = Lane("acme", "backend", Signal.LOGS)


@dataclass
class Batch:
    """As the engine hands it out."""

    id: int
    payload: bytes
    items: int = 10
    tenant: str = "acme"
    destination: str = "backend"
    signal: str = "logs"
    shard: int = 0
    generation: int = 1
    opened_at: float = 1_700_000_000.0

    @property
    def parts(self) -> list[bytes]:
        return [self.payload]

    @property
    def size(self) -> int:
        return len(self.payload)


@dataclass
class SmallEngine:
    """Hands out what a test closes, and remembers what it was told."""

    closed: list[Batch] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    gates: list[str | None] = field(default_factory=list)
    closed_gates: dict[str, str] = field(default_factory=dict)
    """Of tenants."""

    def __post_init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def close_batch(self, batch: Batch) -> None:
        self.close_batches([batch])

    def close_batches(self, batches: Sequence[Batch]) -> None:
        """At once: they are one commit."""
        self.closed += batches
        os.eventfd_write(self.fd, 1)

    def event_fd(self) -> int:
        return self.fd

    def drain(self) -> list[Batch]:
        os.eventfd_read(self.fd) if self.closed else None
        closed, self.closed = self.closed, []
        return closed

    def ack(self, ids: Any) -> None:
        self.acked += ids

    def fail(self, ids: Any) -> None:
        self.failed += ids

    def gate(self, tenant: str | None, reason: str | None) -> None:
        """Of everybody, if no tenant is named."""
        if tenant is None:
            self.gates.append(reason)
        elif reason is None:
            del self.closed_gates[tenant]
        else:
            self.closed_gates[tenant] = reason


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen"
        await asyncio.sleep(0.005)
