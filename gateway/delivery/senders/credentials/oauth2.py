"""Tokens by the client credentials grant. Sources: RFC 6749 §2.3.1, §4.4, §5; RFC 6750 for how they are shown."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import orjson
import structlog

from gateway.config.credentials import OAuth2
from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer
from gateway.delivery.senders.credentials.credential import Headers, NoCredentialError, basic, bearer, no_credential
from gateway.delivery.senders.credentials.secret_file import SecretFile
from gateway.delivery.senders.detail import fit_for_log
from gateway.delivery.senders.exchange import exchange
from gateway.delivery.senders.outcome import Retry
from gateway.delivery.senders.tls import open_tls

log = structlog.get_logger(__name__)

# A token is replaced when this much of its life is over: while it still works, so that nobody waits for the next.
_FRESH_SHARE = 0.8
# Of a token whose answer names no life, and the longest that is believed: an operator's change is followed within it.
_DEFAULT_LIFE_S, _LONGEST_LIFE_S = 300.0, 86_400.0
# However short a token's life, the server is not asked more often.
_SHORTEST_LIFE_S = 1.0
# After a failure the server is left alone for a while, doubled with every failure that follows.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
# A token that is refused when it is younger than this was not refused for its age: another would fare the same.
_YOUNG_S = 10.0


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    got_at: float  # monotonic, as are the others
    stale_at: float
    ends_at: float


class _NoTokenError(Exception):
    """The server gave none; `lasting` if somebody must mend something. The message holds no secret."""

    def __init__(self, why: str, *, lasting: bool) -> None:
        super().__init__(why)
        self.lasting = lasting


class ClientCredentials:
    """One token for all requests of a destination, fetched by one of them while the others wait."""

    def __init__(
        self, config: OAuth2, session: aiohttp.ClientSession, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises OSError or ValueError if the TLS files cannot be used."""
        self._config = config
        self._session = session
        self._monotonic = monotonic
        # For messages: some put secrets into queries.
        self._endpoint = config.token_url.partition("?")[0]
        self._tls = open_tls(config.tls, config.token_url)
        self._secret_file = SecretFile(config.client_secret_file) if config.client_secret_file is not None else None
        self._token: _Token | None = None
        self._flight: asyncio.Task[None] | None = None
        self._failure: _NoTokenError | None = None
        self._failures = 0
        self._ask_again_at = 0.0
        self._closed = False

    async def headers(self, _url: str, _headers: Headers, _body: Sequence[Part]) -> Headers:
        """Raises NoCredentialError."""
        now = self._monotonic()
        token = self._token
        if token is not None and now < token.ends_at:
            if now >= token.stale_at and now >= self._ask_again_at and not self._closed:
                self._take_off()
            return bearer(token.value)
        return bearer((await self._fetch()).value)

    async def renew(self, refused: Headers) -> bool:
        """A token may have been revoked, or the server started anew: once more with another."""
        token = self._token
        if token is not None and bearer(token.value) == refused:
            if self._monotonic() - token.got_at < _YOUNG_S:
                return False
            self._token = None
        try:
            await self._fetch()
        except NoCredentialError:
            return False
        return True

    async def close(self) -> None:
        self._closed = True
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _fetch(self) -> _Token:
        """A token that has not ended; whoever comes meanwhile waits for the same flight. Raises NoCredentialError."""
        if self._token is not None and self._monotonic() < self._token.ends_at:
            return self._token
        if self._closed or (self._flight is None and self._monotonic() < self._ask_again_at):
            raise self._no_token()
        # `wait` leaves the flight alone when one of those who wait goes away.
        await asyncio.wait([self._flight or self._take_off()])
        if self._token is None or self._monotonic() >= self._token.ends_at:
            raise self._no_token()
        return self._token

    def _no_token(self) -> NoCredentialError:
        failure = self._failure
        why = str(failure or "the gateway stops")
        if failure is not None and failure.lasting:
            return no_credential(why)
        pause_s = max(0.0, self._ask_again_at - self._monotonic())
        return NoCredentialError(Retry("no_credential", pause_s or None, detail=why))

    def _take_off(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly(), name=f"token of {self._endpoint}")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._failed(_NoTokenError(f"internal error: {type(error).__name__}", lasting=False))

    async def _fly(self) -> None:
        try:
            self._token = await self._ask()
        except _NoTokenError as error:
            self._failed(error)
        else:
            if self._failure is not None:
                log.info("tokens for a destination come again", endpoint=self._endpoint)
            self._failure, self._failures, self._ask_again_at = None, 0, 0.0

    def _failed(self, error: _NoTokenError) -> None:
        if self._failure is None or str(error) != str(self._failure):
            log.warning("no token for a destination", endpoint=self._endpoint, cause=str(error))
        self._failure = error
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._ask_again_at = self._monotonic() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    async def _ask(self) -> _Token:
        """Raises _NoTokenError."""
        try:
            secret = await self._secret()
        except NoCredentialError as error:
            raise _NoTokenError(error.outcome.detail, lasting=True) from None
        config = self._config
        params = {name: value.get_secret_value() for name, value in config.endpoint_params.items()}
        form = {**params, "grant_type": "client_credentials"}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        if config.audience is not None:
            form["audience"] = config.audience
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        if config.client_auth == "basic":
            # RFC 6749 §2.3.1: both are encoded as in a form before they become a user name and a password.
            headers |= basic(quote_plus(config.client_id), quote_plus(secret))
        else:
            form |= {"client_id": config.client_id, "client_secret": secret}
        body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in form.items()).encode()
        asked_at = self._monotonic()
        answer = await exchange(
            self._session,
            config.token_url,
            [body],
            headers,
            timeout_s=config.timeout,
            tls=await self._tls.get(),
            server_name=config.tls.server_name,
        )
        if isinstance(answer, Retry):
            raise _NoTokenError(f"{self._endpoint}: {answer.reason} {answer.detail}".rstrip(), lasting=False)
        if answer.good:
            return _token(answer, asked_at)
        secrets = [secret, quote_plus(secret), headers.get("Authorization", "").partition(" ")[2], *params.values()]
        why = fit_for_log(_error(answer), secrets)
        lasting = answer.status < 500 and answer.status not in (408, 429)
        raise _NoTokenError(f"{self._endpoint} answers {answer.status}: {why}", lasting=lasting)

    async def _secret(self) -> str:
        if self._secret_file is not None:
            return await self._secret_file.get()
        secret = self._config.client_secret
        return secret.get_secret_value() if secret is not None else ""


def _token(answer: HttpAnswer, asked_at: float) -> _Token:
    """Raises _NoTokenError; nothing of the answer is in its message, since all of it is secret."""
    document = _object(answer)
    value, kind = document.get("access_token"), document.get("token_type", "Bearer")
    if not isinstance(value, str) or not value or not (value.isascii() and value.isprintable()) or " " in value:
        raise _NoTokenError("the answer has no access_token that can be used", lasting=True)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _NoTokenError("the token is not of the type Bearer", lasting=True)
    life_s = _life_s(document.get("expires_in"))
    return _Token(value, asked_at, asked_at + max(_SHORTEST_LIFE_S, life_s * _FRESH_SHARE), asked_at + life_s)


def _life_s(written: Any) -> float:
    """`expires_in` in seconds, which some write as text."""
    try:
        life_s = float(written)
    except (TypeError, ValueError):
        return _DEFAULT_LIFE_S
    return min(max(life_s, _SHORTEST_LIFE_S), _LONGEST_LIFE_S) if life_s == life_s else _DEFAULT_LIFE_S


def _error(answer: HttpAnswer) -> str:
    """`error` and `error_description` of RFC 6749 §5.2, or else the text."""
    if 300 <= answer.status < 400:
        return f"a redirect to {answer.headers.get('Location', 'nowhere')}, which is not followed"
    document = _object(answer)
    parts = [document[name] for name in ("error", "error_description") if isinstance(document.get(name), str)]
    return ": ".join(parts) or answer.text


def _object(answer: HttpAnswer) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
