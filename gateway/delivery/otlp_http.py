"""OTLP over HTTP, protobuf. Source: OTLP specification (OTLP/HTTP response, failures, throttling)."""

from collections.abc import Sequence

import aiohttp

from gateway.config.models import OtlpDestination
from gateway.delivery.http import Codec, HttpAnswer, HttpSender
from gateway.delivery.otlp_status import rejected_items
from gateway.delivery.outcome import Delivered, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.record import Part
from gateway.types import Lane

_HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": "telemetry-gateway"}
# The specification's list; not 500, not 408.
_RETRYABLE = frozenset({429, 502, 503, 504})


class OtlpHttp:
    """A receiver of OTLP/HTTP."""

    def __init__(self, config: OtlpDestination, session: aiohttp.ClientSession) -> None:
        self._endpoint = config.endpoint.rstrip("/")
        self._codec: Codec = "identity" if config.compression == "none" else config.compression
        self._headers = _HEADERS if self._codec == "identity" else {**_HEADERS, "Content-Encoding": self._codec}
        self._sender = HttpSender(session, config)

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        url = f"{self._endpoint}/v1/{lane.signal}"
        return await self._sender.post(url, lane, parts, codec=self._codec, headers=self._headers, judge=judge)

    async def close(self) -> None:
        """Nothing of its own is open."""


def judge(answer: HttpAnswer) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered(rejected_items(answer.body))
    if answer.status in _RETRYABLE:
        return Retry(f"http_{answer.status}", retry_after_s(answer.headers))
    return Refused(f"http_{answer.status}")
