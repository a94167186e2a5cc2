"""Prometheus remote write 1.0. Source: Prometheus Remote-Write 1.0 specification."""

from collections.abc import Sequence

import aiohttp

from gateway.config.destinations import RemoteWriteDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer, common_outcome
from gateway.delivery.senders.http import HttpSender
from gateway.delivery.senders.outcome import Delivered, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.workbench import Workbench
from gateway.types import Lane

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "telemetry-gateway",
}


class RemoteWrite:
    """A receiver of remote write."""

    def __init__(self, config: RemoteWriteDestination, session: aiohttp.ClientSession, workbench: Workbench) -> None:
        self._url = config.url
        self._sender = HttpSender(session, config, config.url, workbench)

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        return await self._sender.post(self._url, lane, parts, codec="snappy", headers=_HEADERS, judge=judge)

    async def close(self) -> None:
        await self._sender.close()


def judge(answer: HttpAnswer) -> Outcome:
    """5xx and 429 are to be retried; of another 4xx, the data is refused unless it is about us."""
    if answer.good:
        return Delivered()
    if (outcome := common_outcome(answer, answer.text)) is not None:
        return outcome
    if answer.status >= 500:
        return Retry(answer.reason, retry_after_s(answer.headers), detail=answer.text)
    return Refused(answer.reason, detail=answer.text)
