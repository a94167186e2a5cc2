"""Requests to HTTP backends: one way to send, one way to fail."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import aiohttp

from gateway._engine import compress
from gateway.config.destinations import NetworkDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer
from gateway.delivery.senders.credentials import NoCredentialError, open_credential
from gateway.delivery.senders.detail import fit_for_log
from gateway.delivery.senders.exchange import exchange
from gateway.delivery.senders.outcome import Outcome, Retry
from gateway.delivery.senders.tls import open_tls
from gateway.delivery.workbench import Workbench
from gateway.types import Lane

Codec = Literal["identity", "snappy", "gzip", "zstd"]
Judge = Callable[[HttpAnswer], Outcome]
"""What an answer means."""


class HttpSender:
    """Sends to one destination over the shared session."""

    def __init__(
        self, session: aiohttp.ClientSession, config: NetworkDestination, url: str, workbench: Workbench
    ) -> None:
        """Raises OSError or ValueError if files of TLS cannot be used."""
        self._session, self._workbench = session, workbench
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
        body = await self._pack(lane.tenant, codec, parts)
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

    async def _pack(self, tenant: str, codec: Codec, parts: Sequence[Part]) -> Sequence[Part]:
        if codec == "identity":
            return parts
        return [await self._workbench.run(tenant, sum(map(len, parts)), compress, codec, parts)]

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
    return replace(outcome, detail=fit_for_log(outcome.detail, secrets_in(sent)))


def secrets_in(sent: Mapping[str, str]) -> list[str]:
    """What of our headers a backend may echo and a log must not show; of a credential, also what follows its scheme."""
    values = {part for value in sent.values() for part in (value, value.partition(" ")[2]) if part}
    return sorted(values, key=len, reverse=True)
