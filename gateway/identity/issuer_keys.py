"""One issuer's keys: fetched early, renewed by age, asked for again when a token names an unknown one."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import structlog

from gateway.config.models import Oidc
from gateway.identity.key_ring import KeyRing
from gateway.identity.signed_token import PublicKey
from gateway.identity.verdict import RefusalReason, Refused, Unavailable

log = structlog.get_logger(__name__)

Clock = Callable[[], float]

_DISCOVERY = "/.well-known/openid-configuration"
_MAX_DOCUMENT_BYTES = 256 << 10
# Fetches that unknown keys may cause: some at once, then one in a while, however many tokens name them.
_BURST = 3
_SECONDS_A_FETCH = 10.0
# Between attempts while the issuer cannot be reached.
_RETRY_S = 10.0


class _BadAnswerError(Exception):
    """The issuer answered, but not with keys; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    ring: KeyRing
    departure: int  # the number of the fetch
    began_at: float  # Unix seconds; what the issuer published later is not in it
    done_at: float  # monotonic


class IssuerKeys:
    """Keys of one issuer. Any number of tasks may ask; they share one fetch."""

    def __init__(
        self,
        settings: Oidc,
        session: aiohttp.ClientSession,
        *,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self._monotonic = monotonic
        self._budget = _FetchBudget(monotonic)
        self._jwks_url = settings.jwks_url
        self._fetched: _Fetched | None = None
        self._failure: str | None = "they were not fetched yet"
        self._flight: asyncio.Task[None] | None = None
        self._departures = 0
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Fetch now, and keep fresh until `close`."""
        self._take_off()
        self._keeper = asyncio.create_task(self._keep_fresh(), name=f"keys of {self._settings.issuer}")

    async def close(self) -> None:
        self._closed = True
        tasks = [task for task in (self._keeper, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def serve(self, settings: Oidc) -> bool:
        """Whether these keys are what `settings` asks for: nothing differs that has to do with fetching."""
        return _fetching(settings) == _fetching(self._settings)

    async def find(self, key_id: str | None, algorithm: str, issued_at: float | None) -> PublicKey:
        """The key that signed a token issued at `issued_at` (Unix seconds, as the token says).

        Raises Refused (unknown_key, algorithm_not_allowed) and Unavailable.
        """
        departed = self._departures
        while (key := self._look_up(key_id, algorithm)) is None:
            # A flight that was under way when the token came may have missed its key; one that began later has not.
            if self._fetched is not None and self._fetched.departure > departed:
                raise Refused(RefusalReason.UNKNOWN_KEY)
            if self._flight is None and not self._budget.take():
                raise self._cannot_ask(issued_at)
            await self._fly()
            if self._failure is not None:
                raise self._unavailable(self._failure)
        return key

    def _look_up(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """The key among those of the last good fetch, while they may be believed."""
        return self._fetched.ring.find(key_id, algorithm) if self._fetched is not None and self._believed() else None

    def _believed(self) -> bool:
        return self._fetched is not None and self._monotonic() - self._fetched.done_at <= self._settings.max_stale

    def _cannot_ask(self, issued_at: float | None) -> Refused | Unavailable:
        """What to say of a key that is unknown while the issuer was asked too often."""
        if self._failure is not None or self._fetched is None or not self._believed():
            return self._unavailable(self._failure or "they are too old")
        # A new key is published before it signs: an older token's key would have been there. `iat` is not proven yet,
        # but all that one gains by lying is to hear "try again" for "no".
        if issued_at is not None and issued_at + self._settings.leeway > self._fetched.began_at:
            return self._unavailable("they were asked for a moment ago")
        return Refused(RefusalReason.UNKNOWN_KEY)

    def _unavailable(self, cause: str) -> Unavailable:
        return Unavailable(self._settings.issuer, cause, retry_after_s=max(1.0, self._budget.wait_s()))

    # Fetching.

    async def _keep_fresh(self) -> None:
        while True:
            await self._fly()
            delay = self._settings.refresh if self._failure is None else min(_RETRY_S, self._settings.refresh)
            await asyncio.sleep(delay * random.uniform(0.9, 1.0))  # noqa: S311 - jitter, not a secret

    async def _fly(self) -> None:
        """Fetch; whoever comes meanwhile waits for the same flight. `self._failure` says how it ended."""
        if self._closed:
            self._failure = "the gateway stops"
            return
        # `wait` leaves the flight alone when one of those who wait goes away.
        await asyncio.wait([self._flight or self._take_off()])

    def _take_off(self) -> asyncio.Task[None]:
        self._departures += 1
        self._flight = asyncio.create_task(self._fetch(self._departures))
        self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if flight.cancelled():
            self._failure = "the gateway stops"
        elif error := flight.exception():
            self._failed(f"internal error: {error!r}")

    async def _fetch(self, departure: int) -> None:
        began_at = self._clock()
        try:
            async with asyncio.timeout(self._settings.timeout):
                ring = KeyRing(await self._get(await self._find_jwks_url()))
        except TimeoutError:
            self._failed(f"no answer in {self._settings.timeout:g} s")
        except _BadAnswerError as error:
            self._failed(str(error))
        except ValueError as error:
            self._failed(f"the answer is not usable: {error}")
        except (aiohttp.ClientError, OSError) as error:
            self._failed(_network_cause(error))
        else:
            before = self._fetched and self._fetched.ring.ids
            self._fetched = _Fetched(ring, departure, began_at, self._monotonic())
            if self._failure is not None or before != ring.ids:
                log.info("fetched the keys of an issuer", issuer=self._settings.issuer, keys=ring.ids)
            self._failure = None

    def _failed(self, cause: str) -> None:
        # The issuer may have moved its keys: ask it again where they are.
        self._jwks_url = self._settings.jwks_url
        if cause != self._failure:
            known = "known keys are used meanwhile" if self._believed() else "no token of it can be verified"
            log.warning(f"cannot fetch the keys of an issuer; {known}", issuer=self._settings.issuer, cause=cause)
        self._failure = cause

    async def _find_jwks_url(self) -> str:
        if self._jwks_url is None:
            issuer = self._settings.issuer
            document = orjson.loads(await self._get(issuer.rstrip("/") + _DISCOVERY))
            if not isinstance(document, dict) or document.get("issuer") != issuer:
                # OpenID Connect Discovery §4.3: else one issuer could speak for another.
                raise _BadAnswerError(
                    f"the discovery document of {issuer} is of another issuer; `issuer` must be the same"
                )
            url = document.get("jwks_uri")
            if not isinstance(url, str) or not self._settings.may_fetch(url):
                raise _BadAnswerError(f"the discovery document of {issuer} has no https jwks_uri")
            self._jwks_url = url
        return self._jwks_url

    async def _get(self, url: str) -> bytes:
        """Raises _BadAnswerError, aiohttp.ClientError, OSError (TimeoutError among them) and ValueError."""
        async with self._session.get(url, ssl=self._tls(), allow_redirects=False) as response:
            if response.status != 200:
                raise _BadAnswerError(f"{url} answers {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MAX_DOCUMENT_BYTES:
                    raise _BadAnswerError(f"{url} answers with more than {_MAX_DOCUMENT_BYTES >> 10} KiB")
            return bytes(body)

    def _tls(self) -> ssl.SSLContext | bool:
        # Read at each fetch, so that a renewed CA counts.
        return ssl.create_default_context(cafile=self._settings.ca_file) if self._settings.ca_file else True


def open_session() -> aiohttp.ClientSession:
    """What keys are fetched with: no cookies, and no compression, in which a small answer could hide a large one."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        auto_decompress=False,
    )


def _fetching(settings: Oidc) -> dict[str, Any]:
    """The settings without those that are about tokens only."""
    about_tokens = {"audience", "header", "scheme", "algorithms", "tenant_claim", "tenant_pattern", "scopes"}
    return settings.model_dump(exclude=about_tokens)


def _network_cause(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "its certificate is not trusted; name its CA in ca_file"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "TLS failed"
        case OSError(strerror=str() as reason):
            return reason.lower()
        case _:
            return "the connection broke"


class _FetchBudget:
    """A bucket of fetches that refills slowly."""

    def __init__(self, monotonic: Clock) -> None:
        self._monotonic = monotonic
        self._left = float(_BURST)
        self._counted_at = monotonic()

    def take(self) -> bool:
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait_s(self) -> float:
        """Seconds until `take` can succeed."""
        self._refill()
        return max(0.0, (1 - self._left) * _SECONDS_A_FETCH)

    def _refill(self) -> None:
        now = self._monotonic()
        self._left = min(_BURST, self._left + (now - self._counted_at) / _SECONDS_A_FETCH)
        self._counted_at = now
