"""An oracle for the masking stage: which spans each detector finds in a text, and what masking makes of it.

Written from the specification of the detectors, not from the engine's code, with nothing in mind but to be right.
"""

import re
from collections.abc import Callable

from tests.support import credentials, personal_data
from tests.support.spans import Find, Span, in_bytes


def _by_bytes(find: Find) -> Callable[[str], list[Span]]:
    return lambda text: in_bytes(text, find(text))


DETECTORS: dict[str, Callable[[str], list[Span]]] = {
    name: _by_bytes(find) for name, find in {**personal_data.FINDS, **credentials.FINDS}.items()
}
"""By name: the spans found in a text, as offsets of bytes in UTF-8."""

REPLACEMENTS = {name: f"[{name}]" for name in DETECTORS} | {"url_password": "[password]", "secret_token": "[secret]"}

OPTED_IN = ("uuid", "passport")
"""Found only where the configuration names them."""
DEFAULT = tuple(name for name in DETECTORS if name not in OPTED_IN)

_BARE_VALUE_OF = re.compile(rb'(\\*)"\s*:\s*\Z')


def redact(detector: str, text: str) -> str:
    """`text` with every match replaced. A bare value of JSON gets the quotes of its key, so that it stays JSON."""
    data, out, copied = text.encode(), b"", 0
    for start, end in DETECTORS[detector](text):
        key = _BARE_VALUE_OF.search(data[:start])
        bare = key is not None and re.match(rb"\s*(?:[,}]|\Z)", data[end:]) is not None
        quote = key[1] + b'"' if bare and key is not None else b""
        out += data[copied:start] + quote + REPLACEMENTS[detector].encode() + quote
        copied = end
    return (out + data[copied:]).decode()
