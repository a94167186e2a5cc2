"""What goes into the trail, as values. Nothing here knows how or where it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

# Text longer than this is cut: a line stays small whatever a client sends.
_MAX_TEXT = 512
_MAX_ENTRIES = 200
_MAX_DEPTH = 6


class EventType(StrEnum):
    """The kinds of lines. Their names are promises; see docs/audit.md."""

    START = "start"
    STOP = "stop"
    RELOAD = "reload"
    RELOAD_REFUSED = "reload_refused"
    ADMIN_ACCESS = "admin_access"
    ADMIN_DENIED = "admin_denied"
    IDENTITY_REFUSED = "identity_refused"
    KEY_FIRST_USED = "key_first_used"
    QUOTA_VERDICT = "quota_verdict"
    TENANT_CLAIMS = "tenant_claims"
    ITEMS_DROPPED = "items_dropped"
    PSEUDONYM_KEY = "pseudonym_key"
    # What the trail says of itself.
    ANCHOR = "anchor"
    LOST = "lost"
    TORN_LINE = "torn_line"
    DAMAGED_LINE = "damaged_line"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `actor`: who or what did it; `details` hold JSON values, and never a secret."""

    type: EventType
    time: datetime
    actor: str
    tenant: str | None = None
    generation: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


def bounded(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can hold it, cut to a size that a line can hold."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        pairs = list(value.items())[:_MAX_ENTRIES]
        return {_text(str(key)): bounded(item, depth + 1) for key, item in pairs}
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        kept = [bounded(item, depth + 1) for item in value[:_MAX_ENTRIES]]
        return kept if len(value) <= _MAX_ENTRIES else [*kept, f"and {len(value) - _MAX_ENTRIES} more"]
    return _text(str(value))


def _text(value: str) -> str:
    # Half a surrogate pair, which a header can smuggle in, is no text that JSON can hold.
    clean = value.encode(errors="replace").decode()
    return clean if len(clean) <= _MAX_TEXT else clean[:_MAX_TEXT] + "…"
