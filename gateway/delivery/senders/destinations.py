"""The registry of destination kinds: one line each."""

from collections.abc import Sequence
from typing import Protocol, assert_never

import aiohttp

from gateway.config.destinations import (
    Destination,
    FileDestination,
    LokiDestination,
    OtlpDestination,
    RemoteWriteDestination,
)
from gateway.delivery.record import Part
from gateway.delivery.senders.file import File
from gateway.delivery.senders.loki import Loki
from gateway.delivery.senders.otlp_http import OtlpHttp
from gateway.delivery.senders.outcome import Outcome
from gateway.delivery.senders.remote_write import RemoteWrite
from gateway.delivery.workbench import Workbench
from gateway.types import Lane


class Sender(Protocol):
    """One destination. `send` raises nothing: whatever goes wrong is an outcome."""

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        """Deliver the parts, which join to one request in the destination's format."""

    async def close(self) -> None:
        """Give up connections."""


def open_sender(config: Destination, session: aiohttp.ClientSession, workbench: Workbench | None = None) -> Sender:
    """`workbench`: where it compresses, if shared with others. Raises OSError or ValueError for files of TLS."""
    workbench = workbench or Workbench()
    match config:
        case RemoteWriteDestination():
            return RemoteWrite(config, session, workbench)
        case LokiDestination():
            return Loki(config, session, workbench)
        case OtlpDestination(protocol="grpc"):
            # grpcio takes 8 MiB, which a daemon without such a destination need not spend.
            from gateway.delivery.senders.otlp_grpc import OtlpGrpc

            return OtlpGrpc(config, session)
        case OtlpDestination():
            return OtlpHttp(config, session, workbench)
        case FileDestination():
            return File(config)
        case _:
            assert_never(config)
