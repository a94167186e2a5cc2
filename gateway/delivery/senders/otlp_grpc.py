"""OTLP over gRPC, bytes in and bytes out. Source: OTLP specification (OTLP/gRPC response, failures, throttling)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import grpc
import grpc.aio
import structlog

from gateway.config.destinations import OtlpDestination
from gateway.delivery.record import Part
from gateway.delivery.senders.credentials import NoCredentialError, open_credential
from gateway.delivery.senders.detail import fit_for_log
from gateway.delivery.senders.http import configured_headers, secrets_in, without_secrets
from gateway.delivery.senders.otlp_status import delivered, retry_delay_s
from gateway.delivery.senders.outcome import Held, Outcome, Refused, Retry, TooLarge
from gateway.delivery.senders.size_limits import says_too_large
from gateway.delivery.senders.tls import client_context, system_cas, tls_files, warn_of_files
from gateway.delivery.senders.watched import Watched
from gateway.types import Lane, Signal

log = structlog.get_logger(__name__)

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
_UNAUTHENTICATED = Held("grpc_unauthenticated")
# Over a size limit is RESOURCE_EXHAUSTED, but of tonic OUT_OF_RANGE, which would be retried for ever.
_SIZE_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE})
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


@dataclass(frozen=True, slots=True)
class _Channel:
    """A channel, and what exports over it, by signal."""

    connection: grpc.aio.Channel
    exports: dict[Signal, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]


class OtlpGrpc:
    """A receiver of OTLP/gRPC."""

    def __init__(self, config: OtlpDestination, session: aiohttp.ClientSession) -> None:
        """Raises OSError or ValueError if files of TLS cannot be used."""
        self._config = config
        self._headers = configured_headers(config)
        self._credential = open_credential(config, session)
        self._compression = grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        self._tls = Watched(tls_files(config.tls), self._credentials, self._keep_old)
        self._open_channel: tuple[grpc.ChannelCredentials | None, _Channel] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, lane: Lane, parts: Sequence[Part]) -> Outcome:
        body = b"".join(parts)
        sent = {name.lower(): value for name, value in self._headers.items()}
        if self._config.tenant_header is not None:
            sent[self._config.tenant_header.lower()] = lane.tenant
        try:
            credential = await self._credential.headers(self._config.endpoint, sent, ())
            outcome = await self._export(lane.signal, body, {**sent, **credential})
            if outcome == _UNAUTHENTICATED and await self._credential.renew(credential):
                credential = await self._credential.headers(self._config.endpoint, sent, ())
                outcome = await self._export(lane.signal, body, {**sent, **credential})
        except NoCredentialError as error:
            return error.outcome
        return without_secrets(outcome, {**self._headers, **credential})

    async def _export(self, signal: Signal, body: bytes, headers: Mapping[str, str]) -> Outcome:
        export = (await self._current()).exports[signal]
        metadata = tuple((name.lower(), value) for name, value in headers.items())
        try:
            response = await export(
                body, timeout=self._config.timeout, metadata=metadata, compression=self._compression
            )
        except grpc.aio.AioRpcError as error:
            if self._compression is not grpc.Compression.NoCompression and _is_about_compression(error):
                self._compression = grpc.Compression.NoCompression
                detail = fit_for_log(error.details() or "", secrets_in(headers))
                log.warning(
                    "a destination does not take gzip; it gets none", endpoint=self._config.endpoint, detail=detail
                )
                return await self._export(signal, body, headers)
            return judge(error.code(), error.details() or "", _status_details(error))
        return delivered(response)

    async def _current(self) -> _Channel:
        """The channel to send over: another one if certificates have changed, since a channel cannot change them."""
        credentials = await self._tls.get()
        if self._open_channel is None or self._open_channel[0] is not credentials:
            old, self._open_channel = self._open_channel, (credentials, self._connect(credentials))
            if old is not None:
                # What is under way there may end.
                task = asyncio.create_task(old[1].connection.close(self._config.timeout))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return self._open_channel[1]

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> _Channel:
        url = urlsplit(self._config.endpoint)
        target = url.netloc if url.port else f"{url.netloc}:{443 if url.scheme == 'https' else 80}"
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            name = self._config.tls.server_name
            named = () if name is None else (("grpc.ssl_target_name_override", name),)
            channel = grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *named))
        return _Channel(channel, {signal: channel.unary_unary(method) for signal, method in _METHODS.items()})

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self._config.endpoint.startswith("https:"):
            return None
        tls = self._config.tls
        # gRPC takes anything here and fails when it connects; this tells what is wrong with it.
        client_context(tls)
        authority, key, chain = (
            file.read_bytes() if file is not None else None
            for file in (tls.ca_file or system_cas(), tls.key_file, tls.cert_file)
        )
        return grpc.ssl_channel_credentials(authority, key, chain)

    def _keep_old(self, error: Exception) -> None:
        warn_of_files(self._config.endpoint, error)

    async def close(self) -> None:
        await self._credential.close()
        if self._open_channel is not None:
            await self._open_channel[1].connection.close()
        await asyncio.gather(*self._closing, return_exceptions=True)


def judge(code: grpc.StatusCode, message: str, status: bytes) -> Outcome:
    """What a refusal means; `status` is the google.rpc.Status that came with it, or empty."""
    reason = f"grpc_{code.name.lower()}"
    delay_s = retry_delay_s(status)
    if code in _SIZE_CODES and delay_s is None and says_too_large(message):
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


def _is_about_compression(error: grpc.aio.AioRpcError) -> bool:
    """The code is UNIMPLEMENTED, of grpc-java INTERNAL; that it is about compression is in the words of all of them."""
    codes = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    return error.code() in codes and "compress" in (error.details() or "").lower()


def _status_details(error: grpc.aio.AioRpcError) -> bytes:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            return value
    return b""
