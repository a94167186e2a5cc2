"""What became of a request to a backend, and what to do next."""

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend has it; of its items it refused `rejected` for good, for `reason` (a label value)."""

    rejected: int = 0
    reason: str = "rejected_by_backend"
    detail: str = field(default="", repr=False, compare=False)
    """What the backend said, for the log: printable, short, without our secrets. Of every outcome."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: the same again, not before `after_s` if the backend said so."""

    reason: str
    after_s: float | None = None
    throttled: bool = False
    """The backend lives, and wants less of this tenant (429)."""
    detail: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Held:
    """The backend refuses us, not the data: a credential that ended, a wrong path. It waits until that is mended."""

    reason: str
    detail: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request has too many bytes for the backend: the same in halves."""

    reason: str
    detail: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the backend will not take this, whoever asks how often. `reason` is a label value."""

    reason: str
    divisible: bool = True
    """A part may be taken all the same; if not, the whole is refused, or sending it again would duplicate."""
    detail: str = field(default="", repr=False, compare=False)


Outcome = Delivered | Retry | Held | TooLarge | Refused


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` of RFC 9110 §10.2.3, seconds or a date, as seconds from now. None: none that can be read."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
            # `-0000` says that the zone is not known; dates of HTTP are in UTC.
            seconds = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - time.time()
        except (ValueError, OverflowError):
            # A date, or a zone, that no calendar has.
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
