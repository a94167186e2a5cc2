"""Quantities as people write them: `64MiB`, `200ms`."""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def _parse(value: Any, units: dict[str, Any], example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"write a size like {example}")  # noqa: TRY004 - pydantic turns only ValueError into a problem
    match = _QUANTITY.fullmatch(str(value))
    if match is None or (unit := match[2].lower()) not in units:
        raise ValueError(f"write a value like {example}; the units are {', '.join(name for name in units if name)}")
    quantity = float(match[1]) * float(units[unit])
    if not math.isfinite(quantity):
        raise ValueError(f"write a value like {example}; this one is too large")
    return quantity


def parse_bytes(value: Any) -> int:
    """`64MiB`, `10MB` or a plain number of bytes. Raises ValueError."""
    return round(_parse(value, _BYTES, "64MiB"))


def parse_seconds(value: Any) -> float:
    """`200ms`, `5s`, `1m`, `2h` or a plain number of seconds. Raises ValueError."""
    return _parse(value, _SECONDS, "200ms, 5s or 1m")


ByteSize = Annotated[
    int, BeforeValidator(parse_bytes), WithJsonSchema({"type": ["string", "integer"], "examples": ["64MiB"]})
]
"""A number of bytes."""

Seconds = Annotated[
    float, BeforeValidator(parse_seconds), WithJsonSchema({"type": ["string", "number"], "examples": ["200ms", "5s"]})
]
"""A duration in seconds."""
