"""A destination with what all tenants share of it."""

from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from gateway._engine import halve
from gateway.config.destinations import (
    Destination,
    FileDestination,
    LokiDestination,
    OtlpDestination,
    RemoteWriteDestination,
)
from gateway.config.destinations import Retry as RetryConfig
from gateway.delivery.dead_letter import DeadLetters
from gateway.delivery.fair_slots import FairSlots
from gateway.delivery.pace import Pace
from gateway.delivery.piece import Format, Halve
from gateway.delivery.senders.destinations import Sender
from gateway.types import Signal

# Requests under way to one destination, of all its tenants, and what they carry before compression.
MAX_REQUESTS_PER_DESTINATION = 32
# Beside them, requests that take long while others wait.
_MAX_SLOW_REQUESTS = 256
_MAX_BYTES_UNDER_WAY = 32 << 20
# What is written to a file at once.
_FILE_REQUEST_BYTES = 4 << 20


@dataclass(slots=True, eq=False)
class Outlet:
    """Where requests leave. It outlives a reload that does not change its configuration."""

    name: str
    config: Destination
    sender: Sender
    letters_config: Destination | None = None
    dead_letters: DeadLetters | None = None
    """Where what the backend refuses is kept; None: nowhere."""
    slots: FairSlots = field(
        default_factory=lambda: FairSlots(
            MAX_REQUESTS_PER_DESTINATION, _MAX_BYTES_UNDER_WAY, slow_slots=_MAX_SLOW_REQUESTS
        )
    )
    paces: dict[str, Pace] = field(default_factory=dict)
    taking_apart: set[object] = field(default_factory=set)
    """Couriers that hold pieces of a refused request."""

    @property
    def retry(self) -> RetryConfig:
        return RetryConfig() if isinstance(self.config, FileDestination) else self.config.retry

    @property
    def max_request_bytes(self) -> int:
        return _FILE_REQUEST_BYTES if isinstance(self.config, FileDestination) else self.config.max_request_bytes

    def pace(self, tenant: str) -> Pace:
        """That of a tenant, the same for all its signals and shards."""
        pace = self.paces.get(tenant)
        if pace is None:
            shards = 1 if isinstance(self.config, FileDestination) else self.config.shards
            # Signals do not wait for each other either.
            pace = self.paces[tenant] = Pace(self.retry, shards * len(Signal))
        return pace

    def probe_now(self) -> None:
        """Somebody may have mended what fails."""
        for pace in self.paces.values():
            pace.probe_now()

    @property
    def format(self) -> Format:
        return format_of(self.config)

    def halve(self, signal: Signal) -> Halve:
        """How payloads are cut in two."""
        format_ = self.format
        return (lambda _lines: None) if format_ == "lines" else partial(halve, format_, signal.value)


def format_of(config: Destination) -> Format:
    """Of the payloads that a destination takes."""
    match config:
        case RemoteWriteDestination():
            return "remote_write"
        case LokiDestination():
            return "loki"
        case OtlpDestination():
            return "otlp"
        case FileDestination():
            return "lines"
        case _:
            assert_never(config)
