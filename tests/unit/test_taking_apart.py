"""A refused request is taken apart until only what is at fault is lost."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import cramjam
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from gateway.config.models import Config
from gateway.delivery import courier
from gateway.delivery.delivery import Delivery
from gateway.sink.proto.remote_write_1_pb2 import WriteRequest
from gateway.types import Lane, Signal
from tests.support.scripted import Backend, scripted
from tests.support.small_engine import Batch, SmallEngine, until

LANE = Lane("acme", "backend", Signal.METRICS)


def series(*values: float, samples: int = 1) -> bytes:
    """One series a value, its samples all of that value."""
    request = WriteRequest()
    for index, value in enumerate(values):
        one = request.timeseries.add()
        one.labels.add(name="__name__", value=f"series_{index}")
        for number in range(samples):
            one.samples.add(value=value, timestamp=1_700_000_000_000 + number)
    return request.SerializeToString()


def values_in(body: bytes) -> list[float]:
    request = WriteRequest.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    return [sample.value for one in request.timeseries for sample in one.samples]


class Prometheus:
    """Takes a request whole or not at all."""

    def __init__(self, bad: Callable[[float], bool] = lambda _: False, max_bytes: int = 1 << 30) -> None:
        self.bad, self.max_bytes, self.stored = bad, max_bytes, list[float]()

    def judge(self, body: bytes) -> int:
        values = values_in(body)
        if len(bytes(cramjam.snappy.decompress_raw(body))) > self.max_bytes:
            return 413
        if any(map(self.bad, values)):
            return 400
        self.stored += values
        return 204

    def running(self) -> AbstractAsyncContextManager[Backend]:
        return scripted(judge=self.judge)


async def deliver(folder: Path, url: str, *batches: Batch) -> Any:
    backend = {"type": "remote_write", "url": url, "retry": {"initial": "10ms", "max": "20ms"}}
    settings = {
        "destinations": {"backend": backend},
        "queue": {"dir": str(folder / "queue"), "max_bytes": "64MiB"},
        "tenants": {"acme": {}},
    }
    engine = SmallEngine()
    delivery = await Delivery.open(Config.model_validate(settings), engine=engine)
    await delivery.start()
    engine.close_batches(batches)
    await until(lambda: len(engine.acked) == len(batches), 20)
    await until(lambda: delivery.counters()[LANE].queued == 0, 20)
    await delivery.drain(2.0)
    counters = delivery.counters()[LANE]
    assert counters.taken == counters.delivered + sum(counters.dropped.values())
    return counters


def metrics(number: int, payload: bytes, items: int) -> Batch:
    return Batch(number, payload, items=items, signal="metrics")


async def test_of_a_thousand_series_only_the_bad_one_is_lost(tmp_path: Path) -> None:
    prometheus = Prometheus(bad=lambda value: value == 777)
    async with prometheus.running() as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, series(*range(1000)), 1000))
    assert counters.dropped == {"http_400": 1}
    assert prometheus.stored == [value for value in range(1000) if value != 777], "in order, each once"
    assert len(backend.bodies) <= 22


async def test_of_one_series_only_the_bad_sample_is_lost(tmp_path: Path) -> None:
    request = WriteRequest.FromString(series(1, samples=64))
    request.timeseries[0].samples[40].value = 13
    prometheus = Prometheus(bad=lambda value: value == 13)
    async with prometheus.running() as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, request.SerializeToString(), 64))
    assert (counters.delivered, counters.dropped) == (63, {"http_400": 1})
    assert prometheus.stored == [1.0] * 63


async def test_of_several_batches_in_a_request_those_that_are_well_arrive_whole(tmp_path: Path) -> None:
    prometheus = Prometheus(bad=lambda value: value == 5)
    batches = [metrics(number, series(number * 2, number * 2 + 1), 2) for number in range(8)]
    async with prometheus.running() as backend:
        counters = await deliver(tmp_path, backend.url, *batches)
    assert counters.dropped == {"http_400": 1}
    assert prometheus.stored == [value for value in range(16) if value != 5]


async def test_what_is_too_large_is_sent_in_halves_and_the_next_ones_are_smaller(tmp_path: Path) -> None:
    prometheus = Prometheus(max_bytes=20_000)
    async with prometheus.running() as backend:
        counters = await deliver(
            tmp_path, backend.url, *(metrics(number, series(*range(1000)), 1000) for number in range(3))
        )
    assert (counters.delivered, counters.dropped) == (3000, {})
    assert prometheus.stored == list(range(1000)) * 3


async def test_a_single_item_that_is_too_large_is_dropped_by_name(tmp_path: Path) -> None:
    prometheus = Prometheus(max_bytes=10)
    async with prometheus.running() as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, series(1.0), 1))
    assert counters.dropped == {"http_413": 1}


async def test_a_backend_that_refuses_everything_is_not_asked_for_every_item(tmp_path: Path) -> None:
    prometheus = Prometheus(bad=lambda _: True)
    async with prometheus.running() as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, series(*range(2000)), 2000))
    assert counters.dropped == {"http_400": 2000}
    assert len(backend.bodies) <= 2 * courier.MAX_REFUSALS + 1


async def test_a_pause_in_the_middle_loses_and_repeats_nothing(tmp_path: Path) -> None:
    prometheus, answered = Prometheus(bad=lambda value: value == 77), 0

    def moody(body: bytes) -> int:
        nonlocal answered
        answered += 1
        return 503 if answered % 3 == 0 else prometheus.judge(body)

    async with scripted(judge=moody) as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, series(*range(100)), 100))
    assert counters.dropped == {"http_400": 1}
    assert prometheus.stored == [value for value in range(100) if value != 77]


async def test_what_cannot_be_read_is_dropped_whole(tmp_path: Path) -> None:
    async with scripted(judge=lambda _: 400) as backend:
        counters = await deliver(tmp_path, backend.url, metrics(1, b"\xff" * 50, 7))
    assert counters.dropped == {"http_400": 7}


async def test_log_records_are_taken_apart_as_well(tmp_path: Path) -> None:
    """Over OTLP; the engine's halves are shown for every format in test_halving.py."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number in range(50):
        records.add().body.string_value = f"record {number}"
    stored: list[str] = []

    def judge(body: bytes) -> int:
        logs = ExportLogsServiceRequest.FromString(body).resource_logs
        bodies = [
            record.body.string_value for logs_ in logs for scope in logs_.scope_logs for record in scope.log_records
        ]
        if "record 31" in bodies:
            return 400
        stored.extend(bodies)
        return 200

    async with scripted(judge=judge) as backend:
        engine = SmallEngine()
        settings = {
            "destinations": {"backend": {"type": "otlp", "endpoint": backend.url, "protocol": "http"}},
            "queue": {"dir": str(tmp_path / "queue")},
            "tenants": {"acme": {}},
        }
        delivery = await Delivery.open(Config.model_validate(settings), engine=engine)
        await delivery.start()
        engine.close_batch(Batch(1, request.SerializeToString(), items=50))
        lane = Lane("acme", "backend", Signal.LOGS)
        await until(lambda: engine.acked == [1] and delivery.counters()[lane].queued == 0)
        await delivery.drain(1.0)
        assert delivery.counters()[lane].dropped == {"http_400": 1}
    assert stored == [f"record {number}" for number in range(50) if number != 31]


async def test_the_log_does_not_name_every_item_that_is_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prometheus = Prometheus(bad=lambda _: True)
    async with prometheus.running() as backend:
        await deliver(tmp_path, backend.url, metrics(1, series(*range(500)), 500))
    assert capsys.readouterr().out.count("items are dropped") == 1
