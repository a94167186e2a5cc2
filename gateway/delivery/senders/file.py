"""OTLP JSON lines on disk, rotated by size. Source: OTLP File Exporter specification (one request a line)."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from gateway.config.destinations import FileDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.outcome import Delivered, Outcome, Retry
from gateway.delivery.threads import in_thread
from gateway.types import Lane


class File:
    """A file for all tenants, or one each if the path says so."""

    def __init__(self, config: FileDestination) -> None:
        self._config = config
        # Lanes may share a file: one write at a time keeps lines whole across a rotation.
        self._writing = asyncio.Lock()

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        try:
            await self.append(lane, b"".join(parts))
        except OSError:
            return Retry("write_error")
        return Delivered()

    async def append(self, lane: Lane, lines: bytes) -> None:
        """Whole lines, which are on disk when this returns. Raises OSError: then none of them is there."""
        path = Path(str(self._config.path).replace("{tenant}", lane.tenant).replace("{signal}", lane.signal))
        async with self._writing:
            await in_thread(lambda: self._append(path, lines))

    def _append(self, path: Path, lines: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size + len(lines) > self._config.max_bytes:
            self._rotate(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            start = os.fstat(descriptor).st_size
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                # Half a line would spoil the next: a retry starts from where this began.
                os.ftruncate(descriptor, start)
                raise
            # A delivered batch leaves the durable queue, so it must be durable here.
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _rotate(self, path: Path) -> None:
        for number in range(self._config.max_files, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)

    async def close(self) -> None:
        """Files are open only while they are written."""
