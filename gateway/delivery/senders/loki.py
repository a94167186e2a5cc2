"""Loki's push API. Sources: Loki's HTTP API reference, its pkg/push for the wire format, its ingester for answers."""

import re
from collections.abc import Sequence
from functools import partial

import aiohttp

from gateway._engine import merge_streams
from gateway.config.destinations import LokiDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer, common_outcome
from gateway.delivery.senders.http import HttpSender
from gateway.delivery.senders.outcome import Delivered, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.senders.wire import fields
from gateway.delivery.workbench import Workbench
from gateway.types import Lane

# Loki compresses push requests with snappy's block format and, unlike remote write, does not say so in a header.
_HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": "telemetry-gateway"}
# How an ingester ends the answer about the entries of a stream that it did not take.
_IGNORED = re.compile(rb"total ignored: ([0-9]{1,9}) out of ([0-9]{1,9})")
_STREAMS = 1
"""The field of a push request that holds its streams."""


class Loki:
    """A receiver of Loki push."""

    def __init__(self, config: LokiDestination, session: aiohttp.ClientSession, workbench: Workbench) -> None:
        self._url, self._workbench = config.url, workbench
        self._sender = HttpSender(session, config, config.url, workbench)

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        parts = await self._in_order(lane.tenant, parts)
        judge_this = partial(judge, parts=parts)
        return await self._sender.post(self._url, lane, parts, codec="snappy", headers=_HEADERS, judge=judge_this)

    async def _in_order(self, tenant: str, parts: Sequence[Part]) -> Sequence[Part]:
        """The same push with each stream once, its entries in order of time: batches bring the same streams again."""
        merged = await self._workbench.run(tenant, sum(map(len, parts)), merge_streams, parts)
        return parts if merged is None else [merged]

    async def close(self) -> None:
        await self._sender.close()


def judge(answer: HttpAnswer, parts: Sequence[Part]) -> Outcome:
    """Loki's answers are not what they seem (docs/design.md §5). `parts` is the request."""
    if answer.status == 260:
        # A 2xx that means: the tenant is blocked, nothing was kept.
        return Refused("blocked", divisible=False, detail=answer.text)
    if answer.good:
        return Delivered()
    if (outcome := common_outcome(answer, answer.text)) is not None:
        return outcome
    if answer.status == 400:
        return _partly_stored(answer, parts)
    if answer.status >= 500:
        return Retry(answer.reason, retry_after_s(answer.headers), detail=answer.text)
    return Refused(answer.reason, detail=answer.text)


def _partly_stored(answer: HttpAnswer, parts: Sequence[Part]) -> Outcome:
    """Of a 400, the valid entries are stored already: sending any of it again would duplicate them.

    Loki tells how many it ignored, but of one stream only, the last that failed. Of a request with one stream that is
    the whole truth. With more of them it would be too little, and a loss unseen: then the whole counts as dropped.
    """
    told = _IGNORED.findall(answer.body)
    if told and _has_one_stream(parts):
        ignored, entries = map(int, told[-1])
        if 0 < ignored <= entries:
            return Delivered(ignored, answer.reason, answer.text)
    return Refused("http_400_partly_stored", divisible=False, detail=answer.text)


def _has_one_stream(parts: Sequence[Part]) -> bool:
    streams = [number for number, _ in fields(b"".join(parts)) if number == _STREAMS]
    return len(streams) == 1
