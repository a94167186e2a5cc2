"""The sink understands what the gateway and others send, and complains where a real backend would refuse."""

import asyncio
import gzip
import json
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cramjam
import grpc
import pytest
from google.protobuf import json_format

from gateway.sink.proto import loki_push_pb2, remote_write_1_pb2, remote_write_2_pb2
from gateway.sink.received import Arrival, Received
from gateway.sink.server import Sink
from tests.support.clients import METHODS
from tests.support.payloads import BUILDERS, logs, metrics, traces
from tests.support.ports import free_port
from tests.support.processes import Process, wait_until

NOW_MS, NOW_NS = 1_790_000_000_000, 1_790_000_000_000_000_000
SNAPPY = {"content-encoding": "snappy"}
PROTOBUF = {"content-type": "application/x-protobuf"}
REMOTE_WRITE_2 = {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def running_sink() -> AsyncIterator[Sink]:
    sink = Sink()
    try:
        await sink.start()
        yield sink
    finally:
        await sink.stop()


async def post(sink: Sink, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    def send() -> tuple[int, dict[str, str]]:
        request = urllib.request.Request(sink.http_url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, dict(error.headers)

    return await asyncio.to_thread(send)


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def remote_write_1(*labels: tuple[str, str], timestamp: int = NOW_MS) -> bytes:
    request = remote_write_1_pb2.WriteRequest()
    series = request.timeseries.add()
    for name, value in labels:
        series.labels.add(name=name, value=value)
    series.samples.add(value=1.5, timestamp=timestamp)
    return request.SerializeToString()


def remote_write_2(symbols: list[str], references: list[int]) -> bytes:
    request = remote_write_2_pb2.Request(symbols=symbols)
    series = request.timeseries.add(labels_refs=references)
    series.samples.add(value=2, timestamp=NOW_MS)
    series.exemplars.add(value=1, timestamp=NOW_MS)
    return request.SerializeToString()


# Where a secret can stand in remote write: every place that holds text.
HIDING_1 = ["label name", "label value", "exemplar", "exemplar of no sample", "help", "unit", "family"]
HIDING_2 = ["label value", "exemplar", "exemplar of no sample", "help", "unit", "unused symbol"]


def hiding_1(place: str) -> bytes:
    def text(here: str, otherwise: str = "x") -> str:
        return "a needle" if here == place else otherwise

    request = remote_write_1_pb2.WriteRequest()
    request.metadata.add(metric_family_name=text("family"), help=text("help"), unit=text("unit"))
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="up")
    series.labels.add(name=text("label name"), value=text("label value"))
    if place != "exemplar of no sample":
        series.samples.add(value=1, timestamp=NOW_MS)
    series.exemplars.add(value=1, timestamp=NOW_MS).labels.add(
        name="trace_id", value="a needle" if "exemplar" in place else "x"
    )
    return request.SerializeToString()


def hiding_2(place: str) -> bytes:
    symbols = ["", "__name__", "up", "a", "x", "a needle"]
    request = remote_write_2_pb2.Request(symbols=symbols)
    series = request.timeseries.add(labels_refs=[1, 2, 3, 5 if place == "label value" else 4])
    if place != "exemplar of no sample":
        series.samples.add(value=1, timestamp=NOW_MS)
    series.exemplars.add(value=1, timestamp=NOW_MS, labels_refs=[3, 5 if "exemplar" in place else 4])
    series.metadata.help_ref, series.metadata.unit_ref = 5 if place == "help" else 4, 5 if place == "unit" else 4
    return request.SerializeToString()


def loki(labels: str, *offsets_ns: int) -> bytes:
    request = loki_push_pb2.PushRequest()
    stream = request.streams.add(labels=labels)
    for offset in offsets_ns:
        entry = stream.entries.add(line=f"line {offset}")
        entry.timestamp.FromNanoseconds(NOW_NS + offset)
        entry.structuredMetadata.add(name="trace_id", value="abc")
    return request.SerializeToString()


def only(received: Received) -> tuple[str, str, str]:
    (arrival,) = received.kept
    return arrival.kind, arrival.tenant, arrival.line


async def test_remote_write_1_is_decoded() -> None:
    async with running_sink() as sink:
        body = remote_write_1(("__name__", "up"), ("job", "shop"), ("tenant", "acme"))
        assert (await post(sink, "/api/v1/write", snappy(body), SNAPPY))[0] == 204
        assert only(sink.received) == ("sample", "acme", f"up{{job='shop', tenant='acme'}} 1.5 @{NOW_MS}")
        assert not sink.received.violations


async def test_remote_write_2_is_decoded_and_answered_with_what_was_written() -> None:
    async with running_sink() as sink:
        body = remote_write_2(["", "__name__", "up", "job", "shop"], [1, 2, 3, 4])
        headers = {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "X-Scope-OrgID": "a"}
        status, answer = await post(sink, "/api/v1/write", snappy(body), headers)
        assert status == 204
        assert answer["X-Prometheus-Remote-Write-Samples-Written"] == "1"
        assert answer["X-Prometheus-Remote-Write-Exemplars-Written"] == "1"
        assert only(sink.received) == ("sample", "a", f"up{{job='shop'}} 2 @{NOW_MS}")
        assert sink.received.requests == {"remote_write_2": 1}


@pytest.mark.parametrize("schema", [3, -53])
async def test_native_histograms_are_counted_in_both_versions(schema: int) -> None:
    one, two = remote_write_1_pb2.WriteRequest(), remote_write_2_pb2.Request(symbols=["", "__name__", "latency"])
    first, second = one.timeseries.add(), two.timeseries.add(labels_refs=[1, 2])
    first.labels.add(name="__name__", value="latency")
    for series in (first, second):
        series.histograms.add(count_int=7, sum=2.5, schema=schema, timestamp=NOW_MS, positive_deltas=[1, -1])
        series.histograms.add(count_float=7, sum=2.5, schema=schema, timestamp=NOW_MS)
    for request, content_type in ((one, {}), (two, REMOTE_WRITE_2)):
        async with running_sink() as sink:
            body = snappy(request.SerializeToString())
            status, answer = await post(sink, "/api/v1/write", body, {**content_type, "X-Scope-OrgID": "acme"})
            assert status == 204
            assert sink.received.counts == {("histogram", "acme"): 2}
            assert {a.line for a in sink.received.kept} == {f"latency{{}} count=7 sum=2.5 schema={schema} @{NOW_MS}"}
            assert not sink.received.violations
    assert answer["X-Prometheus-Remote-Write-Histograms-Written"] == "2"
    assert answer["X-Prometheus-Remote-Write-Samples-Written"] == "0"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        *(pytest.param(hiding_1(place), {}, id=f"1-{place}") for place in HIDING_1),
        *(pytest.param(hiding_2(place), REMOTE_WRITE_2, id=f"2-{place}") for place in HIDING_2),
    ],
)
async def test_a_planted_secret_is_found_wherever_remote_write_holds_text(
    body: bytes, content_type: dict[str, str]
) -> None:
    async with running_sink() as sink:
        assert (await post(sink, "/api/v1/write", snappy(body), {**SNAPPY, **content_type}))[0] == 204
        assert sink.received.places("needle")
        assert sum(sink.received.counts.values()) <= 1, "text beside samples is searched, not counted"


async def test_loki_is_decoded() -> None:
    async with running_sink() as sink:
        body = loki('{service="a, \\"b\\"", tenant="acme"}', 0)
        assert (await post(sink, "/loki/api/v1/push", snappy(body), PROTOBUF))[0] == 204
        assert only(sink.received) == ("log", "acme", '{service="a, \\"b\\"", tenant="acme"} line 0')
        assert len(sink.received.places("abc")) == 1, "structured metadata is searched"
        assert not sink.received.violations


OTLP = {
    "traces": (traces(name="GET /", tenant="acme"), "span"),
    "metrics": (metrics(name="orders", tenant="acme"), "sample"),
    "logs": (logs(body="hello", tenant="acme"), "log"),
}
OTLP_ENCODINGS: dict[str, tuple[dict[str, str], Any]] = {
    "identity": ({}, bytes),
    "gzip": ({"content-encoding": "gzip"}, gzip.compress),
    "zstd": ({"content-encoding": "zstd"}, lambda body: bytes(cramjam.zstd.compress(body))),
}


@pytest.mark.parametrize("signal", OTLP)
@pytest.mark.parametrize(("headers", "pack"), OTLP_ENCODINGS.values(), ids=OTLP_ENCODINGS)
async def test_otlp_over_http_is_decoded(signal: str, headers: dict[str, str], pack: Any) -> None:
    request, kind = OTLP[signal]
    async with running_sink() as sink:
        body = pack(request.SerializeToString())
        assert (await post(sink, f"/v1/{signal}", body, {**PROTOBUF, **headers}))[0] == 200
        assert only(sink.received)[:2] == (kind, "acme")
        assert sink.received.places("shop"), "the resource is searched"


async def test_otlp_json_is_decoded_with_its_hexadecimal_ids() -> None:
    async with running_sink() as sink:
        body = json.dumps({
            "resourceSpans": [{"scopeSpans": [{"spans": [
                {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "GET /"}
            ]}]}]
        }).encode()  # fmt: skip
        assert (await post(sink, "/v1/traces", body, JSON))[0] == 200
        assert "trace=5b8efff798038103d269b633813fc60c" in only(sink.received)[2]
        assert not sink.received.violations
        logged = json_format.MessageToJson(logs(body="hello")).encode()
        assert (await post(sink, "/v1/logs", logged, JSON))[0] == 200


@pytest.mark.parametrize("signal", OTLP)
async def test_otlp_over_grpc_is_decoded(signal: str) -> None:
    async with running_sink() as sink, grpc.aio.insecure_channel(f"127.0.0.1:{sink.grpc_port}") as channel:
        export = channel.unary_unary(METHODS[signal])
        payload = BUILDERS[signal](3).SerializeToString()
        assert await export(payload, metadata=(("x-scope-orgid", "globex"),), timeout=30) == b""
        assert sink.received.counts == {(OTLP[signal][1], "globex"): 3}
        with pytest.raises(grpc.aio.AioRpcError):
            await export(b"\xff", timeout=30)


VIOLATIONS = {
    "unsorted": (remote_write_1(("__name__", "up"), ("b", "1"), ("a", "1")), "labels are not sorted and unique"),
    "twice": (remote_write_1(("__name__", "up"), ("a", "1"), ("a", "2")), "labels are not sorted and unique"),
    "nameless": (remote_write_1(("job", "shop")), "a series has no __name__"),
    "empty": (remote_write_1(("__name__", "up"), ("job", "")), "a label is empty"),
    "timeless histogram": (
        remote_write_1_pb2.WriteRequest(
            timeseries=[
                remote_write_1_pb2.TimeSeries(
                    labels=[remote_write_1_pb2.Label(name="__name__", value="up")],
                    histograms=[remote_write_1_pb2.Histogram(count_int=1)],
                )
            ]
        ).SerializeToString(),
        "a sample has no timestamp",
    ),
    "timeless": (remote_write_1(("__name__", "up"), timestamp=0), "a sample has no timestamp"),
}


@pytest.mark.parametrize(("body", "complaint"), VIOLATIONS.values(), ids=VIOLATIONS)
async def test_what_prometheus_would_refuse_is_a_violation(body: bytes, complaint: str) -> None:
    async with running_sink() as sink:
        await post(sink, "/api/v1/write", snappy(body), SNAPPY)
        assert any(complaint in violation for violation in sink.received.violations)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (loki("{service=shop}", 0), "stream labels do not parse"),
        (loki("{}", 0), "stream labels do not parse"),
        (loki('{service="shop"}', 5, 3), "out of order"),
    ],
)
async def test_what_loki_would_refuse_is_a_violation(body: bytes, complaint: str) -> None:
    async with running_sink() as sink:
        await post(sink, "/loki/api/v1/push", snappy(body), PROTOBUF)
        assert any(complaint in violation for violation in sink.received.violations)


UNREADABLE = [
    ("/api/v1/write", b"not snappy", SNAPPY),
    ("/api/v1/write", snappy(b"\xff not protobuf"), SNAPPY),
    (
        "/api/v1/write",
        snappy(remote_write_2([""], [7, 8])),
        {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
    ),
    ("/loki/api/v1/push", b"not snappy", PROTOBUF),
    ("/loki/api/v1/push", snappy(b"\xff not protobuf"), PROTOBUF),
    ("/v1/traces", b"\xff", PROTOBUF),
    ("/v1/traces", b"not gzip", {**PROTOBUF, "content-encoding": "gzip"}),
    ("/v1/traces", b"x", {**PROTOBUF, "content-encoding": "br"}),
    ("/v1/traces", b"{", JSON),
    ("/v1/traces", b"[]", JSON),
    ("/v1/traces", b'{"resourceSpans": 3}', JSON),
    ("/v1/traces", b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}', JSON),
    ("/v1/traces", b"\xff", JSON),
]


@pytest.mark.parametrize(("path", "body", "headers"), UNREADABLE)
async def test_what_cannot_be_read_is_a_400_and_a_violation(path: str, body: bytes, headers: dict[str, str]) -> None:
    async with running_sink() as sink:
        assert (await post(sink, path, body, headers))[0] == 400
        assert len(sink.received.violations) == 1
        assert not sink.received.kept


async def test_an_outage_ends_on_the_same_ports() -> None:
    async with running_sink() as sink:
        await sink.pause()
        with pytest.raises(urllib.error.URLError):
            await post(sink, "/v1/traces", b"", PROTOBUF)
        await sink.resume()
        assert (await post(sink, "/v1/traces", b"", PROTOBUF))[0] == 200


def test_what_arrives_is_shown_and_stored_at_once_and_survives_kill_9(tmp_path: Path) -> None:
    store, port = tmp_path / "received.jsonl", free_port()
    command = [sys.executable, "-m", "gateway", "sink", "--http-port", str(port), "--grpc-port", "0", "--store", store]
    process = Process([str(part) for part in command], log=tmp_path / "sink.log")
    try:
        process.wait_ready(lambda: f"receiving on http://127.0.0.1:{port}" in process.output())
        body = logs(body="hello", tenant="acme").SerializeToString()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/logs", body, PROTOBUF)
        urllib.request.urlopen(request, timeout=30).close()
        wait_until(lambda: "acme         log       INFO hello" in process.output(), "the line")
    finally:
        process.kill()
    stored = json.loads(store.read_text())
    assert (stored["kind"], stored["tenant"], stored["line"]) == ("log", "acme", "INFO hello")


def test_only_the_last_arrivals_are_kept_but_all_are_counted() -> None:
    received = Received(max_kept=2)
    for number in range(5):
        received.add(Arrival("log", "acme", str(number), f"needle {number}"))
    assert [arrival.line for arrival in received.kept] == ["3", "4"]
    assert received.counts["log", "acme"] == 5
    assert received.places("needle 4") == ["log of acme: 4"]
    assert received.places("needle 0") == []
