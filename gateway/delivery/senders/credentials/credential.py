"""What a credential of a destination does: it adds headers to a request, and knows whether it can get better ones."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import aiohttp

from gateway.delivery.record import Part
from gateway.delivery.senders.outcome import Held, Retry

Headers = Mapping[str, str]


class NoCredentialError(Exception):
    """There is none at the moment; `outcome` says what becomes of the request, which is not sent."""

    def __init__(self, outcome: Held | Retry) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def no_credential(why: str) -> NoCredentialError:
    """Until somebody mends it. `why` holds no secret."""
    return NoCredentialError(Held("no_credential", why))


class Credential(Protocol):
    """One of a destination; any number of tasks may ask at once."""

    async def headers(self, url: str, headers: Headers, body: Sequence[Part]) -> Headers:
        """What this request, a POST, needs besides `headers`. Raises NoCredentialError."""

    async def renew(self, refused: Headers) -> bool:
        """Whether there is something else than `refused`, which the backend did not believe: then try once more."""

    async def close(self) -> None:
        """Give up what is under way."""


class Fixed:
    """What stands in the configuration, or nothing."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    async def headers(self, _url: str, _headers: Headers, _body: Sequence[Part]) -> Headers:
        return self._headers

    async def renew(self, _refused: Headers) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is under way."""


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def basic(username: str, password: str) -> Headers:
    return {"Authorization": aiohttp.encode_basic_auth(username, password)}
