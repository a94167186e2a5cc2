"""OTLP over gRPC, bytes in and bytes out. Source: OTLP specification (OTLP/gRPC response, failures, throttling)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import grpc.aio

from gateway.config.models import OtlpDestination
from gateway.delivery.detail import fit_for_log
from gateway.delivery.http import request_headers, secrets_in
from gateway.delivery.otlp_status import delivered, retry_delay_s
from gateway.delivery.outcome import Held, Outcome, Refused, Retry, TooLarge
from gateway.delivery.record import Part
from gateway.types import Lane, Signal

_METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
# The specification's list. RESOURCE_EXHAUSTED only with RetryInfo.
_RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# These speak of us, not of the data: a credential, or a service that is not there.
_ABOUT_US = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
)
# How servers say that a request is over their size limit, which has no code of its own: grpc-go, C core, grpc-java and
# .NET with RESOURCE_EXHAUSTED, tonic with OUT_OF_RANGE, which would be retried for ever.
_SIZE_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE})
_TOO_LARGE = re.compile(
    r"message (?:\S+ ){0,3}?(?:larger than max|exceeds (?:the )?maximum|(?:length )?too large)", re.I
)
# Our own side of gRPC says so of an answer that is over our limit.
_OURS = "CLIENT: Received message"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.enable_retries", 0),
    # As over HTTP: where telemetry goes is the configuration's to say, not the environment's.
    ("grpc.enable_http_proxy", 0),
    # A backend that comes back is noticed by the next attempt, whose pace our own backoff sets.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class OtlpGrpc:
    """A receiver of OTLP/gRPC."""

    def __init__(self, config: OtlpDestination) -> None:
        url = urlsplit(config.endpoint)
        target = url.netloc if url.port else f"{url.netloc}:{443 if url.scheme == 'https' else 80}"
        if url.scheme == "https":
            self._channel = grpc.aio.secure_channel(target, _credentials(config), options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._calls: dict[Signal, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {
            signal: self._channel.unary_unary(method) for signal, method in _METHODS.items()
        }
        self._timeout = config.timeout
        self._compression = grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        self._tenant_header = config.tenant_header.lower() if config.tenant_header else None
        self._metadata = tuple((name.lower(), value) for name, value in request_headers(config).items())
        self._secrets = secrets_in(dict(self._metadata))

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        body = b"".join(parts)
        metadata = self._metadata
        if self._tenant_header is not None:
            metadata += ((self._tenant_header, lane.tenant),)
        try:
            response = await self._calls[lane.signal](
                body, timeout=self._timeout, metadata=metadata, compression=self._compression
            )
        except grpc.aio.AioRpcError as error:
            outcome = judge(error.code(), error.details() or "", _status_details(error))
        else:
            outcome = delivered(response)
        return replace(outcome, detail=fit_for_log(outcome.detail, self._secrets)) if outcome.detail else outcome

    async def close(self) -> None:
        await self._channel.close()


def judge(code: grpc.StatusCode, message: str, status: bytes) -> Outcome:
    """What a refusal means; `status` is the google.rpc.Status that came with it, or empty."""
    reason = f"grpc_{code.name.lower()}"
    delay_s = retry_delay_s(status)
    if code in _SIZE_CODES and delay_s is None and _TOO_LARGE.search(message):
        if _OURS in message:
            # The backend has dealt with the request: its answer is what is too large, and is thrown away.
            return Refused("grpc_answer_too_large", divisible=False, detail=message)
        return TooLarge(reason, message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay_s is not None:
        return Retry(reason, delay_s or None, throttled=True, detail=message)
    if code in _RETRYABLE:
        # A delay of zero asks for nothing: the specification has clients wait for one above zero only.
        return Retry(reason, delay_s or None, detail=message)
    if code in _ABOUT_US:
        return Held(reason, message)
    return Refused(reason, detail=message)


def _status_details(error: grpc.aio.AioRpcError) -> bytes:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            return value
    return b""


def _credentials(config: OtlpDestination) -> grpc.ChannelCredentials:
    def read(path: Path | None) -> bytes | None:
        return path.read_bytes() if path is not None else None

    return grpc.ssl_channel_credentials(read(config.tls.ca_file), read(config.tls.key_file), read(config.tls.cert_file))
