"""What senders make of the answers of real backends, to requests that these cannot take."""

import os
from pathlib import Path

import pytest

from gateway.delivery.senders.outcome import Delivered, Held, Refused, Retry, TooLarge
from gateway.types import Signal
from tests.support.answer import answer
from tests.support.backends import Jaeger, Prometheus, VictoriaLogs, run_prometheus

GARBAGE = b"\x0a\xffgarbage"


async def test_prometheus(prometheus: Prometheus) -> None:
    write = {"type": "remote_write", "url": prometheus.write_url}
    assert await answer(Signal.METRICS, b"", **write) == Delivered()
    assert await answer(Signal.METRICS, GARBAGE, **write) == Refused("http_400")
    assert await answer(Signal.METRICS, os.urandom(40 << 20), **write) == TooLarge("http_413")
    elsewhere = {"type": "remote_write", "url": prometheus.url + "/write"}
    assert await answer(Signal.METRICS, b"", **elsewhere) == Held("http_404")
    otlp = {"type": "otlp", "endpoint": prometheus.url + "/api/v1/otlp", "protocol": "http"}
    for compression in ("none", "gzip", "zstd"):
        assert await answer(Signal.METRICS, b"", compression=compression, **otlp) == Delivered()
    grpc = await answer(Signal.METRICS, b"", type="otlp", endpoint=prometheus.url)
    assert grpc == Retry("grpc_unavailable")


async def test_prometheus_that_takes_no_remote_write_keeps_the_data_waiting(tmp_path: Path) -> None:
    with run_prometheus(tmp_path, receives=False) as prometheus:
        assert await answer(Signal.METRICS, b"", type="remote_write", url=prometheus.write_url) == Held("http_404")


async def test_victoria_logs(victoria_logs: VictoriaLogs) -> None:
    push = {"type": "loki", "url": victoria_logs.push_url}
    assert await answer(Signal.LOGS, b"", **push) == Delivered()
    assert await answer(Signal.LOGS, GARBAGE, **push) == Refused("http_400_partly_stored", divisible=False)
    assert await answer(Signal.LOGS, os.urandom(70 << 20), **push) == TooLarge("http_400")
    elsewhere = {"type": "loki", "url": victoria_logs.url + "/loki/api/v1/push"}
    assert await answer(Signal.LOGS, b"", **elsewhere) == Held("http_400")


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_jaeger_over_http(jaeger: Jaeger, compression: str) -> None:
    otlp = {"type": "otlp", "endpoint": jaeger.http, "protocol": "http", "compression": compression}
    assert await answer(Signal.TRACES, b"", **otlp) == Delivered()
    assert await answer(Signal.TRACES, GARBAGE, **otlp) == Refused("http_400")
    assert await answer(Signal.TRACES, os.urandom(30 << 20), **otlp) == TooLarge("http_400")
    assert await answer(Signal.METRICS, b"", **otlp) == Held("http_404")


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_jaeger_over_grpc(jaeger: Jaeger, compression: str) -> None:
    otlp = {"type": "otlp", "endpoint": jaeger.grpc, "compression": compression}
    assert await answer(Signal.TRACES, b"", **otlp) == Delivered()
    assert await answer(Signal.TRACES, GARBAGE, **otlp) == Refused("grpc_internal")
    assert await answer(Signal.TRACES, os.urandom(5 << 20), **otlp) == TooLarge("grpc_resource_exhausted")
    assert await answer(Signal.METRICS, b"", **otlp) == Held("grpc_unimplemented")
    wrong = {**otlp, "endpoint": jaeger.http}
    assert await answer(Signal.TRACES, b"", **wrong) == Retry("grpc_unavailable")
