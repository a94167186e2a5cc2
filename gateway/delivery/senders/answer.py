"""A backend's answer over HTTP, and what means the same whoever says it (docs/destinations.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.delivery.senders.outcome import Held, Outcome, Retry, TooLarge, retry_after_s
from gateway.delivery.senders.size_limits import says_too_large

# These speak of us, not of the data: our credential (401, 403, 407), the address or protocol that was configured (404,
# 405, 415, 421). The data is good, and waits until that is mended.
_ABOUT_US = frozenset({401, 403, 404, 405, 407, 415, 421})

# VictoriaMetrics and VictoriaLogs say so with a 400.
_WRONG_PATH = re.compile("unsupported path requested", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A backend's answer, its body cut to a bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        return f"http_{self.status}"

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


def common_outcome(answer: HttpAnswer, said: str) -> Outcome | None:
    """What every backend means alike by a refusal; None: the protocol has its own word on it. `said` is its reason."""
    if answer.status < 200:
        return Retry("bad_answer", detail=f"status {answer.status}")
    if 300 <= answer.status < 400:
        # Never followed: what we send, the credential among it, is for the host that was configured.
        return Held("redirect", f"{answer.status} to {answer.headers.get('Location', 'nowhere')}")
    if answer.status in _ABOUT_US:
        return Held(answer.reason, said)
    if answer.status == 400 and _WRONG_PATH.search(said):
        return Held(answer.reason, said)
    if answer.status == 413 or (answer.status in (400, 500) and says_too_large(said)):
        return TooLarge(answer.reason, said)
    if answer.status == 429:
        return Retry(answer.reason, retry_after_s(answer.headers), throttled=True, detail=said)
    return None
