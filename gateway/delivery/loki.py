"""Loki's push API. Source: Loki HTTP API reference; pkg/push of Loki for the wire format."""

import asyncio
from collections.abc import Sequence

import aiohttp

from gateway._engine import merge_streams
from gateway.config.models import LokiDestination
from gateway.delivery.http import HttpAnswer, HttpSender
from gateway.delivery.outcome import Delivered, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.record import Part
from gateway.types import Lane

# Loki compresses push requests with snappy's block format and, unlike remote write, does not say so in a header.
_HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": "telemetry-gateway"}
# Below it, merging takes less time than handing the work to a thread.
_MERGE_INLINE_BYTES = 256 << 10


class Loki:
    """A receiver of Loki push."""

    def __init__(self, config: LokiDestination, session: aiohttp.ClientSession) -> None:
        self._url = config.url
        self._sender = HttpSender(session, config)

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        parts = await _in_order(parts)
        return await self._sender.post(self._url, lane, parts, codec="snappy", headers=_HEADERS, judge=judge)

    async def close(self) -> None:
        """Nothing of its own is open."""


async def _in_order(parts: Sequence[Part]) -> Sequence[Part]:
    """The same push with each stream once and its entries in order of time: batches bring the same streams again."""
    if sum(map(len, parts)) <= _MERGE_INLINE_BYTES:
        merged = merge_streams(parts)
    else:
        merged = await asyncio.get_running_loop().run_in_executor(None, merge_streams, parts)
    return parts if merged is None else [merged]


def judge(answer: HttpAnswer) -> Outcome:
    """Loki's answers are not what they seem (docs/design.md §5)."""
    if answer.status == 260:
        # A 2xx that means: the tenant is blocked, nothing was kept.
        return Refused("blocked")
    if 200 <= answer.status < 300:
        return Delivered()
    if answer.status == 429 or answer.status >= 500:
        return Retry(f"http_{answer.status}", retry_after_s(answer.headers))
    # Of a 400, the valid streams are stored already: sending it again would duplicate them.
    return Refused(f"http_{answer.status}")
