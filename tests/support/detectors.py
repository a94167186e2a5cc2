"""An oracle for the masking stage: which spans each detector finds in a text, and what masking makes of it.

Written from the specification of the detectors, not from the engine's code, with nothing in mind but to be right.
"""

import re

from tests.support import credentials, personal_data
from tests.support.readings import spans_in
from tests.support.spans import Find, Span, united

DETECTORS: dict[str, Find] = {**personal_data.FINDS, **credentials.FINDS}
"""By name: the spans found in one reading of a text."""

REPLACEMENTS = {name: f"[{name}]" for name in DETECTORS} | {"url_password": "[password]", "secret_token": "[secret]"}

OPTED_IN = ("uuid", "passport")
"""Found only where the configuration names them."""
DEFAULT = tuple(name for name in DETECTORS if name not in OPTED_IN)

_NUMBER = rb"[-+.0-9eE]*"
_VALUE_OF_KEY = re.compile(rb'(?<!\\)(?P<level>\\*)"\s*:\s*(?=' + _NUMBER + rb"\Z)")
_IN_ARRAY = re.compile(rb"[\[,]\s*(?=" + _NUMBER + rb"\Z)")
_LEVELS = (0, 1, 3, 7, 15)
"""Backslashes before a quote: each level of JSON in a string of JSON doubles them and adds one."""


def spans(detector: str, text: str) -> list[Span]:
    """What is replaced, as offsets of bytes: what stands in any reading of the text, united where it overlaps."""
    return [span for span, _ in _replaced(detector, text.encode())]


def redact(detector: str, text: str) -> str:
    """`text` with every match replaced. A bare number of JSON goes whole and gets quotes, so that it stays JSON."""
    data, out, copied = text.encode(), b"", 0
    for (start, end), quote in _replaced(detector, data):
        out += data[copied:start] + quote + REPLACEMENTS[detector].encode() + quote
        copied = end
    return (out + data[copied:]).decode()


def _replaced(detector: str, data: bytes) -> list[tuple[Span, bytes]]:
    """What goes, and what encloses its replacement. Quotes do only where one match is all that is replaced."""
    found = [_bare_value(data, span) for span in spans_in(data.decode(), DETECTORS[detector])]
    quotes = dict(found)
    return [(span, quotes.get(span, b"")) for span in united(span for span, _ in found)]


def _bare_value(data: bytes, span: Span) -> tuple[Span, bytes]:
    start, end = span
    if re.fullmatch(rb"[0-9]+", data[start:end]) is None:
        return span, b""
    digits_after = re.match(_NUMBER, data[end:])
    assert digits_after is not None
    after = data[end + digits_after.end() :].lstrip()
    key = _VALUE_OF_KEY.search(data[:start])
    if key is not None and len(key["level"]) in _LEVELS and (not after or after[:1] in b",}"):
        return (key.end(), end + digits_after.end()), key["level"] + b'"'
    array = _IN_ARRAY.search(data[:start])
    if array is not None and after[:1] in (b",", b"]") and data.lstrip()[:1] in (b"[", b"{"):
        before = re.findall(rb'(\\*)"', data[: array.start()])
        return (array.end(), end + digits_after.end()), (before[-1] if before else b"") + b'"'
    return span, b""
