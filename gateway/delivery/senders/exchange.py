"""One request over HTTP and its answer, whatever comes: bounded in time and memory, and nothing is raised."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer
from gateway.delivery.senders.outcome import Retry

# What is read of an answer: enough for a status, a partial_success or a token, whatever the other side sends.
_MAX_ANSWER_BYTES = 64 << 10
# The status decides; the rest of an answer that drips is not waited for.
_MAX_BODY_S = 5.0


async def exchange(
    session: aiohttp.ClientSession,
    url: str,
    body: Sequence[Part],
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    tls: ssl.SSLContext | bool,
    server_name: str | None,
) -> HttpAnswer | Retry:
    """POST; no answer is a Retry. Redirects are answers. The body is sent part by part, without a copy."""
    try:
        async with session.post(
            url,
            data=_Parts(body),
            # Answers are short: what is not compressed cannot expand.
            headers={"Accept-Encoding": "identity", **headers},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            ssl=tls,
            server_hostname=server_name,
            allow_redirects=False,
        ) as response:
            return HttpAnswer(response.status, response.headers, await _beginning(response.content))
    except TimeoutError:
        return Retry("timeout")
    except aiohttp.ClientSSLError as error:
        return Retry("tls_error", detail=_cause(error))
    except aiohttp.ClientResponseError as error:
        return Retry("bad_answer", detail=error.message)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Retry("connection_error", detail=_cause(error))


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """The body up to the bound, or to where it broke off: the status came, so the other side has made up its mind.

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
        case OSError(strerror=str() as reason):
            return reason
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
        transport = writer.transport
        if transport is not None and transport.get_extra_info("sslcontext") is None:
            # Written is what the kernel has taken: then nothing is left in memory that a closed connection waits with.
            # Not under TLS, whose transport does not tell when its buffer is empty; there a close has a time limit.
            transport.set_write_buffer_limits(0)
        try:
            for part in self._value:
                await writer.write(memoryview(part))
            await writer.drain()
        except asyncio.CancelledError:
            # The answer came before all was written, or time is up. A connection that is closed politely keeps what was
            # not written until the other side reads it, which may be never.
            if transport is not None:
                transport.abort()
            raise
