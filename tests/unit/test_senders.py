"""What every sender makes of every answer (docs/design.md §5), against backends that answer by a script."""

from pathlib import Path
from typing import Any

import cramjam
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from gateway.config.tls import ServerTls
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge
from gateway.sink.proto import loki_push_pb2
from gateway.types import Lane, Signal
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.scripted import DROPPED, SILENCE, Backend, scripted, scripted_grpc
from tests.support.sender import opened

# A push request with one stream, cut where no message ends.
PARTS = [b"\x0a\x07som", b"thing"]
BODY = b"".join(PARTS)


def rejected(count: int) -> bytes:
    partial = ExportTracePartialSuccess(rejected_spans=count, error_message="too old")
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


def retry_info(seconds: int = 0, nanos: int = 0) -> bytes:
    status = status_pb2.Status(code=8, message="slow down")
    status.details.add().Pack(error_details_pb2.DebugInfo(detail="comes first"))
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    return status.SerializeToString()


async def answer_of(
    backend: Backend, kind: str, signal: Signal, times: int = 1, **settings: Any
) -> tuple[Outcome, ...]:
    """What `kind` makes of the backend's next answers."""
    where = "endpoint" if kind == "otlp" else "url"
    async with opened({"type": kind, where: backend.url, **settings}) as sender:
        return tuple([await sender.send(Lane("acme", "backend", signal), PARTS) for _ in range(times)])


RETRY_AFTER = {"Retry-After": "7"}
THROTTLED = Retry("http_429", throttled=True)
ABOUT_US = (401, 403, 404, 405, 407, 415, 421)
COMMON: list[tuple[Any, Outcome]] = [
    *((status, Held("redirect")) for status in (301, 302, 303, 304, 307, 308)),
    *((status, Held(f"http_{status}")) for status in ABOUT_US),
    (413, TooLarge("http_413")),
    # The Collector and Jaeger, VictoriaLogs, Loki and Mimir.
    ((400, {}, b"http: request body too large"), TooLarge("http_400")),
    ((400, {}, b"cannot read: too big data size exceeding -loki.maxRequestSize=67108864 bytes"), TooLarge("http_400")),
    ((500, {}, b"rpc error: grpc: received message larger than max (9 vs. 4)"), TooLarge("http_500")),
    ((400, {}, b'unsupported path requested: "/loki/api/v1/push"'), Held("http_400")),
    (429, THROTTLED),
    ((429, RETRY_AFTER), Retry("http_429", 7.0, throttled=True)),
    ((503, RETRY_AFTER), Retry("http_503", 7.0)),
    ((503, {"Retry-After": "soon"}), Retry("http_503")),
    ((503, {"Retry-After": "-7"}), Retry("http_503", 0.0)),
    ((503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}), Retry("http_503", 0.0)),
    *((status, Refused(f"http_{status}")) for status in (402, 408, 409, 411, 422, 499)),
    (DROPPED, Retry("connection_error")),
]
IGNORED = b"entry with timestamp 1970-01-01 ignored, reason: 'entry too far behind',\nuser 'acme', total ignored: "
REMOTE_WRITE = [
    *COMMON,
    *((status, Delivered()) for status in (200, 202, 204)),
    *((status, Retry(f"http_{status}")) for status in (500, 501, 502, 503, 504, 505, 599)),
    (400, Refused("http_400")),
    ((400, RETRY_AFTER), Refused("http_400")),
    ((200, {"Content-Encoding": "gzip"}, b"not gzip"), Delivered()),
]
LOKI = [
    *COMMON,
    *((status, Delivered()) for status in (200, 204)),
    (260, Refused("blocked", divisible=False)),
    *((status, Retry(f"http_{status}")) for status in (500, 501, 503)),
    (400, Refused("http_400_partly_stored", divisible=False)),
    ((400, {}, IGNORED + b'2 out of 5 for stream: {service="shop"}'), Delivered(2, "http_400")),
    ((400, {}, IGNORED + b"6 out of 5"), Refused("http_400_partly_stored", divisible=False)),
    ((400, {}, b"1 errors like: max entry size exceeded"), Refused("http_400_partly_stored", divisible=False)),
]
OTLP_HTTP = [
    *COMMON,
    *((status, Delivered()) for status in (200, 202)),
    *((status, Retry(f"http_{status}")) for status in (502, 503, 504)),
    *((status, Refused(f"http_{status}")) for status in (400, 500, 507)),
    *((status, Held(f"http_{status}")) for status in (501, 505)),
    ((429, {}, retry_info(3)), Retry("http_429", 3.0, throttled=True)),
    ((503, {}, retry_info(3)), Retry("http_503", 3.0)),
    ((503, RETRY_AFTER, retry_info(3)), Retry("http_503", 7.0)),
    ((503, {}, retry_info()), Retry("http_503")),
    ((200, {}, rejected(3)), Delivered(3)),
    ((200, {}, b"not protobuf"), Delivered()),
    ((200, {"Content-Encoding": "gzip"}, b"not gzip"), Delivered()),
]
HTTP_ANSWERS = [
    pytest.param(kind, answer, outcome, id=f"{name}-{answer[0] if isinstance(answer, tuple) else answer}-{outcome}")
    for name, kind, answers in (
        ("remote_write", {"kind": "remote_write", "signal": Signal.METRICS}, REMOTE_WRITE),
        ("loki", {"kind": "loki", "signal": Signal.LOGS}, LOKI),
        ("otlp", {"kind": "otlp", "signal": Signal.TRACES, "protocol": "http"}, OTLP_HTTP),
    )
    for answer, outcome in answers
]


@pytest.mark.parametrize(("kind", "answer", "outcome"), HTTP_ANSWERS)
async def test_every_http_answer_is_understood_and_the_sender_goes_on(
    kind: dict[str, Any], answer: Any, outcome: Outcome
) -> None:
    async with scripted(answer, 200) as backend:
        assert await answer_of(backend, **kind, times=2) == (outcome, Delivered())
        assert len(backend.bodies) == 2, "a sender makes one attempt; when there is another is the courier's matter"


@pytest.mark.parametrize("kind", ["http", "grpc"])
async def test_a_backend_that_is_away_or_never_answers_is_tried_again(kind: str) -> None:
    away = Backend(url=f"http://127.0.0.1:{free_port()}")
    no_connection = {"http": "connection_error", "grpc": "grpc_unavailable"}[kind]
    assert await answer_of(away, "otlp", Signal.TRACES, protocol=kind) == (Retry(no_connection),)
    too_late = {"http": "timeout", "grpc": "grpc_deadline_exceeded"}[kind]
    async with {"http": scripted, "grpc": scripted_grpc}[kind](SILENCE) as backend:
        outcomes = await answer_of(backend, "otlp", Signal.TRACES, 2, protocol=kind, timeout="200ms")
        assert outcomes == (Retry(too_late), Delivered())


async def test_requests_joined_for_loki_bring_each_stream_once_and_in_order() -> None:
    def push(labels: str, *seconds: int) -> bytes:
        request = loki_push_pb2.PushRequest()
        stream = request.streams.add(labels=labels)
        for at in seconds:
            stream.entries.add(line=f"at {at}").timestamp.FromSeconds(at)
        return request.SerializeToString()

    large = [push('{a="x"}', *range(n, 40_000, 2)) for n in (1, 0)]
    small = [push('{a="x"}', 2, 5), push('{b="y"}', 1), memoryview(push('{a="x"}', 1, 5))]
    async with scripted() as backend, opened({"type": "loki", "url": backend.url}) as sender:
        for parts in (small, large):
            assert await sender.send(Lane("acme", "backend", Signal.LOGS), parts) == Delivered()
    bodies = [bytes(cramjam.snappy.decompress_raw(body)) for body in backend.bodies]
    seen = [loki_push_pb2.PushRequest.FromString(body) for body in bodies]
    streams = [{stream.labels: [entry.line for entry in stream.entries] for stream in push.streams} for push in seen]
    assert streams[0] == {'{a="x"}': ["at 1", "at 2", "at 5", "at 5"], '{b="y"}': ["at 1"]}
    assert streams[1] == {'{a="x"}': [f"at {n}" for n in range(40_000)]}
    assert [len(push.streams) for push in seen] == [2, 1]


RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
HELD = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
# As the servers of that many languages say it: grpc-go (twice), C core, grpc-java, .NET.
TOO_LARGE = [
    "grpc: received message larger than max (8388613 vs. 4194304)",
    "grpc: received message after decompression larger than max 4194304",
    "SERVER: Received message larger than max (8388613 vs. 4194304)",
    "gRPC message exceeds maximum size 4194304: 8388613",
    "Received message exceeds the maximum configured message size.",
]
TONIC = "Error, decoded message length too large: found 8388613 bytes, the limit is: 4194304 bytes"
GRPC_ANSWERS: list[tuple[Any, Outcome]] = [
    (b"", Delivered()),
    (rejected(3), Delivered(3)),
    (rejected(0), Delivered()),
    (b"not protobuf", Delivered()),
    *(
        (
            (code, b""),
            (Retry if code.name in RETRYABLE else Held if code.name in HELD else Refused)(f"grpc_{code.name.lower()}"),
        )
        for code in grpc.StatusCode
        if code is not grpc.StatusCode.OK
    ),
    ((grpc.StatusCode.UNAVAILABLE, retry_info(3)), Retry("grpc_unavailable", 3.0)),
    ((grpc.StatusCode.UNAVAILABLE, retry_info()), Retry("grpc_unavailable")),
    ((EXHAUSTED, retry_info(1, 500_000_000)), Retry("grpc_resource_exhausted", 1.5, throttled=True)),
    ((EXHAUSTED, retry_info()), Retry("grpc_resource_exhausted", throttled=True)),
    ((EXHAUSTED, retry_info(3), TOO_LARGE[0]), Retry("grpc_resource_exhausted", 3.0, throttled=True)),
    ((EXHAUSTED, b"not a status"), Refused("grpc_resource_exhausted")),
    *(((EXHAUSTED, b"", message), TooLarge("grpc_resource_exhausted")) for message in TOO_LARGE),
    ((grpc.StatusCode.OUT_OF_RANGE, b"", TONIC), TooLarge("grpc_out_of_range")),
    ((EXHAUSTED, b"", "too many requests; this is larger than wanted"), Refused("grpc_resource_exhausted")),
    ((grpc.StatusCode.INVALID_ARGUMENT, b"", TOO_LARGE[0]), Refused("grpc_invalid_argument")),
    ((grpc.StatusCode.INVALID_ARGUMENT, retry_info(3)), Refused("grpc_invalid_argument")),
    ((grpc.StatusCode.UNAVAILABLE, retry_info(-3)), Retry("grpc_unavailable")),
    (rejected(-3), Delivered(0)),
    (b"x" * (1 << 20) + b"x", Refused("grpc_answer_too_large", divisible=False)),
]


async def test_every_grpc_answer_is_understood_and_the_sender_goes_on() -> None:
    async with scripted_grpc(*(answer for answer, _ in GRPC_ANSWERS)) as backend:
        outcomes = await answer_of(backend, "otlp", Signal.TRACES, len(GRPC_ANSWERS))
    for (answer, expected), outcome in zip(GRPC_ANSWERS, outcomes, strict=True):
        assert outcome == expected, (outcome.detail, answer)
    assert len(backend.bodies) == len(GRPC_ANSWERS), "grpc itself retries nothing"


HTTP_REQUESTS = [
    (
        {"type": "remote_write"},
        Signal.METRICS,
        "/push",
        cramjam.snappy.decompress_raw,
        {"content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0"},
    ),
    ({"type": "loki"}, Signal.LOGS, "/push", cramjam.snappy.decompress_raw, {"content-type": "application/x-protobuf"}),
    ({"type": "otlp", "protocol": "http"}, Signal.LOGS, "/push/v1/logs", bytes, {}),
    ({"type": "otlp", "protocol": "http", "compression": "gzip"}, Signal.TRACES, "/push/v1/traces", bytes, {}),
    (
        {"type": "loki", "bearer_token": "hush"},
        Signal.LOGS,
        "/push",
        cramjam.snappy.decompress_raw,
        {"authorization": "Bearer hush"},
    ),
    (
        {"type": "loki", "basic_auth": {"username": "me", "password": "pä:ss"}},
        Signal.LOGS,
        "/push",
        cramjam.snappy.decompress_raw,
        {"authorization": "Basic bWU6cMOkOnNz"},
    ),
    (
        {"type": "loki", "tenant_header": "X-Scope-OrgID", "headers": {"x-more": "1"}},
        Signal.LOGS,
        "/push",
        cramjam.snappy.decompress_raw,
        {"x-scope-orgid": "acme", "x-more": "1"},
    ),
]


@pytest.mark.parametrize(("settings", "signal", "path", "decoded", "headers"), HTTP_REQUESTS)
async def test_an_http_request_is_as_its_protocol_and_the_configuration_say(
    settings: dict[str, Any], signal: Signal, path: str, decoded: Any, headers: dict[str, str]
) -> None:
    async with scripted() as backend:
        kind = settings.pop("type")
        assert await answer_of(backend, kind, signal, **settings) == (Delivered(),)
        assert [bytes(decoded(body)) for body in backend.bodies] == [BODY]
        assert backend.paths == [path]
        assert headers.items() <= backend.headers[0].items()


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize(
    ("credential", "authorization"),
    [
        ({"bearer_token": "hush"}, "Bearer hush"),
        ({"basic_auth": {"username": "me", "password": "pä:ss"}}, "Basic bWU6cMOkOnNz"),
    ],
    ids=["bearer", "basic"],
)
async def test_a_grpc_request_is_as_the_configuration_says(
    compression: str, credential: dict[str, Any], authorization: str
) -> None:
    async with scripted_grpc() as backend:
        settings = {"tenant_header": "X-Scope-OrgID", "headers": {"X-More": "1"}, "compression": compression}
        assert await answer_of(backend, "otlp", Signal.METRICS, **settings, **credential) == (Delivered(),)
        assert backend.bodies == [BODY]
        assert backend.paths == ["/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"]
        wanted = {"x-scope-orgid": "acme", "x-more": "1", "authorization": authorization}
        assert wanted.items() <= backend.headers[0].items()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with {"http": scripted, "grpc": scripted_grpc}[protocol]() as backend:
        assert await answer_of(backend, "otlp", Signal.TRACES, protocol=protocol, timeout="3s") == (Delivered(),)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_tls_is_verified_both_ways(tmp_path: Path, protocol: str) -> None:
    authority = Authority(tmp_path)
    served, shown = authority.issue("backend"), authority.issue("gateway")
    server = ServerTls(cert_file=served.cert_file, key_file=served.key_file, client_ca_file=authority.file)
    trusted = {"ca_file": authority.file, "cert_file": shown.cert_file, "key_file": shown.key_file}
    unknown = {"cert_file": shown.cert_file, "key_file": shown.key_file}
    async with {"http": scripted, "grpc": scripted_grpc}[protocol](tls=server) as backend:

        async def outcome(tls: dict[str, Path]) -> Outcome:
            (found,) = await answer_of(backend, "otlp", Signal.TRACES, protocol=protocol, tls=tls, timeout="2s")
            return found

        assert await outcome(trusted) == Delivered()
        assert await outcome(unknown) == Retry({"http": "tls_error", "grpc": "grpc_unavailable"}[protocol])
        assert isinstance(await outcome({"ca_file": authority.file}), Retry), "a backend may want our certificate"
        assert len(backend.bodies) == 1
