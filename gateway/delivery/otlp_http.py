"""OTLP over HTTP, protobuf. Source: OTLP specification (OTLP/HTTP response, failures, throttling)."""

from collections.abc import Sequence

import aiohttp

from gateway.config.models import OtlpDestination
from gateway.delivery.answer import HttpAnswer, common_outcome
from gateway.delivery.http import Codec, HttpSender
from gateway.delivery.otlp_status import delivered, retry_delay_s, status_message
from gateway.delivery.outcome import Held, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.record import Part
from gateway.types import Lane

_HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": "telemetry-gateway"}
# The specification's list, and 429; not 500, not 408.
_RETRYABLE = frozenset({502, 503, 504})
# The backend does not know our method or protocol, whatever is in the request.
_ABOUT_US = frozenset({501, 505})


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
    """Bodies of refusals are a google.rpc.Status, whose message is worth a line in the log.

    A 500 must not be sent again as it was. Its halves are other requests: if one item breaks the backend, bisecting
    finds it; if all do, it costs a bounded number of requests.
    """
    if answer.good:
        return delivered(answer.body)
    message = status_message(answer.body)
    after_s = retry_after_s(answer.headers)
    if after_s is None:
        after_s = retry_delay_s(answer.body) or None
    if answer.status == 429:
        return Retry(answer.reason, after_s, throttled=True, detail=message)
    if answer.status in _RETRYABLE:
        return Retry(answer.reason, after_s, detail=message)
    if answer.status in _ABOUT_US:
        return Held(answer.reason, message)
    return common_outcome(answer, message) or Refused(answer.reason, detail=message)
