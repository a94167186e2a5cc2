"""Requests to HTTP backends: one way to send, one way to fail."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from gateway._engine import compress
from gateway.config.models import NetworkDestination
from gateway.config.tls import ClientTls
from gateway.delivery.answer import HttpAnswer
from gateway.delivery.detail import fit_for_log
from gateway.delivery.outcome import Outcome, Retry
from gateway.delivery.record import Part
from gateway.types import Lane

Codec = Literal["identity", "snappy", "gzip", "zstd"]

# Below it, compressing takes less time than handing the work to a thread.
_COMPRESS_INLINE_BYTES = 64 << 10
# What is read of an answer: enough for a status or a partial_success, whatever the backend sends.
_MAX_ANSWER_BYTES = 64 << 10
# The status decides; the rest of an answer that drips is not waited for.
_MAX_BODY_S = 5.0


class HttpSender:
    """Sends to one destination over the shared session."""

    def __init__(self, session: aiohttp.ClientSession, config: NetworkDestination) -> None:
        self._session = session
        self._config = config
        self._timeout = aiohttp.ClientTimeout(total=config.timeout)
        self._ssl = client_ssl(config.tls)
        self._headers = request_headers(config)
        self._secrets = secrets_in(self._headers)

    async def post(
        self,
        url: str,
        lane: Lane,
        parts: Sequence[Part],
        *,
        codec: Codec,
        headers: dict[str, str],
        judge: Callable[[HttpAnswer], Outcome],
    ) -> Outcome:
        """Join and compress `parts`, send them, and let `judge` say what the answer means. No answer: retry."""
        body = await pack(codec, parts)
        headers = {**self._headers, **headers}
        if self._config.tenant_header is not None:
            headers[self._config.tenant_header] = lane.tenant
        outcome = await self._exchange(url, body, headers, judge)
        return replace(outcome, detail=fit_for_log(outcome.detail, self._secrets)) if outcome.detail else outcome

    async def _exchange(
        self, url: str, body: Sequence[Part], headers: dict[str, str], judge: Callable[[HttpAnswer], Outcome]
    ) -> Outcome:
        try:
            async with self._session.post(
                url,
                data=_Parts(body),
                headers=headers,
                timeout=self._timeout,
                ssl=self._ssl,
                allow_redirects=False,
            ) as response:
                return judge(HttpAnswer(response.status, response.headers, await _beginning(response.content)))
        except TimeoutError:
            return Retry("timeout")
        except aiohttp.ClientSSLError as error:
            return Retry("tls_error", detail=_cause(error))
        except aiohttp.ClientResponseError as error:
            return Retry("bad_answer", detail=error.message)
        except (aiohttp.ClientError, OSError) as error:
            return Retry("connection_error", detail=_cause(error))


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The body up to the bound, or to where it broke off: the status came, so the backend has made up its mind.

    To send again what it answered 2xx to, for the sake of an answer's end, would duplicate it.
    """
    body = bytearray()
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_MAX_BODY_S):
            # One `read` returns no more than has arrived.
            while len(body) < _MAX_ANSWER_BYTES and (piece := await content.read(_MAX_ANSWER_BYTES - len(body))):
                body += piece
    return bytes(body)


def _cause(error: Exception) -> str:
    """Why there was no answer, in words that name no secret: no URL, no header."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorError() | OSError():
            reason = error.strerror or type(error).__name__
            return str(reason)
        case _:
            return type(error).__name__


class _Parts(aiohttp.Payload):
    """A body handed to the transport part by part: it is in memory anyway, and copying it in pieces costs CPU."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts, content_type="application/x-protobuf")
        self._size = sum(map(len, parts))

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(b"".join(self._value), encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for part in self._value:
            await writer.write(memoryview(part))


def request_headers(config: NetworkDestination) -> dict[str, str]:
    """What the configuration adds to every request: headers, then the credential."""
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    if config.bearer_token is not None:
        headers["Authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
    if config.basic_auth is not None:
        password = config.basic_auth.password.get_secret_value()
        headers["Authorization"] = aiohttp.encode_basic_auth(config.basic_auth.username, password)
    return headers


def secrets_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What of our own headers a backend may echo, and a log must not show; of a credential, also without its scheme."""
    values = [part for value in headers.values() for part in (value, value.partition(" ")[2])]
    return tuple(sorted(filter(None, values), key=len, reverse=True))


async def pack(codec: Codec, parts: Sequence[Part]) -> Sequence[Part]:
    """Compress; large work goes to a thread, where it does not hold the GIL."""
    if codec == "identity":
        return parts
    if sum(map(len, parts)) <= _COMPRESS_INLINE_BYTES:
        return [compress(codec, parts)]
    return [await asyncio.get_running_loop().run_in_executor(None, compress, codec, parts)]


def client_ssl(tls: ClientTls) -> ssl.SSLContext | bool:
    """True: verify with the system's CAs."""
    if tls == ClientTls():
        return True
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
