"""OTLP over HTTP, protobuf. Source: OTLP specification (OTLP/HTTP response, failures, throttling)."""

import re
from collections.abc import Sequence
from dataclasses import replace

import aiohttp
import structlog

from gateway.config.destinations import OtlpDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.answer import HttpAnswer, common_outcome
from gateway.delivery.senders.http import Codec, HttpSender, Judge
from gateway.delivery.senders.otlp_status import delivered, retry_delay_s, status_message
from gateway.delivery.senders.outcome import Held, Outcome, Refused, Retry, retry_after_s
from gateway.delivery.workbench import Workbench
from gateway.types import Lane

log = structlog.get_logger(__name__)

_HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": "telemetry-gateway"}
# The specification's list, and 429; not 500, not 408.
_RETRYABLE = frozenset({502, 503, 504})
# The backend does not know our method or protocol, whatever is in the request.
_ABOUT_US = frozenset({501, 505})
# Never leaves this file: the backend does not know the compression, and gets a simpler one at once.
_UNSUPPORTED = Held("unsupported_compression")
# Collector: `unsupported Content-Encoding: zstd`; Prometheus: `unsupported compression: zstd. Only "gzip" or …`.
_SPEAKS_OF_COMPRESSION = re.compile(rb"content-encoding|compression|decompress", re.IGNORECASE)
_SIMPLER: dict[Codec, Codec] = {"zstd": "gzip", "gzip": "identity"}


class OtlpHttp:
    """A receiver of OTLP/HTTP."""

    def __init__(self, config: OtlpDestination, session: aiohttp.ClientSession, workbench: Workbench) -> None:
        self._endpoint = config.endpoint.rstrip("/")
        self._configured: Codec = "identity" if config.compression == "none" else config.compression
        self._codec: Codec = self._configured
        self._told: set[Codec] = set()
        self._sender = HttpSender(session, config, config.endpoint, workbench)

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        """A backend that does not know the compression gets the next simpler one, from now on."""
        while (codec := self._codec) != "identity":
            outcome = await self._post(codec, lane, parts, _judge_compressed)
            if outcome != _UNSUPPORTED:
                return outcome
            if self._codec == codec:
                self._codec = _SIMPLER[codec]
            if codec not in self._told:
                self._told.add(codec)
                log.warning(
                    "a destination does not take this compression; the next simpler one is used",
                    endpoint=self._endpoint, refused=codec, used=self._codec, detail=outcome.detail,
                )  # fmt: skip
        outcome = await self._post("identity", lane, parts, judge)
        if outcome == Held("http_415"):
            # It was not the compression: what was configured is as good as any.
            self._codec = self._configured
        return outcome

    async def _post(self, codec: Codec, lane: Lane, parts: Sequence[Part], judge_it: Judge) -> Outcome:
        url = f"{self._endpoint}/v1/{lane.signal}"
        headers = _HEADERS if codec == "identity" else {**_HEADERS, "Content-Encoding": codec}
        return await self._sender.post(url, lane, parts, codec=codec, headers=headers, judge=judge_it)

    async def close(self) -> None:
        await self._sender.close()


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


def _judge_compressed(answer: HttpAnswer) -> Outcome:
    """415 is what HTTP has for an unknown compression (RFC 9110 §15.5.16); Prometheus and the Collector say 400."""
    if answer.status == 415 or (answer.status == 400 and _SPEAKS_OF_COMPRESSION.search(answer.body)):
        return replace(_UNSUPPORTED, detail=status_message(answer.body))
    return judge(answer)
