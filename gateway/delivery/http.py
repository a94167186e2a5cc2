"""Requests to HTTP backends: one way to send, one way to fail."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from gateway._engine import compress
from gateway.config.models import NetworkDestination
from gateway.config.tls import ClientTls
from gateway.delivery.outcome import Outcome, Retry
from gateway.delivery.record import Part
from gateway.types import Lane

Codec = Literal["identity", "snappy", "gzip", "zstd"]

# Below it, compressing takes less time than handing the work to a thread.
_COMPRESS_INLINE_BYTES = 64 << 10
# What is read of an answer: enough for a status or a partial_success, whatever the backend sends.
_MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A backend's answer, its body cut to a bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpSender:
    """Sends to one destination over the shared session."""

    def __init__(self, session: aiohttp.ClientSession, config: NetworkDestination) -> None:
        self._session = session
        self._config = config
        self._timeout = aiohttp.ClientTimeout(total=config.timeout)
        self._ssl = client_ssl(config.tls)
        self._headers = request_headers(config)

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
        except aiohttp.ClientSSLError:
            return Retry("tls_error")
        except (aiohttp.ClientError, OSError):
            return Retry("connection_error")


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The body up to the bound; one `read` returns no more than has arrived."""
    body = b""
    while len(body) < _MAX_ANSWER_BYTES and (piece := await content.read(_MAX_ANSWER_BYTES - len(body))):
        body += piece
    return body


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
