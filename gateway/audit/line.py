"""One line of the trail: what it holds, and what makes it whole.

    {"v":1,"seq":7,"time":…,"event":…,"actor":…,"tenant":…,"generation":…,"details":{…},"previous":"…","hash":"…"}

`hash` is the SHA-256 of all bytes before `,"hash"`; `previous` is the `hash` of the line before. An anchor has a
`signature` just before its hash, over all bytes before `,"signature"`: so it signs its time, its sequence and, by
`previous`, every line before it.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.audit.event import Event, EventType, bounded

FORMAT_VERSION = 1
MAX_LINE_BYTES = 256 << 10
_MAX_DETAILS_BYTES = 128 << 10
# Signed bytes begin with this, so that a signature made for anything else can never pass for an anchor.
_DOMAIN = b"telemetry gateway audit anchor 1\n"
_HASH = re.compile(rb',"hash":"([0-9a-f]{64})"\}\Z')
_SIGNATURE = re.compile(rb',"signature":"([A-Za-z0-9+/]{86}==)"\Z')


class BrokenLineError(Exception):
    """A line is not as it was written; the message says how one sees it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: its last line's sequence and hash."""

    sequence: int
    hash: str

    def after(self, line_hash: str) -> "Head":
        return Head(self.sequence + 1, line_hash)


GENESIS = Head(0, "0" * 64)
"""What the first line of all follows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is whole in itself; whether it is where it belongs is `verify`'s to say."""

    sequence: int
    event: str
    previous: str
    hash: str
    time: str
    details: dict[str, Any]
    signature: bytes | None = field(repr=False)
    signed: bytes = field(repr=False)

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.hash)

    @property
    def anchor_kind(self) -> str | None:
        """Of an anchor: open, close, start or stop."""
        return str(self.details.get("kind")) if self.event == EventType.ANCHOR else None


def encode(event: Event, head: Head) -> tuple[bytes, Head]:
    """The line that follows `head`, newline included, and the new head."""
    return _seal(_content(event, head), head)


def encode_anchor(event: Event, head: Head, key: Ed25519PrivateKey) -> tuple[bytes, Head]:
    """`encode` for an anchor, signed."""
    content = _content(event, head)
    signature = base64.b64encode(key.sign(_DOMAIN + content))
    return _seal(content + b',"signature":"' + signature + b'"', head)


def _content(event: Event, head: Head) -> bytes:
    details = orjson.dumps(bounded(event.details))
    if len(details) > _MAX_DETAILS_BYTES:
        details = orjson.dumps({"left_out": f"{len(details)} bytes of details, too many for a line"})
    return orjson.dumps(
        {
            "v": FORMAT_VERSION,
            "seq": head.sequence + 1,
            "time": event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "event": event.type.value,
            "actor": bounded(event.actor),
            "tenant": bounded(event.tenant),
            "generation": event.generation,
            "details": orjson.Fragment(details),
            "previous": head.hash,
        }
    )[:-1]


def _seal(content: bytes, head: Head) -> tuple[bytes, Head]:
    line_hash = hashlib.sha256(content).hexdigest()
    return content + b',"hash":"' + line_hash.encode() + b'"}\n', head.after(line_hash)


def parse(raw: bytes) -> Line:
    """Read a line, without its newline. Raises BrokenLineError if it is not whole."""
    sealed = _HASH.search(raw)
    if sealed is None:
        raise BrokenLineError("it does not end with its hash")
    content = raw[: sealed.start()]
    if hashlib.sha256(content).hexdigest().encode() != sealed[1]:
        raise BrokenLineError("its hash is not that of its content: it was changed")
    signature = _SIGNATURE.search(content)
    try:
        values = orjson.loads(raw)
        if values["v"] != FORMAT_VERSION:
            raise BrokenLineError(f"it has format {values['v']}, not {FORMAT_VERSION}: a newer gateway wrote it")
        datetime.strptime(values["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        line = Line(
            sequence=values["seq"],
            event=values["event"],
            previous=values["previous"],
            hash=values["hash"],
            time=values["time"],
            details=values["details"],
            signature=base64.b64decode(signature[1]) if signature else None,
            signed=content[: signature.start()] if signature else content,
        )
    except (ValueError, KeyError, TypeError):
        raise BrokenLineError("it is not a line that the gateway writes") from None
    if not isinstance(line.sequence, int) or not isinstance(line.details, dict):
        raise BrokenLineError("it is not a line that the gateway writes")
    return line


def signed_by(line: Line, key: Ed25519PublicKey) -> bool:
    """Whether `key` signed this anchor as it stands."""
    try:
        key.verify(line.signature or b"", _DOMAIN + line.signed)
    except InvalidSignature:
        return False
    return True
