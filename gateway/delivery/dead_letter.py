"""Dead letters: what is given up is kept in a file, one JSON line each, for `gateway replay` (docs/dead-letters.md)."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
import structlog

from gateway.delivery.piece import Format
from gateway.delivery.record import Part
from gateway.delivery.senders.file import File
from gateway.types import Lane, Signal

log = structlog.get_logger(__name__)

_VERSION = 1
_FORMATS: tuple[Format, ...] = ("remote_write", "loki", "otlp", "lines")


class BadLetterError(Exception):
    """A line that is no dead letter; the message says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A request, or a part of one, that a destination did not take. `time`: Unix seconds of giving up."""

    lane: Lane
    format: Format
    reason: str
    items: int
    time: float
    parts: Sequence[Part] = field(repr=False)

    def line(self) -> bytes:
        return orjson.dumps(
            {
                "dead_letter": _VERSION,
                "timestamp": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
                "tenant_id": self.lane.tenant,
                "destination": self.lane.destination,
                "signal": self.lane.signal,
                "format": self.format,
                "reason": self.reason,
                "items": self.items,
                "payload": base64.b64encode(b"".join(self.parts)).decode(),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def parse(cls, line: bytes) -> "Letter":
        """Undo `line`. Raises BadLetterError."""
        try:
            found = orjson.loads(line)
            version = found["dead_letter"]
            if version != _VERSION:
                raise BadLetterError(f"it is a dead letter of version {version}, which this gateway does not know")
            lane = Lane(str(found["tenant_id"]), str(found["destination"]), Signal(found["signal"]))
            if found["format"] not in _FORMATS:
                raise BadLetterError(f"its format is {found['format']!r}, not one of {', '.join(_FORMATS)}")
            payload = base64.b64decode(found["payload"], validate=True)
            at = datetime.fromisoformat(found["timestamp"]).timestamp()
            return cls(lane, found["format"], str(found["reason"]), int(found["items"]), at, (payload,))
        except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, ValueError) as error:
            raise BadLetterError("it is no dead letter (docs/dead-letters.md)") from error


class DeadLetters:
    """A `file` destination that keeps what others do not take."""

    def __init__(self, name: str, file: File) -> None:
        self._name, self._file = name, file
        self._failing = False

    async def keep(self, letter: Letter) -> bool:
        """True: it is on disk. False: try again, it could not be written; the log says so once."""
        try:
            await self._file.append(letter.lane, letter.line())
        except OSError as error:
            if not self._failing:
                log.error("dead letters cannot be written; their lanes wait", destination=self._name, error=str(error))
            self._failing = True
            return False
        self._failing = False
        return True
