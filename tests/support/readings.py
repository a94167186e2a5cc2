"""The readings of a text that masking looks at: as it is, with encodings taken off it, and what its base64 tokens hold.

Percent-encoding (RFC 3986), the `+` of forms and JSON's escapes of characters (RFC 8259) are taken off together, and
that twice; base64 (RFC 4648) once.
"""

import base64
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.spans import Find, Span

LAYERS = 2
_UNIT = re.compile(rb"%(?P<byte>[0-9A-Fa-f]{2})|\\+u(?P<code>[0-9A-Fa-f]{4})|.", re.DOTALL)

SHORTEST_TOKEN = 24
_TOKEN = re.compile(rb"(?P<digits>[A-Za-z0-9+/_-]{%d,})={0,2}" % SHORTEST_TOKEN)
# Text, as far as the first digits of a token tell it.
_PROBE = 16
_PRINTABLE = frozenset(string.printable.encode()) - frozenset(b"\x0b\x0c")


@dataclass(frozen=True)
class Reading:
    text: bytes
    sources: tuple[Span, ...]
    """By byte of `text`: what it was written as."""
    whole: bool = False
    """A token of base64: of what is found in it all goes."""

    def source_of(self, span: Span) -> Span:
        start, end = (0, len(self.text)) if self.whole else span
        return self.sources[start][0], self.sources[end - 1][1]


def spans_in(text: str, find: Find) -> list[Span]:
    """What a detector finds in any reading, as offsets of bytes in `text`."""
    found = []
    for reading in readings(text.encode()):
        as_text = reading.text.decode(errors="surrogateescape")
        found += [
            reading.source_of((_in_bytes(as_text, start), _in_bytes(as_text, end))) for start, end in find(as_text)
        ]
    return found


def _in_bytes(text: str, offset: int) -> int:
    return len(text[:offset].encode(errors="surrogateescape"))


def readings(text: bytes) -> Iterator[Reading]:
    reading = Reading(text, tuple((at, at + 1) for at in range(len(text))))
    yield reading
    yield from _tokens(text)
    for _ in range(LAYERS):
        decoded = _without_escapes(reading)
        if decoded.text == reading.text:
            return
        yield decoded
        reading = decoded


def _without_escapes(reading: Reading) -> Reading:
    # A form is told by its `=`; elsewhere a plus is a plus.
    is_form = b"=" in reading.text
    text, sources = b"", []
    for unit in _UNIT.finditer(reading.text):
        if unit["byte"]:
            decoded = bytes.fromhex(unit["byte"].decode())
        elif unit["code"]:
            # Halves of surrogate pairs are no characters.
            decoded = chr(int(unit["code"], 16)).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        else:
            decoded = b" " if unit[0] == b"+" and is_form else unit[0]
        text += decoded
        sources += [(reading.sources[unit.start()][0], reading.sources[unit.end() - 1][1])] * len(decoded)
    return Reading(text, tuple(sources))


def _tokens(text: bytes) -> Iterator[Reading]:
    for token in _TOKEN.finditer(text):
        digits = token["digits"]
        # A slash is a digit, but may as well part the token from a path in front of it.
        for start in (0, *(slash.end() for slash in re.finditer(rb"/", digits))):
            probe = _decoded(digits[start : start + _PROBE])
            if len(digits) - start >= SHORTEST_TOKEN and _PRINTABLE.issuperset(probe):
                decoded = _decoded(digits[start:])
                span = (token.start() + start, token.end())
                yield Reading(decoded, (span,) * len(decoded), whole=True)
                break


def _decoded(digits: bytes) -> bytes:
    complete = digits[: len(digits) - (len(digits) % 4 == 1)]
    return base64.b64decode(complete.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(complete) % 4))
