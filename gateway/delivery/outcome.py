"""What became of a request to a backend, and what to do next."""

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend has it; of its items it refused `rejected` for good."""

    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: the same again, not before `after_s` if the backend said so."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Never: the backend will not take this, whoever asks how often. `reason` is a label value."""

    reason: str


Outcome = Delivered | Retry | Refused


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` of RFC 9110 §10.2.3, seconds or a date, as seconds from now."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            # A date, or a zone, that no calendar has.
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
