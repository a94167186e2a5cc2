"""Requests to HTTP backends: one way to send, one way to fail."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import aiohttp

from gateway._engine import compress
from gateway.config.destinations import NetworkDestination
from gateway.delivery.answer import HttpAnswer
from gateway.delivery.credentials import NoCredentialError, open_credential
from gateway.delivery.detail import fit_for_log
from gateway.delivery.exchange import exchange
from gateway.delivery.outcome import Outcome, Retry
from gateway.delivery.record import Part
from gateway.delivery.tls import open_tls
from gateway.types import Lane

Codec = Literal["identity", "snappy", "gzip", "zstd"]
Judge = Callable[[HttpAnswer], Outcome]
"""What an answer means."""

# Below it, compressing takes less time than handing the work to a thread.
_COMPRESS_INLINE_BYTES = 64 << 10


class HttpSender:
    """Sends to one destination over the shared session."""

    def __init__(self, session: aiohttp.ClientSession, config: NetworkDestination, url: str) -> None:
        """Raises OSError or ValueError if files of TLS cannot be used."""
        self._session = session
        self._config = config
        self._headers = configured_headers(config)
        self._tls = open_tls(config.tls, url)
        self._credential = open_credential(config, session)

    async def post(
        self,
        url: str,
        lane: Lane,
        parts: Sequence[Part],
        *,
        codec: Codec,
        headers: Mapping[str, str],
        judge: Judge,
    ) -> Outcome:
        """Join and compress `parts`, send them, and let `judge` say what the answer means. No answer: retry."""
        body = await pack(codec, parts)
        headers = {**self._headers, **headers}
        if self._config.tenant_header is not None:
            headers[self._config.tenant_header] = lane.tenant
        try:
            credential = await self._credential.headers(url, headers, body)
            answer = await self._exchange(url, body, {**headers, **credential})
            if isinstance(answer, HttpAnswer) and answer.status == 401 and await self._credential.renew(credential):
                credential = await self._credential.headers(url, headers, body)
                answer = await self._exchange(url, body, {**headers, **credential})
        except NoCredentialError as error:
            return error.outcome
        outcome = answer if isinstance(answer, Retry) else judge(answer)
        return without_secrets(outcome, {**self._headers, **credential})

    async def _exchange(self, url: str, body: Sequence[Part], headers: Mapping[str, str]) -> HttpAnswer | Retry:
        return await exchange(
            self._session,
            url,
            body,
            headers,
            timeout_s=self._config.timeout,
            tls=await self._tls.get(),
            server_name=self._config.tls.server_name,
        )

    async def close(self) -> None:
        """Connections are the session's."""
        await self._credential.close()


def configured_headers(config: NetworkDestination) -> dict[str, str]:
    """What the configuration adds to every request, without the credential."""
    return {name: value.get_secret_value() for name, value in config.headers.items()}


def without_secrets(outcome: Outcome, sent: Mapping[str, str]) -> Outcome:
    """What the backend said, fit for the log: it may echo the headers that were `sent`."""
    if not outcome.detail:
        return outcome
    # Of a credential, also what follows its scheme.
    values = {part for value in sent.values() for part in (value, value.partition(" ")[2]) if part}
    return replace(outcome, detail=fit_for_log(outcome.detail, sorted(values, key=len, reverse=True)))


async def pack(codec: Codec, parts: Sequence[Part]) -> Sequence[Part]:
    """Compress; large work goes to a thread, where it does not hold the GIL."""
    if codec == "identity":
        return parts
    if sum(map(len, parts)) <= _COMPRESS_INLINE_BYTES:
        return [compress(codec, parts)]
    return [await asyncio.get_running_loop().run_in_executor(None, compress, codec, parts)]
