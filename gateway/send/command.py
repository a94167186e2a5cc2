"""`gateway send`."""

import http.client
import os
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import grpc

from gateway.delivery.senders.otlp_status import delivered, retry_delay_s
from gateway.send import payloads

_BUILDERS: dict[str, Callable[[int, bool], bytes]] = {
    "traces": lambda items, pii: payloads.traces(items, pii=pii).SerializeToString(),
    "metrics": lambda items, _pii: payloads.metrics(items).SerializeToString(),
    "logs": lambda items, pii: payloads.logs(items, pii=pii).SerializeToString(),
}
_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_ENDPOINTS = {"grpc": "http://127.0.0.1:4317", "http": "http://127.0.0.1:4318"}
_TIMEOUT_S = 30.0


def run(signal: str, endpoint: str | None, protocol: str, key: str | None, count: int, items: int, pii: bool) -> int:
    """Send `count` requests of `items` items; 0 if all were accepted, 1 if not, 2 if it cannot be tried.

    `endpoint` None: a gateway with its default ports, on this machine.
    """
    if signal not in _BUILDERS or protocol not in ("grpc", "http"):
        print("signal is traces, metrics or logs; protocol is grpc or http", file=sys.stderr)
        return 2
    endpoint = endpoint or _ENDPOINTS[protocol]
    headers = _headers(key)
    payload = _BUILDERS[signal](items, pii)
    answers: Counter[str] = Counter()
    accepted = 0
    send = _grpc_sender(endpoint, signal, headers) if protocol == "grpc" else _http_sender(endpoint, signal, headers)
    for _ in range(count):
        answer, rejected = send(payload)
        answers[answer] += 1
        accepted += items - rejected if answer == "OK" else 0
    for answer, times in answers.items():
        print(f"{times} × {answer}")
    print(f"{accepted} of {count * items} {signal} accepted by {endpoint}")
    return 0 if accepted == count * items else 1


def _headers(key: str | None) -> dict[str, str]:
    """The key, or what OTEL_EXPORTER_OTLP_HEADERS says (URL-encoded `name=value` pairs)."""
    if key is not None:
        return {"authorization": f"Bearer {key}"}
    pairs = (pair.partition("=") for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(",") if pair)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


Send = Callable[[bytes], tuple[str, int]]


def _grpc_sender(endpoint: str, signal: str, headers: dict[str, str]) -> Send:
    url = urlsplit(_with_scheme(endpoint))
    secure = url.scheme == "https"
    channel = (
        grpc.secure_channel(url.netloc, grpc.ssl_channel_credentials()) if secure else grpc.insecure_channel(url.netloc)
    )
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHODS[signal])

    def send(payload: bytes) -> tuple[str, int]:
        try:
            return "OK", delivered(call(payload, metadata=tuple(headers.items()), timeout=_TIMEOUT_S)).rejected
        except grpc.RpcError as error:
            metadata: dict[str, Any] = dict(cast(Any, error.trailing_metadata() or ()))
            status: bytes = metadata.get("grpc-status-details-bin", b"")
            return _refused(error.code().name, str(error.details()), retry_delay_s(status)), 0

    return send


def _http_sender(endpoint: str, signal: str, headers: dict[str, str]) -> Send:
    url = f"{_with_scheme(endpoint).rstrip('/')}/v1/{signal}"

    def send(payload: bytes) -> tuple[str, int]:
        request = urllib.request.Request(  # noqa: S310 - the user's own URL
            url, payload, {"content-type": "application/x-protobuf", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                return "OK", delivered(response.read()).rejected
        except urllib.error.HTTPError as error:
            return _refused(f"HTTP {error.code}", error.reason, retry_delay_s(error.read())), 0
        except (OSError, http.client.HTTPException) as error:
            return _refused("no answer", str(getattr(error, "reason", error)), None), 0

    return send


def _with_scheme(endpoint: str) -> str:
    return endpoint if "//" in endpoint else f"http://{endpoint}"


def _refused(code: str, message: str, delay_s: float | None) -> str:
    return f"{code}: {message}" + (f" (retry after {delay_s:.3g} s)" if delay_s is not None else "")
