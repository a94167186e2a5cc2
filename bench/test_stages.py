"""The engine's stages, each alone, on the payloads of `make bench`: microseconds a request of 512 items, one thread.

Run by `make bench`, or alone: pytest bench.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gateway._engine import Engine, compress, merge_streams
from gateway.config.models import Config
from gateway.policy.compiler import compile_table
from gateway.send import payloads

ITEMS = 512
Signal = Literal["traces", "metrics", "logs"]


@dataclass(frozen=True)
class Stage:
    """A stage of a signal's path, and the stages that its input has passed."""

    signal: Signal
    name: str
    before: tuple[str, ...] = ()


STAGES = (
    Stage("traces", "mask"),
    Stage("traces", "relabel", ("mask",)),
    Stage("traces", "sample", ("mask", "relabel")),
    Stage("traces", "otlp_json", ("mask", "relabel")),
    Stage("logs", "mask"),
    Stage("logs", "relabel", ("mask",)),
    Stage("logs", "loki", ("mask", "relabel")),
    Stage("metrics", "mask"),
    Stage("metrics", "relabel", ("mask",)),
    Stage("metrics", "prometheus", ("mask", "relabel")),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    config = Config.model_validate(
        {
            "destinations": {
                "loki": {"type": "loki", "url": "http://127.0.0.1:9/push"},
                "prometheus": {"type": "remote_write", "url": "http://127.0.0.1:9/write"},
                "otlp_json": {"type": "file", "path": "unused"},
            },
            "defaults": {
                "routes": {"traces": ["otlp_json"], "logs": ["loki"], "metrics": ["prometheus"]},
                "mask": {"detectors": "default"},
                "relabel": {"resource": [{"target_label": "deployment", "replacement": "bench"}]},
                "sample": {"traces": {"ratio": 0.5}},
            },
            "tenants": {"acme": {}},
        }
    )
    engine = Engine(threads=1, max_request_bytes=1 << 26, max_inflight_bytes=1 << 28, max_connections=1)
    engine.apply(compile_table(config, 1))
    yield engine
    engine.stop()


def request_of(signal: Signal) -> bytes:
    builders = {"traces": payloads.traces, "logs": payloads.logs, "metrics": payloads.metrics}
    return builders[signal](ITEMS).SerializeToString()


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.signal}-{stage.name}")
def test_stage(benchmark: BenchmarkFixture, engine: Engine, stage: Stage) -> None:
    request = engine.trial("acme", stage.signal, request_of(stage.signal), stage.before)
    payload = benchmark(engine.trial, "acme", stage.signal, request, [stage.name])
    assert payload


@pytest.mark.parametrize("codec", ["snappy", "gzip", "zstd"])
def test_compression(benchmark: BenchmarkFixture, engine: Engine, codec: Literal["snappy", "gzip", "zstd"]) -> None:
    payload = engine.trial("acme", "logs", request_of("logs"), ["mask", "relabel", "loki"])
    assert len(benchmark(compress, codec, [payload])) < len(payload)


def test_joined_pushes(benchmark: BenchmarkFixture, engine: Engine) -> None:
    """A megabyte of requests that bring the same stream, the latest first."""
    push = engine.trial("acme", "logs", request_of("logs"), ["mask", "relabel", "loki"])
    later = engine.trial("acme", "logs", request_of("logs"), ["mask", "relabel", "loki"])
    parts = [later, push] * ((1 << 19) // len(push))
    merged = benchmark(merge_streams, parts)
    assert merged is not None
    assert len(merged) < sum(map(len, parts))


def test_json_log_lines(benchmark: BenchmarkFixture, engine: Engine) -> None:
    """What `log_form: keep` makes of bodies that are JSON log lines."""
    request = payloads.logs(ITEMS)
    for index, record in enumerate(request.resource_logs[0].scope_logs[0].log_records):
        line = {
            "timestamp": "2026-03-01T10:00:00.25Z",
            "level": "info",
            "service": "checkout",
            "request_id": f"{index:032x}",
            "message": f"order {index} was paid by invoice, took 12 ms",
            "metadata": {"order": {"id": index, "total": 12.5}, "attempts": 1},
        }
        record.body.string_value = json.dumps(line)
    assert b"order_total" in benchmark(engine.trial, "acme", "logs", request.SerializeToString(), ["loki"])
