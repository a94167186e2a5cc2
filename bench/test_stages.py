"""The engine's stages, each alone, on the payloads of `make bench`: microseconds a request of 512 items, one thread.

Run by `make bench`, or alone: pytest bench.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gateway._engine import Engine, compress
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
